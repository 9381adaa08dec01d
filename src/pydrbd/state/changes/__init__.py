"""State changes that need both nodes: ours that the peer grants, and the peer's that we grant."""
