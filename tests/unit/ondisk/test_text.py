"""The text forms, against what drbdmeta printed for the same disks."""

import random
import re
from collections.abc import Callable

import pytest

from fakes.golden_disk import GoldenDisk
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.ondisk.errors import DumpSyntaxError
from pydrbd.ondisk.layout import MetaKind, bitmap_bytes, layout_for
from pydrbd.ondisk.superblock import attached, fresh, log_applied
from pydrbd.ondisk.text import dump_md, get_gi, parse_dump, pretty_size, show_gi

LoadGolden = Callable[[str], GoldenDisk]

HEAD = "2004-05-11 12:00:00 +0000 [1084276800]\ncastor> pydrbd dump-md drbd0"


def section(said: str, begin: str, end: str) -> str:
    return said.partition(begin)[2].partition(end)[0]


def without_head_and_flags(dump: str) -> str:
    """drbdmeta 9.22 prints 0 for the flags of every v08 dump; the capture has no lines for time and command."""
    dump = dump.replace("".join(f"# {line}\n" for line in HEAD.splitlines()), "")
    return re.sub(r"flags 0x\w{8};", "flags;", dump)


def test_a_dump_is_drbdmetas(golden_disk: GoldenDisk):
    ours = "".join(dump_md(golden_disk.superblock, golden_disk.layout, golden_disk.bitmap, HEAD))
    theirs = section(golden_disk.said, "please apply-al first\n", "# show-gi")
    assert without_head_and_flags(ours) == without_head_and_flags(theirs)


def test_the_flags_of_a_dump_are_the_disks_own(golden: LoadGolden):
    disk = golden("primary-running")
    assert "    flags 0x00000017;\n" in "".join(dump_md(disk.superblock, disk.layout, disk.bitmap, HEAD))


def test_get_gi_is_drbdmetas(golden_disk: GoldenDisk):
    theirs = section(golden_disk.said, "# show-gi\n", "# apply-al")
    assert get_gi(golden_disk.superblock.ids, golden_disk.superblock.flags) == theirs


def test_show_gi_explains_every_flag():
    layout = layout_for(MetaKind.INTERNAL, 512 << 20)
    new = show_gi(fresh(layout, 1))
    assert "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n" in new
    assert "flags: Secondary, StandAlone, Inconsistent\nmeta-data: clean\n" in new
    assert new.endswith("zero size device -- never seen peer yet?\n")


def test_show_gi_of_a_crashed_primary(golden: LoadGolden):
    superblock = golden("primary-running").superblock
    shown = show_gi(superblock)
    assert shown.endswith(
        "flags: Primary, Connected, UpToDate\n"
        "meta-data: need apply-al\n"
        "last agreed size: 8192 KB (16384 sectors)\n"
        "last agreed max bio size: 1048576 Byte\n"
    )


def test_get_gi_puts_seven_flags_behind_four_identifiers():
    flags = MdFlag.CONSISTENT | MdFlag.FULL_SYNC | MdFlag.CRASHED_PRIMARY
    assert get_gi(GenerationIds(0xA, 0xB, 0xC, 0xD), flags) == (
        "000000000000000A:000000000000000B:000000000000000C:000000000000000D:1:0:0:0:1:0:1\n"
    )


@pytest.mark.parametrize(
    ("kib", "shown"),
    [(0, "0 KB"), (9999, "9999 KB"), (10000, "10 MB"), (10 << 20, "10 GB"), ((1 << 64) - 1, "16384 EB")],
)
def test_sizes_are_shortened_as_drbd_does(kib: int, shown: str):
    assert pretty_size(kib) == shown


def test_the_dump_of_a_device_without_a_size_has_no_bitmap():
    layout = layout_for(MetaKind.INTERNAL, 512 << 20)
    dump = "".join(dump_md(fresh(layout, 1), layout, bytes(16384), HEAD))
    assert dump.endswith("# bm-bytes 0;\nbm {\n}\n# bits-set 0;\n")


def random_bitmap(chance: random.Random, size_bytes: int) -> bytes:
    rows = [bytes(32), b"\xff" * 32, b"\x01\0\0\0\0\0\0\0" * 4]
    bitmap = b""
    while len(bitmap) < size_bytes:
        bitmap += chance.choice([*rows, chance.randbytes(32)]) * chance.choice([1, 1, 2, 3, 40])
    return bitmap[:size_bytes]


@pytest.mark.parametrize("seed", range(8))
def test_a_dump_is_read_back(golden: LoadGolden, seed: int):
    disk = golden("down-with-2-bits-set")
    superblock = log_applied(disk.superblock)
    size_bytes = bitmap_bytes(superblock.agreed_sectors)
    bitmap = random_bitmap(random.Random(seed), size_bytes)
    dump = parse_dump("".join(dump_md(superblock, disk.layout, bitmap, HEAD)))
    assert dump.bitmap == bitmap
    assert dump.superblock.ids == superblock.ids
    assert dump.superblock.flags == superblock.flags
    assert dump.superblock.agreed_sectors == superblock.agreed_sectors
    assert dump.superblock.device_uuid == superblock.device_uuid


def test_the_dump_of_unclean_metadata_is_not_read_back(golden: LoadGolden):
    disk = golden("primary-running")
    dump = "".join(dump_md(attached(disk.superblock), disk.layout, disk.bitmap, HEAD))
    with pytest.raises(DumpSyntaxError, match=r"line 8: .*apply-al"):
        parse_dump(dump)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"v08"', '"v09"', "line 6: expected '\"v08\"', found '\"v09\"'"),
        ("uuid {", "uid {", "expected 'uuid', found 'uid'"),
        ("flags 0x000000", "flags 0x0000", "expected 8 hexadecimal digits"),
        ("la-size-sect 16384;", "la-size-sect many;", "la-size-sect needs a number, not 'many'"),
        ("la-size-sect 16384;", "la-size-sect 16384", "expected ';', found 'bm-byte-per-bit'"),
        ("la-size-sect 16384;", "la-size-sect 9999999999999999999;", "out of range"),
        ("bm-byte-per-bit 4096;", "bm-byte-per-bit 512;", "4096 bytes per bit"),
        ("al-stripes 1;", "al-stripes 0;", "al-stripes"),
        ("times 0x", "x 0x", "expected 'times', found 'x'"),
        ("500 times", "99999999999999999999 times", "longer than the device"),
        ("500 times", "501 times", "longer than the device"),
        ("\n}\n# bits-set", "\n# bits-set", "the end"),
        ("# bits-set 2;", "more", "'more' behind the end of the dump"),
        ("la-size", "§la-size", "'§' does not belong here"),
    ],
)
def test_a_mistake_in_a_dump_is_named_with_its_line(golden: LoadGolden, old: str, new: str, said: str):
    disk = golden("down-with-2-bits-set")
    dump = "".join(dump_md(log_applied(disk.superblock), disk.layout, disk.bitmap, HEAD))
    assert old in dump
    with pytest.raises(DumpSyntaxError, match=r"^line \d+: ") as caught:
        parse_dump(dump.replace(old, new))
    assert said in str(caught.value)
