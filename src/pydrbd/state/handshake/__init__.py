"""The handshake: what is checked, what is compared, what is decided, and the order in which it is said."""
