"""The daemon of one resource: does what the rules order. Sockets, files, timers and processes live here."""
