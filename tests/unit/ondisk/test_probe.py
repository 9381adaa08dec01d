"""The recognisers, against disks that real tools have made."""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.golden_disk import GoldenDisk
from pydrbd.ondisk.layout import MetaKind, layout_for
from pydrbd.ondisk.probe import Finding, binary_size, probe
from pydrbd.ondisk.superblock import fresh, serialise

LoadGolden = Callable[[str], GoldenDisk]

MIB = 1 << 20


def found_in(path: Path) -> list[str]:
    with path.open("rb") as disk:

        def read(offset_bytes: int, size_bytes: int) -> bytes:
            disk.seek(offset_bytes)
            return disk.read(size_bytes)

        return [each.sentence() for each in probe(read, path.stat().st_size)]


def found_at(pieces: dict[int, bytes], size_bytes: int = 512 * MIB) -> list[str]:
    def read(offset_bytes: int, wanted: int) -> bytes:
        image = bytearray(wanted)
        for at, piece in pieces.items():
            first, end = max(at, offset_bytes), min(at + len(piece), offset_bytes + wanted)
            if first < end:
                image[first - offset_bytes : end - offset_bytes] = piece[first - at : end - at]
        return bytes(image[: max(0, size_bytes - offset_bytes)])

    return [each.sentence() for each in probe(read, size_bytes)]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, 64 * MIB)
    return path


def make(disk: Path, *command: str) -> None:
    program = shutil.which(command[0], path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    subprocess.run([program, *command[1:], str(disk)], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["ext2", "ext3", "ext4"])
def test_ext_filesystems_are_told_apart_with_their_size(disk: Path, name: str):
    make(disk, "mke2fs", "-q", "-F", "-t", name)
    assert found_in(disk) == [f"{name} filesystem, 64 MiB"]


def test_swap_is_recognised(disk: Path):
    disk.chmod(0o600)
    make(disk, "mkswap")
    assert found_in(disk) == ["swap space, 64 MiB"]


def test_a_partition_table_is_recognised():
    entry = struct.pack("<B3xB3xII", 0x80, 0x83, 2048, 4096)
    assert found_at({446: entry, 510: b"\x55\xaa"}) == ["MBR partition table, 3 MiB"]
    gpt = b"EFI PART".ljust(32, b"\0") + struct.pack("<Q", 1048575)
    assert found_at({512: gpt, 510: b"\x55\xaa"}) == ["GPT partition table, 512 MiB"]
    assert found_at({446: b"\x12" * 64, 510: b"\x55\xaa"}) == ["some data"], "a boot sector, but no table"


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ({0: b"XFSB" + struct.pack(">IQ", 4096, 65536)}, "xfs filesystem, 256 MiB"),
        ({0x10040: b"_BHRfS_M", 0x100D1: struct.pack("<Q", 100 * MIB)}, "btrfs filesystem, 100 MiB"),
        ({0x10034: b"ReIsEr2Fs", 0x10000: struct.pack("<I", 1024), 0x1002C: b"\0\x10"}, "reiserfs filesystem, 4 MiB"),
        ({0x8000: b"JFS1", 0x8008: struct.pack("<Q", 2048)}, "jfs filesystem, 1 MiB"),
        ({3: b"NTFS    ", 0x0B: b"\0\2", 0x28: struct.pack("<Q", 4095)}, "ntfs filesystem, 2 MiB"),
        ({82: b"FAT32", 510: b"\x55\xaa", 0x0B: b"\0\2", 0x20: struct.pack("<I", 2048)}, "vfat filesystem, 1 MiB"),
        ({0x8001: b"CD001", 0x8050: struct.pack("<I", 512)}, "iso9660 filesystem, 1 MiB"),
        ({128 * 1024: struct.pack("<Q", 0x00BAB10C)}, "zfs member"),
        ({0: b"LUKS\xba\xbe\0\2"}, "LUKS2 encrypted volume"),
        ({512: b"LABELONE" + bytes(12) + struct.pack("<I", 32) + b"LVM2 001" + bytes(32) + struct.pack("<Q", 8 * MIB)},
         "LVM2 physical volume, 8 MiB"),
        ({4096: struct.pack("<I", 0xA92B4EFC), 4224: struct.pack("<QQ", 2048, 2048)}, "md 1.2 member, 2 MiB"),
        ({512 * MIB - 65536: struct.pack("<I", 0xA92B4EFC)}, "md 0.90 member, 511.9 MiB"),
        ({512 * MIB - 8192: struct.pack("<I", 0xA92B4EFC)}, "md 1.0 member"),
        ({300: b"x"}, "some data"),
    ],
)  # fmt: skip
def test_magic_is_recognised(pieces: dict[int, bytes], said: str):
    assert found_at(pieces) == [said]


def test_drbds_own_metadata_is_recognised_where_it_stands(golden: LoadGolden):
    layout = layout_for(MetaKind.INTERNAL, 512 * MIB)
    block = serialise(fresh(layout, 1))
    assert found_at({layout.superblock_offset_bytes: block}) == ["DRBD v08 internal metadata"]
    assert found_at({0: serialise(fresh(layout_for(MetaKind.FLEXIBLE, MIB), 1))}) == ["DRBD v08 metadata"]
    assert found_at({512 * MIB - 65536: golden("primary-running").tail}) == ["DRBD v08 internal metadata"]


def test_a_disk_of_zeros_holds_nothing_and_a_tiny_one_does_no_harm():
    assert found_at({}) == []
    for size_bytes in (0, 1, 511, 512, 4096, 70_000):
        assert found_at({}, size_bytes) == []


def test_a_filesystem_that_fills_the_disk_reaches_into_internal_metadata():
    whole = Finding("ext4 filesystem", 512 * MIB)
    usable_bytes = layout_for(MetaKind.INTERNAL, 512 * MIB).max_sectors * 512
    assert whole.reaches_beyond(usable_bytes)
    assert not Finding("ext4 filesystem", usable_bytes).reaches_beyond(usable_bytes)
    assert not Finding("some data").reaches_beyond(usable_bytes)


@pytest.mark.parametrize(
    ("size", "shown"), [(512, "512 bytes"), (120 << 30, "120 GiB"), (1536, "1.5 KiB"), (1 << 50, "1 PiB")]
)
def test_sizes_are_for_people(size: int, shown: str):
    assert binary_size(size) == shown
