"""The kernel's side of a resource: the block device that applications open, one file per way to make one."""
