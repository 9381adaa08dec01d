"""How large the areas are that a thin resync discards: `rs-discard-granularity`, made to fit the disk.

As in 8.4 the value is rounded up to what the disk can discard, and is never more than the largest block of a resync. A
disk that cannot discard gets zeroes instead (csrc/disk/disk.c): what is read is the same, so nothing depends on what
the kernel tells here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pydrbd.node.backing.disk_queue import SYS, attribute

BLOCK_BYTES = 4096
"""One bit of the bitmap: nothing smaller is resynced."""
LARGEST_BYTES = 1 << 20
SECTOR_BYTES = 512


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
        return (
            max(attribute(about.st_rdev, "discard_granularity", sys), BLOCK_BYTES) if _is_device(about) else BLOCK_BYTES
        )
    except (OSError, ValueError):
        return BLOCK_BYTES


def _is_device(about: os.stat_result) -> bool:
    return stat.S_ISBLK(about.st_mode)
