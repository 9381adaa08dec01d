"""The demonstration: two nodes on this machine, one of them killed in the middle of writing, and nothing lost."""
