"""The out-of-sync bitmap on disk: one bit per 4 KiB block of the device, set = out of sync.

Little-endian 64-bit words, so that bit n is bit n % 8 of byte n // 8 whatever the word size. Bits behind the end of
the device mean nothing and are never set here. `apply_activity_log` works on a window, too: `first_bit` (a multiple
of 8) is the number of the window's first bit, so that a caller need not hold the 32 MiB of a TiB to change one page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydrbd.ondisk.layout import BLOCK_SECTORS

EXTENT_SECTORS = 4 * 1024 * 1024 // 512
EXTENT_BITS = EXTENT_SECTORS // BLOCK_SECTORS
EXTENT_BYTES = EXTENT_BITS // 8
_CHUNK_BYTES = 1 << 16


def device_bits(device_sectors: int) -> int:
    """Return how many bits a device has; a last block that is not whole has one."""
    return -(-device_sectors // BLOCK_SECTORS)


def count(bitmap: bytes | bytearray, bits: int | None = None) -> int:
    """Return the number of bits set among the first `bits` (all by default)."""
    if bits is None or bits >= len(bitmap) * 8:
        window = memoryview(bitmap)
        rest = 0
    else:
        window = memoryview(bitmap)[: bits // 8]
        rest = bitmap[bits // 8] & ((1 << bits % 8) - 1) if bits % 8 else 0
    total = rest.bit_count()
    for start in range(0, len(window), _CHUNK_BYTES):
        total += int.from_bytes(window[start : start + _CHUNK_BYTES], "little").bit_count()
    return total


def is_set(bitmap: bytes | bytearray, bit: int) -> bool:
    """Return whether the block is out of sync."""
    return bool(bitmap[bit // 8] >> bit % 8 & 1)


def set_range(bitmap: bytearray, first: int, end: int) -> int:
    """Set the bits from `first` up to but not including `end`; return how many of them were not set before."""
    if first >= end:
        return 0
    first_byte, last_byte = first // 8, (end - 1) // 8
    size_bytes = last_byte - first_byte + 1
    before = int.from_bytes(bitmap[first_byte : last_byte + 1], "little")
    mask = ((1 << end - first) - 1) << first % 8
    bitmap[first_byte : last_byte + 1] = (before | mask).to_bytes(size_bytes, "little")
    return end - first - (before & mask).bit_count()


def ranges(bitmap: bytes | bytearray, bits: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield the runs of set bits in order, as (first, end), among the first `bits` (all by default)."""
    limit = len(bitmap) * 8 if bits is None else min(bits, len(bitmap) * 8)
    run_start: int | None = None
    for start in range(0, (limit + 7) // 8, _CHUNK_BYTES):
        chunk = int.from_bytes(bitmap[start : start + _CHUNK_BYTES], "little")
        base = start * 8
        width = min(_CHUNK_BYTES * 8, limit - base)
        chunk &= (1 << width) - 1
        position = 0
        while position < width:
            if run_start is None:
                rest = chunk >> position
                if not rest:
                    break
                position += (rest & -rest).bit_length() - 1
                run_start = base + position
            else:
                rest = ~(chunk >> position) & ((1 << width - position) - 1)
                if not rest:
                    break
                position += (rest & -rest).bit_length() - 1
                yield run_start, base + position
                run_start = None
    if run_start is not None:
        yield run_start, limit


def apply_activity_log(bitmap: bytearray, extents: Iterable[int], device_sectors: int, first_bit: int = 0) -> int:
    """Set every bit of every extent, as far as device and window go; return how many were not set before.

    Running it twice changes nothing. The last extent of a device may be a short one.
    """
    end_of_window = min(device_bits(device_sectors), first_bit + len(bitmap) * 8)
    newly_set = 0
    for extent in extents:
        first = max(extent * EXTENT_BITS, first_bit)
        end = min((extent + 1) * EXTENT_BITS, end_of_window)
        newly_set += set_range(bitmap, first - first_bit, end - first_bit)
    return newly_set
