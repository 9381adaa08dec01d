"""The places, against numbers of the kernel and of drbdmeta."""

import pytest

from pydrbd.ondisk.errors import DiskTooSmallError
from pydrbd.ondisk.layout import MetaKind, bitmap_bytes, flexible_bytes, layout_for

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


def test_internal_metadata_of_512_mib_is_the_kernels():
    layout = layout_for(MetaKind.INTERNAL, 512 * MIB)
    assert layout.md_size_sectors == 104
    assert (layout.superblock_offset_bytes, layout.al_offset_bytes, layout.bm_offset_bytes) == (
        536866816,
        536834048,
        536817664,
    )
    assert layout.max_sectors == 0xFFF98, "c_size that the kernel sent in P_SIZES"


def test_a_tib_takes_32_mib_of_bitmap():
    assert bitmap_bytes(TIB // 512) == 32 * MIB
    layout = layout_for(MetaKind.INTERNAL, TIB)
    assert layout.max_sectors == TIB // 512 - layout.md_size_sectors
    assert layout.md_size_sectors == 32 * MIB // 512 + 72


def test_an_odd_disk_has_its_superblock_in_the_last_whole_block():
    layout = layout_for(MetaKind.INTERNAL, 512 * MIB + 4095)
    assert layout.superblock_offset_bytes == 512 * MIB - 4096
    assert layout.end_byte == 512 * MIB


def test_flexible_fills_its_device_and_the_smaller_of_both_bounds_the_size():
    layout = layout_for(MetaKind.FLEXIBLE, 128 * 1024, backing_bytes=10 * GIB)
    assert (layout.superblock_offset_bytes, layout.al_offset_bytes, layout.bm_offset_bytes) == (0, 4096, 36864)
    assert layout.max_sectors == (128 * 1024 - 36864) * 8 * 8
    assert layout_for(MetaKind.FLEXIBLE, 128 * 1024, backing_bytes=MIB).max_sectors == 2048


def test_the_size_of_a_metadata_file_is_just_enough():
    for device_bytes in (4096, 128 * MIB, 128 * MIB + 1, 10 * GIB):
        sectors = -(-device_bytes // 512)
        layout = layout_for(MetaKind.FLEXIBLE, flexible_bytes(sectors), backing_bytes=device_bytes + 512)
        assert layout.max_sectors >= sectors
        assert layout.bm_bytes == bitmap_bytes(sectors)


def test_indexed_slots_are_128_mib_apart():
    layout = layout_for(MetaKind.INDEXED, 512 * MIB, index=2, backing_bytes=GIB)
    assert layout.superblock_offset_bytes == 256 * MIB
    assert layout.end_byte == 384 * MIB
    assert layout.max_sectors == GIB // 512
    assert layout_for(MetaKind.INDEXED, 512 * MIB).max_sectors == (262144 - 72) * 32768


@pytest.mark.parametrize(
    ("kind", "size_bytes", "index"),
    [
        (MetaKind.INTERNAL, 0, 0),
        (MetaKind.INTERNAL, 4095, 0),
        (MetaKind.INTERNAL, 40960, 0),
        (MetaKind.FLEXIBLE, 36864, 0),
        (MetaKind.INDEXED, 128 * MIB - 1, 0),
        (MetaKind.INDEXED, 256 * MIB, 2),
    ],
)
def test_a_disk_too_small_for_its_metadata_is_refused(kind: MetaKind, size_bytes: int, index: int):
    with pytest.raises(DiskTooSmallError):
        layout_for(kind, size_bytes, index=index, backing_bytes=GIB)


def test_the_smallest_internal_disk_has_room_for_one_block():
    assert layout_for(MetaKind.INTERNAL, 45056).max_sectors == 8


def test_a_striped_log_moves_the_bitmap():
    layout = layout_for(MetaKind.INTERNAL, GIB, al_stripes=4, al_stripe_size_4k=8)
    assert layout.al_offset_sectors == -256
    assert layout.al_blocks == 32
    with pytest.raises(DiskTooSmallError, match="out of range"):
        layout_for(MetaKind.INTERNAL, GIB, al_stripes=1, al_stripe_size_4k=7)
    with pytest.raises(DiskTooSmallError):
        layout_for(MetaKind.INDEXED, GIB, al_stripes=2)
