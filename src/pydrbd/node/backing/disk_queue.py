"""What the kernel tells of a disk's queue: /sys/dev/block/.../queue (Documentation/ABI/stable/sysfs-block)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SYS = Path("/sys/dev/block")
SMALLEST_BYTES = 512
LARGEST_BYTES = 1 << 16
"""No block is larger: NBD's limit, and Linux's."""


def attribute(number: int, name: str, sys: Path = SYS) -> int:
    """Return a number that the queue of the block device `number` (as of `stat`) has. Raise `OSError`, `ValueError`."""
    place = (sys / f"{os.major(number)}:{os.minor(number)}").resolve()
    # A partition has no queue of its own: it stands in the folder of its disk.
    for each in (place, place.parent):
        if (each / "queue").is_dir():
            return int((each / "queue" / name).read_text(encoding="ascii"))
    raise FileNotFoundError(f"{place} has no queue")


def logical_block_bytes(disk: Path, sys: Path = SYS) -> int:
    """Return the smallest request that the disk takes; a file's disk is the one below its file system."""
    try:
        about = disk.stat()
        found = attribute(about.st_rdev if stat.S_ISBLK(about.st_mode) else about.st_dev, "logical_block_size", sys)
    except (OSError, ValueError):
        return SMALLEST_BYTES
    return min(max(found, SMALLEST_BYTES), LARGEST_BYTES)
