"""Beside the host's kernel: the device that it sees, who takes it over, memory that it may not take from us."""
