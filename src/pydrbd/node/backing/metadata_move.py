"""Internal metadata moves to the disk's new end, in an order that a power cut at any point survives.

    1  zeros over the superblock's new place, durable      what lay there before is never taken for ours
    2  activity log and bitmap at the new place, durable   a copy, byte for byte; the rest of the new bitmap is zero
    3  the superblock at the new place, durable            from here on the new place is in force
    4  zeros over the old superblock, durable              there is one again
    5  the known size, in the state directory              where to look next time

Nobody writes to the metadata meanwhile, so that both places hold the same until 4. Cut before 3, the old place is whole
and the new one has no superblock; after 3 the new one is whole. Who opens the disk looks at its end first, and at the
place that the known size names if there is nothing (`find`). The two places never overlap: a disk that has grown by
less than its metadata takes keeps it where it is.

8.4 keeps the same known size, in `/var/lib/drbd/drbd-minor-N.lkbd` (drbdmeta's `check-resize`), and wipes last, too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydrbd.node.backing.folder import flush_folder
from pydrbd.ondisk import superblock
from pydrbd.ondisk.errors import DiskTooSmallError, OnDiskError
from pydrbd.ondisk.layout import BLOCK_BYTES, Layout, MetaKind, superblock_offset
from pydrbd.ondisk.superblock import Superblock

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_LINES = re.compile(r"bd_size:\s*(\d+);\s*bd_uuid:\s*0x([0-9A-Fa-f]{1,16});")


class Disk(Protocol):
    """What of `BackingDisk` is needed here."""

    path: Path
    size_bytes: int

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return so many bytes."""

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole blocks."""

    def flush(self) -> None:
        """Make them durable."""


@dataclass(frozen=True, slots=True)
class KnownSize:
    """How large the disk was when its metadata was last seen at its end, and whose metadata that was."""

    size_bytes: int
    device_uuid: int

    @classmethod
    def load(cls, path: Path | None) -> KnownSize | None:
        """Return what is recorded; None if nothing is, or nothing that makes sense."""
        if path is None:
            return None
        try:
            found = _LINES.search(path.read_text(encoding="ascii", errors="replace"))
        except OSError:
            return None
        return cls(int(found[1]), int(found[2], 16)) if found else None

    def save(self, path: Path | None, disk: Path) -> None:
        """Record it, whole or not at all. It is only a help: a failure is a warning."""
        if path is None or KnownSize.load(path) == self:
            return
        text = f'bd_size:\t{self.size_bytes};\nbd_uuid:\t0x{self.device_uuid:016X};\nbd_name:\t"{disk}";\n'
        new = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            with new.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
            flush_folder(path.parent)
        except OSError as error:
            log.warning("%s cannot be written: %s; grow the disk only while it is attached", path, error.strerror)


def forget(path: Path | None) -> None:
    """Forget where the metadata was: there is none any more."""
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def find(disk: Disk, known: KnownSize | None) -> tuple[Superblock, int]:
    """Return the superblock of internal metadata, and how large the disk was when it was written there.

    The end of the disk counts if it has one; what lies there of another device is passed over when the known size leads
    to our own. Raise an `OnDiskError`.
    """
    at_end: Superblock | OnDiskError
    try:
        at_end = _superblock_at(disk, disk.size_bytes)
    except OnDiskError as error:
        at_end = error
    ours = isinstance(at_end, Superblock) and (known is None or at_end.device_uuid == known.device_uuid)
    if not ours and known is not None and known.size_bytes < disk.size_bytes:
        with contextlib.suppress(OnDiskError):
            before = _superblock_at(disk, known.size_bytes)
            if before.device_uuid == known.device_uuid:
                return before, known.size_bytes
    if isinstance(at_end, OnDiskError):
        raise at_end
    return at_end, disk.size_bytes


def _superblock_at(disk: Disk, size_bytes: int) -> Superblock:
    at_bytes = superblock_offset(MetaKind.INTERNAL, size_bytes)
    return superblock.parse(disk.read(at_bytes, BLOCK_BYTES))


def require_apart(old: Layout, new: Layout) -> None:
    """Raise `DiskTooSmallError` if the two places overlap."""
    if new.first_byte < old.end_byte and old.first_byte < new.end_byte:
        kib = (new.end_byte - new.first_byte) // 1024
        raise DiskTooSmallError(
            f"the metadata cannot move by less than the {kib} KiB that it takes: change the disk's size by more"
        )


def copy(disk: Disk, old: Layout, new: Layout, found: Superblock) -> Superblock:
    """Do steps 1 to 3; return the superblock that is in force then. Raise an `OnDiskError`."""
    require_apart(old, new)
    disk.write(new.superblock_offset_bytes, bytes(BLOCK_BYTES))
    disk.flush()
    disk.write(new.al_offset_bytes, disk.read(old.al_offset_bytes, old.al_blocks * BLOCK_BYTES))
    for start in range(0, new.bm_bytes, _CHUNK_BYTES):
        size_bytes = min(_CHUNK_BYTES, new.bm_bytes - start)
        part = disk.read(old.bm_offset_bytes + start, max(0, min(size_bytes, old.bm_bytes - start)))
        disk.write(new.bm_offset_bytes + start, part + bytes(size_bytes - len(part)))
    disk.flush()
    moved = replace(
        found,
        md_size_sectors=new.md_size_sectors,
        al_offset_sectors=new.al_offset_sectors,
        bm_offset_sectors=new.bm_offset_sectors,
    )
    disk.write(new.superblock_offset_bytes, superblock.serialise(moved))
    disk.flush()
    return moved


def wipe(disk: Disk, old: Layout) -> None:
    """Do step 4."""
    disk.write(old.superblock_offset_bytes, bytes(BLOCK_BYTES))
    disk.flush()


def wipe_left_over(disk: Disk, known: KnownSize | None, found: Superblock) -> None:
    """Do step 4 of a move that was cut short: the metadata is at the end, and the known size names another place.

    Only what is our own, and behind the end of the device: applications write there once it has grown.
    """
    if known is None or known.size_bytes == disk.size_bytes or known.size_bytes > disk.size_bytes:
        return
    at_bytes = superblock_offset(MetaKind.INTERNAL, known.size_bytes)
    if at_bytes // 512 < found.agreed_sectors:
        return
    with contextlib.suppress(OnDiskError):
        if _superblock_at(disk, known.size_bytes).device_uuid == found.device_uuid:
            disk.write(at_bytes, bytes(BLOCK_BYTES))
            disk.flush()
