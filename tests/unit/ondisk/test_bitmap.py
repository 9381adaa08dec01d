"""The bitmap, against a set of numbers."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from fakes.golden_disk import GoldenDisk
from pydrbd.ondisk.bitmap import apply_activity_log, count, device_bits, is_set, ranges, set_range

LoadGolden = Callable[[str], GoldenDisk]


def test_bit_n_is_bit_n_of_a_little_endian_word():
    bitmap = bytearray(16)
    set_range(bitmap, 65, 66)
    assert bitmap == (1 << 65).to_bytes(16, "little")
    assert is_set(bitmap, 65)
    assert not is_set(bitmap, 64)


@pytest.mark.parametrize("seed", range(5))
def test_ranges_and_counts_agree_with_a_plain_set(seed: int):
    chance = random.Random(seed)
    bitmap = bytearray(200_000)
    wanted: set[int] = set()
    for _ in range(50):
        first = chance.randrange(len(bitmap) * 8)
        end = min(len(bitmap) * 8, first + chance.choice([0, 1, 7, 8, 64, 5000, 70_000]))
        new = set(range(first, end)) - wanted
        assert set_range(bitmap, first, end) == len(new)
        wanted |= new
    assert count(bitmap) == len(wanted)
    limit = chance.randrange(len(bitmap) * 8)
    assert count(bitmap, limit) == sum(bit < limit for bit in wanted)
    found = list(ranges(bitmap))
    assert {bit for first, end in found for bit in range(first, end)} == wanted
    assert all(a[1] < b[0] for a, b in pairwise(found)), "runs touch"
    assert sum(end - first for first, end in ranges(bitmap, limit)) == count(bitmap, limit)


def test_an_empty_bitmap_has_no_ranges():
    assert list(ranges(bytes(4096))) == []
    assert list(ranges(b"\xff" * 4096)) == [(0, 32768)]
    assert list(ranges(b"")) == []


def test_a_bitmap_of_a_tib_is_quick():
    bitmap = bytearray(32 << 20)
    set_range(bitmap, 1 << 27, (1 << 27) + 3)
    assert count(bitmap) == 3
    assert list(ranges(bitmap)) == [(1 << 27, (1 << 27) + 3)]


def test_an_extent_is_1024_bits_and_the_last_one_ends_with_the_device():
    bitmap = bytearray(4096)
    sectors = 2 * 8192 + 9
    assert device_bits(sectors) == 2050
    assert apply_activity_log(bitmap, [0, 2], sectors) == 1024 + 2
    assert list(ranges(bitmap)) == [(0, 1024), (2048, 2050)]


def test_applying_twice_changes_nothing_and_extents_behind_the_end_are_nobodys():
    bitmap = bytearray(4096)
    assert apply_activity_log(bitmap, [1, 7, 4_000_000_000], 16384) == 1024
    once = bytes(bitmap)
    assert apply_activity_log(bitmap, [7, 1], 16384) == 0
    assert bitmap == once


def test_a_window_takes_its_own_part():
    whole, window = bytearray(8192), bytearray(4096)
    extents, sectors = [0, 31, 32, 33, 63], 64 * 8192
    apply_activity_log(whole, extents, sectors)
    assert apply_activity_log(window, extents, sectors, first_bit=32768) == 3 * 1024
    assert window == whole[4096:]


def test_the_kernels_crash_marks_what_drbdmeta_marks(golden: LoadGolden):
    disk = golden("primary-running")
    bitmap = bytearray(disk.bitmap)
    assert apply_activity_log(bitmap, {0, 1}, disk.superblock.agreed_sectors) * 4 == 8192
    assert "Marked additional 8192 KB" in disk.said
