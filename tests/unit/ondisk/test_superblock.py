"""The superblock: the kernel's own are read and written back to the byte; what is impossible is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fakes.golden_disk import GoldenDisk
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.ondisk.errors import GarbledSuperblockError, NoMetadataError, OtherVersionError
from pydrbd.ondisk.layout import MetaKind, layout_for
from pydrbd.ondisk.superblock import (
    MAGIC_V06,
    MAGIC_V07,
    MAGIC_V08,
    MAGIC_V09,
    Superblock,
    attached,
    check_against_disk,
    found_version,
    fresh,
    log_applied,
    parse,
    serialise,
)

LoadGolden = Callable[[str], GoldenDisk]
DISK_BYTES = 512 << 20


def put(block: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return block[:offset] + value.to_bytes(size, "big") + block[offset + size :]


@pytest.fixture
def good() -> Superblock:
    return fresh(layout_for(MetaKind.INTERNAL, DISK_BYTES), device_uuid=0xABCD)


def test_the_kernels_superblocks_are_written_back_to_the_byte(golden_disk: GoldenDisk):
    assert serialise(golden_disk.superblock) == golden_disk.block


def test_the_kernels_superblock_says_what_drbdmeta_says(golden: LoadGolden):
    superblock = golden("primary-running").superblock
    assert superblock.ids == GenerationIds(0x616C12AFFA2BB01A, 0, 0x19F6D2D4C7A9ABB6, 0x19F5D2D4C7A9ABB7)
    assert superblock.flags == (MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE | MdFlag.PRIMARY_IND | MdFlag.CONNECTED_IND)
    assert superblock.device_uuid == 0x7BE2E3CF91BA2E99
    assert superblock.agreed_sectors == 16384
    assert superblock.al_extents == 1237
    assert superblock.peer_max_bio_bytes == 1 << 20
    assert not superblock.clean
    assert superblock.needs_apply_al


def test_the_kernels_layout_is_the_one_we_would_make(golden_disk: GoldenDisk):
    assert golden_disk.layout == layout_for(MetaKind.INTERNAL, DISK_BYTES)


def test_fresh_metadata_is_just_created_and_clean(good: Superblock):
    again = parse(serialise(good))
    assert again == good
    assert again.ids == GenerationIds(4, 0, 0, 0)
    assert not again.needs_apply_al
    assert serialise(good)[60:64] == MAGIC_V08.to_bytes(4, "big")


def test_attached_is_unclean_until_the_log_is_applied(good: Superblock):
    assert attached(good).needs_apply_al
    assert parse(serialise(attached(good))) == attached(good)
    assert not log_applied(attached(good)).needs_apply_al


def test_zeros_and_other_data_are_told_apart():
    with pytest.raises(NoMetadataError, match="found zeros"):
        parse(bytes(4096))
    with pytest.raises(NoMetadataError, match="found other data"):
        parse(b"\x17" * 4096)
    with pytest.raises(NoMetadataError, match="4096 bytes"):
        parse(bytes(512))


@pytest.mark.parametrize(
    ("version", "offset", "magic"), [("v06", 20, MAGIC_V06), ("v07", 28, MAGIC_V07), ("v09", 60, MAGIC_V09)]
)
def test_other_versions_are_named(version: str, offset: int, magic: int):
    block = put(bytes(4096), offset, magic)
    assert found_version(block) == version
    with pytest.raises(OtherVersionError, match=version):
        parse(block)


@pytest.mark.parametrize(
    ("what", "offset", "value", "size"),
    [
        ("reserved", 48, 1, 8),
        ("reserved", 96, 1, 1),
        ("reserved", 4095, 1, 1),
        ("flags", 56, 0x200, 4),
        ("bytes per bit", 80, 8192, 4),
        ("al-extents", 72, 0, 4),
        ("al-extents", 72, 65535, 4),
        ("largest request", 84, (1 << 20) + 512, 4),
        ("largest request", 84, 513, 4),
        ("al-stripes", 88, 0, 4),
        ("al-stripe-size", 92, 0, 4),
        ("size of the activity log", 92, 7, 4),
        ("last agreed size", 0, (1 << 41) + 1, 8),
    ],
)
def test_an_impossible_field_is_refused_with_the_command_that_repairs(
    good: Superblock, what: str, offset: int, value: int, size: int
):
    with pytest.raises(GarbledSuperblockError, match=f"{what}.*create-md"):
        parse(put(serialise(good), offset, value, size))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("size of the metadata area", {"md_size_sectors": 112}),
        ("offset of the activity log", {"al_offset_sectors": -72}),
        ("offset of the bitmap", {"bm_offset_sectors": -104}),
        ("last agreed size", {"agreed_sectors": 0xFFF99}),
        ("size of the metadata area", {"al_stripe_size_4k": 9}),
    ],
)
def test_a_superblock_of_another_disk_is_refused(good: Superblock, what: str, change: dict[str, int]):
    with pytest.raises(GarbledSuperblockError, match=what):
        check_against_disk(replace(good, **change), MetaKind.INTERNAL, DISK_BYTES)


def test_internal_metadata_of_another_disk_size_is_refused(good: Superblock):
    with pytest.raises(GarbledSuperblockError):
        check_against_disk(good, MetaKind.INTERNAL, 1 << 40)


def test_external_metadata_is_checked_by_its_own_rules():
    for kind, size_bytes, index in ((MetaKind.FLEXIBLE, 1 << 20, 0), (MetaKind.INDEXED, 512 << 20, 3)):
        layout = layout_for(kind, size_bytes, index=index, backing_bytes=DISK_BYTES)
        superblock = fresh(layout, 1)
        assert check_against_disk(superblock, kind, size_bytes, index=index, backing_bytes=DISK_BYTES) == layout
        with pytest.raises(GarbledSuperblockError):
            check_against_disk(replace(superblock, bm_offset_sectors=80), kind, size_bytes, index=index)


def test_a_grown_external_device_still_has_its_old_metadata():
    layout = layout_for(MetaKind.FLEXIBLE, 1 << 20)
    assert check_against_disk(fresh(layout, 1), MetaKind.FLEXIBLE, 2 << 20) == layout
    with pytest.raises(GarbledSuperblockError, match="size of the metadata area"):
        check_against_disk(fresh(layout, 1), MetaKind.FLEXIBLE, 512 << 10)


def test_stripe_fields_of_zero_mean_the_default_as_before_8_4(good: Superblock):
    block = put(put(serialise(good), 88, 0), 92, 0)
    assert parse(block) == good


def test_what_parse_would_refuse_is_never_written(good: Superblock):
    for change in ({"al_extents": 0}, {"agreed_sectors": -1}, {"device_uuid": 1 << 64}, {"flags": MdFlag(512)}):
        with pytest.raises(GarbledSuperblockError):
            serialise(replace(good, **change))
