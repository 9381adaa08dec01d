"""DRBD in userspace: two nodes keep one block device identical, write by write."""

__version__ = "0.1.0"
