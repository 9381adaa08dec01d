"""The v08 superblock: one 4 KiB block, big endian, written whole.

    offset size field                              offset size field
         0    8 last agreed size, sectors              64    4 size of the metadata area, sectors
         8    8 current identifier                     68    4 activity log, signed, sectors from here
        16    8 bitmap identifier                      72    4 al-extents
        24   16 two history identifiers                76    4 bitmap, signed, sectors from here
        40    8 device identifier                      80    4 bytes per bit, 4096
        48    8 reserved, 0                            84    4 largest request the peer took, bytes
        56    4 flags (`MdFlag`)                       88    4 al-stripes
        60    4 magic                                  92    4 al-stripe-size, 4 KiB

The magic is 0x83740267 + 4 when the activity log has nothing to tell, + 5 while someone is attached (8.4 leaves + 5
behind even after a clean down). The format has no checksum: every field that has only one right value, or a range, is
compared with it, and what is impossible is refused, never repaired in passing.
Source: drbd 8.4.11 `struct meta_data_on_disk`, `drbd_md_read`, `check_offsets_and_sizes`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import assert_never

from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.ondisk.errors import GarbledSuperblockError, NoMetadataError, OtherVersionError
from pydrbd.ondisk.layout import (
    BLOCK_BYTES,
    BLOCK_SECTORS,
    BYTES_PER_BIT,
    DEFAULT_AL_STRIPE_SIZE_4K,
    DEFAULT_AL_STRIPES,
    MAX_AL_BLOCKS,
    MIN_AL_BLOCKS,
    SECTOR_BYTES,
    SLOT_SECTORS,
    Layout,
    MetaKind,
    bitmap_bytes,
    layout_from,
    superblock_offset,
)

DRBD_MAGIC = 0x83740267
MAGIC_V06 = DRBD_MAGIC + 2
MAGIC_V07 = DRBD_MAGIC + 3
MAGIC_V08 = DRBD_MAGIC + 4
MAGIC_84_UNCLEAN = DRBD_MAGIC + 5
MAGIC_V09 = DRBD_MAGIC + 6

_FIELDS = struct.Struct(">Q4QQQIIIiIiIIII")
_MAGIC_OFFSETS = {"v06": (MAGIC_V06, 20), "v07": (MAGIC_V07, 28), "v09": (MAGIC_V09, 60)}
"""Where other versions keep their magic: 0.6 behind five counters, 0.7 behind its size and five counters."""

KNOWN_FLAGS = 0x1FF
MAX_AL_EXTENTS = 65534
DEFAULT_AL_EXTENTS = 1237
MAX_PEER_BIO_BYTES = 1 << 20

_REPAIR = "`pydrbd create-md` makes it anew; a full sync from the peer follows"


@dataclass(frozen=True, slots=True)
class Superblock:
    """The fields of a v08 superblock. Sizes are in 512-byte sectors, offsets in sectors relative to the superblock.

    `clean`: nobody is attached and the activity log names no extent. Disks of 8.3 and before have 0 in both stripe
    fields, which is read as the default that it means.
    """

    ids: GenerationIds
    flags: MdFlag
    device_uuid: int
    agreed_sectors: int
    md_size_sectors: int
    al_offset_sectors: int
    bm_offset_sectors: int
    al_extents: int = DEFAULT_AL_EXTENTS
    peer_max_bio_bytes: int = 0
    al_stripes: int = DEFAULT_AL_STRIPES
    al_stripe_size_4k: int = DEFAULT_AL_STRIPE_SIZE_4K
    clean: bool = True

    @property
    def needs_apply_al(self) -> bool:
        """Return whether the activity log must be looked at before anyone attaches (8.4 `ERR_MD_UNCLEAN`)."""
        return not (self.clean and MdFlag.AL_CLEAN in self.flags)


def fresh(layout: Layout, device_uuid: int) -> Superblock:
    """Return the superblock that `create-md` writes: just created, inconsistent, no size agreed, activity log clean."""
    return Superblock(
        ids=GenerationIds(),
        flags=MdFlag.AL_CLEAN,
        device_uuid=device_uuid,
        agreed_sectors=0,
        md_size_sectors=layout.md_size_sectors,
        al_offset_sectors=layout.al_offset_sectors,
        bm_offset_sectors=layout.bm_offset_sectors,
        al_stripes=layout.al_stripes,
        al_stripe_size_4k=layout.al_stripe_size_4k,
    )


def serialise(superblock: Superblock) -> bytes:
    """Return the 4096 bytes. Raise `GarbledSuperblockError` for a value that `parse` would refuse."""
    _check_ranges(superblock)
    fields = _FIELDS.pack(
        superblock.agreed_sectors,
        superblock.ids.current,
        superblock.ids.bitmap,
        superblock.ids.history0,
        superblock.ids.history1,
        superblock.device_uuid,
        0,
        int(superblock.flags),
        MAGIC_V08 if superblock.clean else MAGIC_84_UNCLEAN,
        superblock.md_size_sectors,
        superblock.al_offset_sectors,
        superblock.al_extents,
        superblock.bm_offset_sectors,
        BYTES_PER_BIT,
        superblock.peer_max_bio_bytes,
        superblock.al_stripes,
        superblock.al_stripe_size_4k,
    )
    return fields.ljust(BLOCK_BYTES, b"\0")


def parse(block: bytes) -> Superblock:
    """Return the superblock in these 4096 bytes.

    Raise `NoMetadataError`, `OtherVersionError` or `GarbledSuperblockError`. Whether it fits the disk it was read from
    is the question of `check_against_disk`.
    """
    if len(block) != BLOCK_BYTES:
        raise NoMetadataError(f"a superblock has {BLOCK_BYTES} bytes, not {len(block)}")
    (agreed_sectors, current, bitmap, history0, history1, device_uuid, reserved, flags, magic,
     md_size_sectors, al_offset, al_extents, bm_offset, bytes_per_bit, peer_max_bio_bytes,
     al_stripes, al_stripe_size_4k) = _FIELDS.unpack_from(block)  # fmt: skip
    if magic not in {MAGIC_V08, MAGIC_84_UNCLEAN}:
        raise _no_v08(block)
    if reserved or any(block[_FIELDS.size :]):
        raise GarbledSuperblockError(f"the superblock is garbled: reserved bytes are not zero; {_REPAIR}")
    if bytes_per_bit != BYTES_PER_BIT:
        raise _garbled("bytes per bit", bytes_per_bit)
    if flags & ~KNOWN_FLAGS:
        raise _garbled("flags", flags)
    if not al_stripes and not al_stripe_size_4k:
        al_stripes, al_stripe_size_4k = DEFAULT_AL_STRIPES, DEFAULT_AL_STRIPE_SIZE_4K
    superblock = Superblock(
        ids=GenerationIds(current, bitmap, history0, history1),
        flags=MdFlag(flags),
        device_uuid=device_uuid,
        agreed_sectors=agreed_sectors,
        md_size_sectors=md_size_sectors,
        al_offset_sectors=al_offset,
        bm_offset_sectors=bm_offset,
        al_extents=al_extents,
        peer_max_bio_bytes=peer_max_bio_bytes,
        al_stripes=al_stripes,
        al_stripe_size_4k=al_stripe_size_4k,
        clean=magic == MAGIC_V08,
    )
    _check_ranges(superblock)
    return superblock


def found_version(block: bytes) -> str | None:
    """Return "v06" to "v09" if the block carries that version's magic, None otherwise."""
    if len(block) >= _FIELDS.size:
        if int.from_bytes(block[60:64], "big") in {MAGIC_V08, MAGIC_84_UNCLEAN}:
            return "v08"
        for version, (magic, offset) in _MAGIC_OFFSETS.items():
            if int.from_bytes(block[offset : offset + 4], "big") == magic:
                return version
    return None


def check_against_disk(
    superblock: Superblock,
    kind: MetaKind,
    md_device_bytes: int,
    *,
    backing_bytes: int | None = None,
    index: int = 0,
) -> Layout:
    """Return the layout that the superblock describes on this disk; raise `GarbledSuperblockError` if it cannot be.

    The rules are 8.4's: the offsets must be those of the kind of metadata, the activity log exactly as large as its
    stripes, the area inside the device, and the bitmap large enough for the last agreed size.
    """
    at_bytes = superblock_offset(kind, md_device_bytes, index)
    layout = layout_from(
        kind,
        at_bytes,
        offsets_sectors=(superblock.al_offset_sectors, superblock.bm_offset_sectors),
        md_size_sectors=superblock.md_size_sectors,
        stripes=(superblock.al_stripes, superblock.al_stripe_size_4k),
        backing_bytes=backing_bytes,
    )
    _check_offsets(layout, md_device_bytes)
    if bitmap_bytes(superblock.agreed_sectors) > layout.bm_bytes or (
        kind is MetaKind.INTERNAL and superblock.agreed_sectors > layout.max_sectors
    ):
        raise _garbled("last agreed size", superblock.agreed_sectors)
    return layout


def attached(superblock: Superblock) -> Superblock:
    """Return the same superblock as someone who is attached writes it: unclean, without the mark AL_CLEAN."""
    return replace(superblock, flags=superblock.flags & ~MdFlag.AL_CLEAN, clean=False)


def log_applied(superblock: Superblock) -> Superblock:
    """Return the same superblock after apply-al: clean. The mark "was Primary" stays, as `drbdmeta` leaves it."""
    return replace(superblock, flags=superblock.flags | MdFlag.AL_CLEAN, clean=True)


def _check_offsets(layout: Layout, md_device_bytes: int) -> None:
    al_sectors = layout.al_blocks * BLOCK_SECTORS
    device_sectors = md_device_bytes // SECTOR_BYTES
    match layout.kind:
        case MetaKind.INTERNAL:
            md_size_sectors = bitmap_bytes(device_sectors) // SECTOR_BYTES + al_sectors + BLOCK_SECTORS
            right = (-al_sectors, BLOCK_SECTORS - md_size_sectors)
        case MetaKind.INDEXED:
            md_size_sectors = SLOT_SECTORS
            right = (BLOCK_SECTORS, BLOCK_SECTORS + MIN_AL_BLOCKS * BLOCK_SECTORS)
        case MetaKind.FLEXIBLE:
            md_size_sectors = layout.md_size_sectors
            right = (BLOCK_SECTORS, BLOCK_SECTORS + al_sectors)
        case _:
            assert_never(layout.kind)
    if layout.md_size_sectors != md_size_sectors:
        raise _garbled("size of the metadata area", layout.md_size_sectors)
    if layout.al_offset_sectors != right[0]:
        raise _garbled("offset of the activity log", layout.al_offset_sectors)
    if layout.bm_offset_sectors != right[1]:
        raise _garbled("offset of the bitmap", layout.bm_offset_sectors)
    if layout.bm_bytes < BLOCK_BYTES or layout.first_byte < 0 or layout.end_byte > md_device_bytes:
        raise _garbled("size of the metadata area", layout.md_size_sectors)


def _check_ranges(superblock: Superblock) -> None:
    """Refuse a value that no disk can have, and that would not fit its field."""
    ids = superblock.ids
    for value in (ids.current, ids.bitmap, ids.history0, ids.history1, superblock.device_uuid):
        if not 0 <= value < 1 << 64:
            raise _garbled("identifier", value)
    blocks = superblock.al_stripes * superblock.al_stripe_size_4k
    ranges = (
        ("last agreed size", superblock.agreed_sectors, 0, 1 << 41),
        ("flags", int(superblock.flags), 0, KNOWN_FLAGS),
        ("size of the metadata area", superblock.md_size_sectors, 0, (1 << 32) - 1),
        ("offset of the activity log", superblock.al_offset_sectors, -(1 << 31), (1 << 31) - 1),
        ("offset of the bitmap", superblock.bm_offset_sectors, -(1 << 31), (1 << 31) - 1),
        ("al-extents", superblock.al_extents, 1, MAX_AL_EXTENTS),
        ("largest request of the peer", superblock.peer_max_bio_bytes, 0, MAX_PEER_BIO_BYTES),
        ("al-stripes", superblock.al_stripes, 1, MAX_AL_BLOCKS),
        ("al-stripe-size", superblock.al_stripe_size_4k, 1, MAX_AL_BLOCKS),
        ("size of the activity log", blocks, MIN_AL_BLOCKS, MAX_AL_BLOCKS),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise _garbled(name, value)
    if superblock.peer_max_bio_bytes % SECTOR_BYTES:
        raise _garbled("largest request of the peer", superblock.peer_max_bio_bytes)


def _garbled(name: str, value: int) -> GarbledSuperblockError:
    return GarbledSuperblockError(f"the superblock is garbled: {name} cannot be {value}; {_REPAIR}")


def _no_v08(block: bytes) -> NoMetadataError | OtherVersionError:
    version = found_version(block)
    if version is not None:
        return OtherVersionError(
            f"the metadata is of version {version}, not v08; `drbdmeta` converts it, `pydrbd create-md` replaces it"
        )
    what = "found other data" if any(block) else "found zeros"
    return NoMetadataError(f"no DRBD metadata ({what}); `pydrbd create-md` makes it")
