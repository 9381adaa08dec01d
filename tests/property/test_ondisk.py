"""The format under random input: round trips, one error type for all garbage, and what a flipped bit can do."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.golden_disk import DISK_BYTES, GoldenDisk
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.ondisk import activity_log, superblock, text
from pydrbd.ondisk.bitmap import apply_activity_log, count, device_bits, ranges, set_range
from pydrbd.ondisk.errors import ActivityLogDamagedError, DiskTooSmallError, DumpSyntaxError, OnDiskError
from pydrbd.ondisk.layout import MetaKind, bitmap_bytes, layout_for
from pydrbd.ondisk.probe import probe

U64 = st.integers(0, (1 << 64) - 1)
SUPERBLOCKS = st.builds(
    superblock.Superblock,
    ids=st.builds(GenerationIds, U64, U64, U64, U64),
    flags=st.integers(0, 0x1FF).map(MdFlag),
    device_uuid=U64,
    agreed_sectors=st.integers(0, 1 << 41),
    md_size_sectors=st.integers(0, (1 << 32) - 1),
    al_offset_sectors=st.integers(-(1 << 31), (1 << 31) - 1),
    bm_offset_sectors=st.integers(-(1 << 31), (1 << 31) - 1),
    al_extents=st.integers(1, 65534),
    peer_max_bio_bytes=st.integers(0, 2048).map(lambda sectors: sectors * 512),
    al_stripes=st.integers(8, 64),
    al_stripe_size_4k=st.integers(1, 64),
    clean=st.booleans(),
)
EXTENTS = st.integers(0, (1 << 32) - 2)


def transaction(number: int, updates: list[tuple[int, int]], size: int, base: int) -> activity_log.Transaction:
    """A transaction whose context, which would be long to draw, follows from a number."""
    context = tuple((base + slot) % activity_log.FREE for slot in range(min(size, 919)))
    chosen = tuple((slot % size, extent) for slot, extent in updates)
    return activity_log.Transaction(number, chosen, size, size - len(context), context)


TRANSACTIONS = st.builds(
    transaction,
    st.integers(0, (1 << 32) - 1),
    st.lists(st.tuples(st.integers(0, 65533), EXTENTS), max_size=64),
    st.integers(1, 65534),
    EXTENTS,
)
RING_BLOCKS = st.one_of(
    st.none(),
    st.binary(max_size=8).map(lambda junk: junk.ljust(4096, b"\x5a")),
    st.builds(transaction, st.integers(0, 20), st.lists(st.tuples(st.integers(0, 99), EXTENTS), max_size=3),
              st.sampled_from([1, 900, 2000]), EXTENTS),
)  # fmt: skip


@given(SUPERBLOCKS)
def test_superblocks_come_back(value: superblock.Superblock):
    assert superblock.parse(superblock.serialise(value)) == value


@given(st.binary(max_size=5000) | st.binary(min_size=4096, max_size=4096))
def test_garbage_is_a_typed_error(block: bytes):
    with pytest.raises(OnDiskError):
        superblock.parse(block)


@given(st.binary(min_size=96, max_size=96), st.booleans())
def test_garbage_behind_the_right_magic_is_a_value_or_a_typed_error(head: bytes, clean: bool):
    magic = superblock.MAGIC_V08 if clean else superblock.MAGIC_84_UNCLEAN
    block = (head[:60] + magic.to_bytes(4, "big") + head[64:]).ljust(4096, b"\0")
    with suppress(OnDiskError):
        value = superblock.parse(block)
        superblock.check_against_disk(value, MetaKind.INTERNAL, DISK_BYTES)


# What one flipped bit of each byte range does: everything outside these ranges is detected.
UNDETECTED = {
    range(8): "the agreed size, within what the disk has room for: it differs from the peer's, which is noticed there",
    range(8, 48): "an identifier: unrelated data, or another generation; the handshake decides, never silently",
    range(56, 60): "a known flag",
    range(60, 64): "clean or not: read either way as one who must look at the log",
    range(72, 76): "al-extents: what the next primary starts with, from the configuration",
    range(84, 88): "the peer's largest request: learnt again at the next handshake",
}


@pytest.mark.parametrize("name", ["primary-running", "secondary-running"])
def test_every_flipped_bit_is_detected_or_in_a_field_without_a_check(name: str):
    block = GoldenDisk.load(name).block
    for bit in [*range(96 * 8), *range(96 * 8, 4096 * 8, 911)]:
        flipped = bytearray(block)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            superblock.check_against_disk(superblock.parse(bytes(flipped)), MetaKind.INTERNAL, DISK_BYTES)
        except OnDiskError:
            continue
        assert any(bit // 8 in where for where in UNDETECTED), f"bit {bit} of byte {bit // 8} went unnoticed"


@given(TRANSACTIONS)
def test_transactions_come_back(value: activity_log.Transaction):
    assert activity_log.parse_transaction(activity_log.serialise_transaction(value)) == value


@given(TRANSACTIONS, st.integers(0, 4096 * 8 - 1))
def test_a_flipped_bit_of_a_transaction_is_detected(value: activity_log.Transaction, bit: int):
    block = bytearray(activity_log.serialise_transaction(value))
    block[bit // 8] ^= 1 << bit % 8
    assert activity_log.parse_transaction(bytes(block)) is None


@given(st.lists(RING_BLOCKS, min_size=8, max_size=8))
def test_any_ring_is_a_set_or_a_typed_error(blocks: list[activity_log.Transaction | bytes | None]):
    initial = activity_log.initial_ring(1)
    ring = b"".join(
        activity_log.serialise_transaction(each) if isinstance(each, activity_log.Transaction) else each or initial
        for each in blocks
    )
    with suppress(ActivityLogDamagedError):
        found = activity_log.replay(ring)
        assert activity_log.FREE not in found.extents
        assert found.transactions <= 8


@given(st.sets(st.integers(0, 40), max_size=10), st.integers(1, 40 * 8192))
def test_applying_a_log_marks_just_its_extents_and_is_idempotent(extents: set[int], sectors: int):
    bitmap = bytearray(bitmap_bytes(sectors))
    marked = apply_activity_log(bitmap, extents, sectors)
    wanted = {bit for extent in extents for bit in range(extent * 1024, min((extent + 1) * 1024, device_bits(sectors)))}
    assert marked == count(bitmap) == len(wanted)
    assert {bit for first, end in ranges(bitmap) for bit in range(first, end)} == wanted
    assert apply_activity_log(bitmap, extents, sectors) == 0


@given(st.integers(45056, 1 << 50), st.sampled_from(list(MetaKind)))
def test_every_disk_has_a_layout_that_fits_or_a_typed_error(size_bytes: int, kind: MetaKind):
    try:
        layout = layout_for(kind, size_bytes, backing_bytes=size_bytes)
    except DiskTooSmallError:
        return
    assert 0 <= layout.first_byte < layout.end_byte <= size_bytes
    assert layout.superblock_offset_bytes % 4096 == layout.al_offset_bytes % 4096 == layout.bm_offset_bytes % 4096 == 0
    assert bitmap_bytes(layout.max_sectors) <= layout.bm_bytes
    if kind is MetaKind.INTERNAL:
        assert layout.max_sectors * 512 <= layout.first_byte
    again = superblock.check_against_disk(superblock.fresh(layout, 1), kind, size_bytes, backing_bytes=size_bytes)
    assert again == layout


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 3000)), max_size=12), SUPERBLOCKS)
def test_dumps_come_back(runs: list[tuple[int, int]], value: superblock.Superblock):
    value = superblock.log_applied(replace(value, agreed_sectors=65536 * 8))
    bitmap = bytearray(8192)
    for first, length in runs:
        set_range(bitmap, first, min(65536, first + length))
    layout = layout_for(MetaKind.INTERNAL, DISK_BYTES)
    dump = text.parse_dump("".join(text.dump_md(value, layout, bytes(bitmap), "now\ncastor> x")))
    assert dump.bitmap == bitmap
    assert (dump.superblock.ids, dump.superblock.flags) == (value.ids, value.flags)


@given(
    st.text() | st.text(alphabet='version "v08";{}x0123456789abcdef \nuidflags#').map('version "v08"; uuid {'.__add__)
)
def test_any_other_text_is_a_typed_error(anything: str):
    with pytest.raises(DumpSyntaxError, match=r"^line \d+: "):
        text.parse_dump(anything)


@given(st.binary(max_size=70_000), st.integers(0, 1 << 40))
def test_any_disk_is_probed_without_harm(head: bytes, more_bytes: int):
    probe(lambda offset, size: head[offset : offset + size], len(head) + more_bytes)
