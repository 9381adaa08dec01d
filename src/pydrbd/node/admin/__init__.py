"""What a user can ask of the daemon: the admin socket, its verbs, and the status that they show."""
