"""How large the areas are that a thin resync discards: `rs-discard-granularity`, made to fit the disk.

As in 8.4 the value is rounded up to what the disk can discard, and is never more than the largest block of a resync. A
disk that cannot discard gets zeroes instead (csrc/disk/disk.c): what is read is the same, so nothing depends on what
the kernel tells here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

BLOCK_BYTES = 4096
"""One bit of the bitmap: nothing smaller is resynced."""
LARGEST_BYTES = 1 << 20
SECTOR_BYTES = 512
SYS = Path("/sys/dev/block")


def rs_discard_sectors(wanted_bytes: int, disk: Path, sys: Path = SYS) -> int:
    """Return the size of an area in sectors; 0: no area is discarded."""
    if wanted_bytes == 0:
        return 0
    unit = -(-granularity_bytes(disk, sys) // BLOCK_BYTES) * BLOCK_BYTES
    whole = -(-wanted_bytes // unit) * unit
    if whole > LARGEST_BYTES:
        whole = LARGEST_BYTES // unit * unit or LARGEST_BYTES
    return whole // SECTOR_BYTES


def granularity_bytes(disk: Path, sys: Path = SYS) -> int:
    """Return what the disk can discard at once, in bytes: a block device's own word, else a block."""
    try:
        about = disk.stat()
        if not stat.S_ISBLK(about.st_mode):
            return BLOCK_BYTES
        place = (sys / f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}").resolve()
        # A partition has no queue of its own: it stands in the folder of its disk.
        queue = next(each / "queue" for each in (place, place.parent) if (each / "queue").is_dir())
        return max(int((queue / "discard_granularity").read_text(encoding="ascii")), BLOCK_BYTES)
    except (OSError, ValueError, StopIteration):
        return BLOCK_BYTES
