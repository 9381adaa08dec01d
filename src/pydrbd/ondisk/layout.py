"""Where superblock, activity log and bitmap live, and how large a device they leave (DRBD 8.4's arithmetic).

    internal   [ data ............ ][ bitmap ][ activity log ][ superblock ]   end of the backing disk
    flexible   [ superblock ][ activity log ][ bitmap ........ ]               a whole device or file of its own
    indexed    the same in slot n, 128 MiB each, of a device that several resources share

Internal: the superblock is the last aligned 4 KiB block, the bitmap has room for the whole backing disk (not merely for
what it leaves), in whole 4 KiB blocks, 128 MiB of disk each. Knows sizes and offsets only; a `sector` is 512 bytes.
Source: drbd 8.4.11 `drbd_md_set_sector_offsets`, `drbd_get_max_capacity`; drbd-utils `re_initialize_md_offsets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from pydrbd.ondisk.errors import DiskTooSmallError

SECTOR_BYTES = 512
BLOCK_BYTES = 4096
BLOCK_SECTORS = BLOCK_BYTES // SECTOR_BYTES
BYTES_PER_BIT = 4096
SECTORS_PER_BITMAP_SECTOR = SECTOR_BYTES * 8 * (BYTES_PER_BIT // SECTOR_BYTES)
SLOT_SECTORS = 128 * 1024 * 1024 // SECTOR_BYTES

DEFAULT_AL_STRIPES = 1
DEFAULT_AL_STRIPE_SIZE_4K = 8
MIN_AL_BLOCKS = 8
MAX_AL_BLOCKS = 16 * 1024 * 1024 // 4
"""8.4's own bound: 16 GiB of activity log."""

MAX_DEVICE_SECTORS = 1 << 41
"""1 PiB: what 8.4 supports (2**38 bits)."""


class MetaKind(Enum):
    """How the metadata is kept (`meta-disk`)."""

    INTERNAL = "internal"
    FLEXIBLE = "flexible"
    INDEXED = "indexed"


@dataclass(frozen=True, slots=True)
class Layout:
    """The places, in bytes from the start of the metadata device, and what they allow.

    `al_offset_sectors` and `bm_offset_sectors` are relative to the superblock, as the superblock records them; both
    are negative for internal metadata. `bm_bytes` is the room for the bitmap. `max_sectors` is the largest device that
    the room, and for internal metadata the place itself, allows; the backing disk's own size bounds it if it was given.
    """

    kind: MetaKind
    superblock_offset_bytes: int
    al_offset_bytes: int
    bm_offset_bytes: int
    bm_bytes: int
    al_offset_sectors: int
    bm_offset_sectors: int
    md_size_sectors: int
    al_stripes: int
    al_stripe_size_4k: int
    max_sectors: int

    @property
    def al_blocks(self) -> int:
        """Return the number of 4 KiB transaction slots in the ring."""
        return self.al_stripes * self.al_stripe_size_4k

    @property
    def first_byte(self) -> int:
        """Return the first byte of the metadata area."""
        return min(self.superblock_offset_bytes, self.bm_offset_bytes)

    @property
    def end_byte(self) -> int:
        """Return the first byte behind the metadata area."""
        return self.first_byte + self.md_size_sectors * SECTOR_BYTES


def bitmap_bytes(device_sectors: int) -> int:
    """Return the bytes of bitmap that a device takes on disk: one bit per 4 KiB, in whole 4 KiB blocks."""
    blocks_of_disk = -(-device_sectors // (SECTORS_PER_BITMAP_SECTOR * BLOCK_SECTORS))
    return blocks_of_disk * BLOCK_BYTES


def flexible_bytes(device_sectors: int, al_blocks: int = MIN_AL_BLOCKS) -> int:
    """Return the size that an external flexible metadata device or file needs for a device."""
    return BLOCK_BYTES + al_blocks * BLOCK_BYTES + bitmap_bytes(device_sectors)


def superblock_offset(kind: MetaKind, md_device_bytes: int, index: int = 0) -> int:
    """Return the byte offset of the superblock; raise `DiskTooSmallError` if the device cannot hold it there."""
    match kind:
        case MetaKind.INTERNAL:
            offset_bytes = (md_device_bytes & ~(BLOCK_BYTES - 1)) - BLOCK_BYTES
        case MetaKind.FLEXIBLE:
            offset_bytes = 0
        case MetaKind.INDEXED:
            offset_bytes = index * SLOT_SECTORS * SECTOR_BYTES
        case _:
            assert_never(kind)
    if offset_bytes < 0 or offset_bytes + BLOCK_BYTES > md_device_bytes:
        raise DiskTooSmallError(
            f"the metadata does not fit: the superblock would stand at byte {max(offset_bytes, 0)}"
            f" of a device of {md_device_bytes} bytes"
        )
    return offset_bytes


def layout_for(
    kind: MetaKind,
    md_device_bytes: int,
    *,
    backing_bytes: int | None = None,
    index: int = 0,
    al_stripes: int = DEFAULT_AL_STRIPES,
    al_stripe_size_4k: int = DEFAULT_AL_STRIPE_SIZE_4K,
) -> Layout:
    """Return the layout that `create-md` makes on a device of this size.

    Internal metadata: `md_device_bytes` is the backing disk's. External: `backing_bytes`, if known, bounds
    `max_sectors`. Raise `DiskTooSmallError` if no data or no bitmap has room.
    """
    check_stripes(al_stripes, al_stripe_size_4k)
    al_sectors = al_stripes * al_stripe_size_4k * BLOCK_SECTORS
    at_bytes = superblock_offset(kind, md_device_bytes, index)
    device_sectors = md_device_bytes // SECTOR_BYTES
    match kind:
        case MetaKind.INTERNAL:
            bitmap_sectors = bitmap_bytes(device_sectors) // SECTOR_BYTES
            md_size_sectors = bitmap_sectors + al_sectors + BLOCK_SECTORS
            al_offset, bm_offset = -al_sectors, -(md_size_sectors - BLOCK_SECTORS)
        case MetaKind.FLEXIBLE:
            md_size_sectors = device_sectors
            al_offset, bm_offset = BLOCK_SECTORS, BLOCK_SECTORS + al_sectors
        case MetaKind.INDEXED:
            if al_stripes * al_stripe_size_4k != MIN_AL_BLOCKS:
                raise DiskTooSmallError("indexed metadata has room for the default activity log only")
            md_size_sectors = SLOT_SECTORS
            al_offset, bm_offset = BLOCK_SECTORS, BLOCK_SECTORS + al_sectors
        case _:
            assert_never(kind)
    layout = layout_from(
        kind,
        at_bytes,
        offsets_sectors=(al_offset, bm_offset),
        md_size_sectors=md_size_sectors,
        stripes=(al_stripes, al_stripe_size_4k),
        backing_bytes=backing_bytes,
    )
    _require_room(layout, md_device_bytes, backing_bytes)
    return layout


def layout_from(
    kind: MetaKind,
    at_bytes: int,
    *,
    offsets_sectors: tuple[int, int],
    md_size_sectors: int,
    stripes: tuple[int, int],
    backing_bytes: int | None,
) -> Layout:
    """Return the layout that these fields of a superblock at `at_bytes` describe; checks nothing.

    `offsets_sectors` are those of activity log and bitmap, `stripes` their number and their size in 4 KiB.
    """
    al_offset_sectors, bm_offset_sectors = offsets_sectors
    if kind is MetaKind.INTERNAL:
        bitmap_sectors = al_offset_sectors - bm_offset_sectors
        max_sectors = at_bytes // SECTOR_BYTES + bm_offset_sectors
    else:
        bitmap_sectors = md_size_sectors - bm_offset_sectors
        max_sectors = bitmap_sectors // BLOCK_SECTORS * BLOCK_SECTORS * SECTORS_PER_BITMAP_SECTOR
        if backing_bytes is not None:
            max_sectors = min(max_sectors, backing_bytes // SECTOR_BYTES)
    return Layout(
        kind=kind,
        superblock_offset_bytes=at_bytes,
        al_offset_bytes=at_bytes + al_offset_sectors * SECTOR_BYTES,
        bm_offset_bytes=at_bytes + bm_offset_sectors * SECTOR_BYTES,
        bm_bytes=bitmap_sectors // BLOCK_SECTORS * BLOCK_BYTES,
        al_offset_sectors=al_offset_sectors,
        bm_offset_sectors=bm_offset_sectors,
        md_size_sectors=md_size_sectors,
        al_stripes=stripes[0],
        al_stripe_size_4k=stripes[1],
        max_sectors=min(max_sectors, MAX_DEVICE_SECTORS),
    )


def check_stripes(al_stripes: int, al_stripe_size_4k: int) -> None:
    """Refuse an activity log geometry that 8.4 refuses (8 to 4 Mi blocks in all)."""
    if al_stripes < 1 or al_stripe_size_4k < 1:
        raise DiskTooSmallError("al-stripes and al-stripe-size must be at least 1 and 4 KiB")
    blocks = al_stripes * al_stripe_size_4k
    if not MIN_AL_BLOCKS <= blocks <= MAX_AL_BLOCKS:
        raise DiskTooSmallError(f"an activity log of {blocks * 4} KiB is out of range (32 KiB to 16 GiB)")


def _require_room(layout: Layout, md_device_bytes: int, backing_bytes: int | None) -> None:
    needed_bytes = layout.md_size_sectors * SECTOR_BYTES
    if layout.first_byte < 0 or layout.end_byte > md_device_bytes or layout.bm_bytes < BLOCK_BYTES:
        raise DiskTooSmallError(
            f"the disk is too small for its metadata: {md_device_bytes} bytes,"
            f" of which the metadata alone takes {max(needed_bytes, flexible_bytes(1, layout.al_blocks))}"
        )
    if layout.max_sectors < BLOCK_SECTORS:
        raise DiskTooSmallError(
            f"the disk is too small: {backing_bytes or md_device_bytes} bytes leave no room for data"
        )
