"""The way to the peer, up to where the engine takes over: sockets, the first packets, authentication."""
