"""The activity log: the kernel's transactions, and rings that crashes have left behind."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from fakes.golden_disk import GoldenDisk
from pydrbd.ondisk.activity_log import (
    CONTEXT_PER_TRANSACTION,
    FREE,
    TYPE_INITIALISED,
    Transaction,
    block_of,
    initial_ring,
    max_extents,
    parse_transaction,
    replay,
    serialise_transaction,
)
from pydrbd.ondisk.errors import ActivityLogDamagedError

LoadGolden = Callable[[str], GoldenDisk]


@dataclass
class Writer:
    """A primary's log, written by the kernel's rules."""

    size: int
    blocks: int = 8
    stripes: int = 1
    number: int = 0
    cycle: int = 0
    slots: list[int] = field(default_factory=list)
    ring: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.slots = [FREE] * self.size
        self.ring = bytearray(initial_ring(self.blocks))

    def place(self, number: int) -> slice:
        at = block_of(number, self.stripes, self.blocks // self.stripes) * 4096
        return slice(at, at + 4096)

    def write(self, *updates: tuple[int, int]) -> None:
        context = self.slots[self.cycle : self.cycle + CONTEXT_PER_TRANSACTION]
        block = Transaction(self.number, updates, self.size, self.cycle, tuple(context))
        self.ring[self.place(self.number)] = serialise_transaction(block)
        self.number = (self.number + 1) % (1 << 32)
        self.cycle += CONTEXT_PER_TRANSACTION
        if self.cycle >= self.size:
            self.cycle = 0
        for slot, extent in updates:
            self.slots[slot] = extent

    @property
    def active(self) -> set[int]:
        return {extent for extent in self.slots if extent != FREE}


def test_the_kernels_transactions_are_written_back_to_the_byte(golden_disk: GoldenDisk):
    for start in range(0, len(golden_disk.ring), 4096):
        block = golden_disk.ring[start : start + 4096]
        transaction = parse_transaction(block)
        assert transaction is not None
        assert serialise_transaction(transaction) == block


def test_the_kernels_rings_name_their_extents(golden: LoadGolden):
    running = replay(golden("primary-running").ring)
    assert running.extents == {0, 1}
    assert (running.transactions, running.corrupt_blocks, running.next_number) == (2, 0, 2)
    assert replay(golden("secondary-running").ring).extents == set()


def test_a_fresh_ring_is_the_kernels(golden: LoadGolden):
    assert golden("secondary-running").ring == initial_ring(8)
    assert replay(initial_ring(8)).next_number == 0
    first = parse_transaction(initial_ring(1))
    assert first is not None
    assert first.type == TYPE_INITIALISED


def test_the_default_ring_remembers_6433_extents():
    assert max_extents(8) == 6433


@pytest.mark.parametrize("size", [1, 64, 1237, 6433])
@pytest.mark.parametrize("stripes", [1, 2])
def test_a_ring_that_has_gone_round_names_every_active_extent(size: int, stripes: int):
    chance = random.Random(size)
    log = Writer(size, stripes=stripes)
    for _ in range(40):
        chosen = chance.sample(range(size), min(size, chance.randint(1, 64)))
        log.write(*((slot, chance.choice([FREE, chance.randrange(1 << 20)])) for slot in chosen))
        assert replay(bytes(log.ring), stripes).extents == log.active
    assert replay(bytes(log.ring), stripes).next_number == 40


def test_numbers_wrap():
    log = Writer(100, number=(1 << 32) - 3)
    for extent in range(6):
        log.write((extent, extent))
    assert replay(bytes(log.ring)).extents == set(range(6))
    assert replay(bytes(log.ring)).next_number == 3


def test_a_torn_transaction_never_happened_because_its_write_had_not_begun():
    for written in range(1, 20):
        log = Writer(6433)
        for extent in range(written):
            log.write((extent % 6433, extent))
        before = set(log.active)
        log.write((6000, 77777))
        torn = log.place(log.number - 1)
        log.ring[torn.start + 2048 : torn.stop] = bytes(2048)
        found = replay(bytes(log.ring))
        assert found.extents == before
        assert found.corrupt_blocks == 1


def test_the_very_first_transaction_may_be_torn():
    ring = bytearray(initial_ring(8))
    ring[100] ^= 1
    assert replay(bytes(ring)).extents == set()


def test_lost_blocks_that_later_ones_make_up_for_are_no_matter():
    log = Writer(64)
    for extent in range(20):
        log.write((extent, extent))
    log.ring[log.place(14)] = bytes(4096)
    assert replay(bytes(log.ring)).extents == set(range(20))


def test_a_lost_block_that_might_name_an_extent_is_said():
    log = Writer(6433)
    for extent in range(20):
        log.write((extent, extent))
    log.ring[log.place(16)] = bytes(4096)
    with pytest.raises(ActivityLogDamagedError, match=r"1 of 8 blocks corrupt.*apply-al --force"):
        replay(bytes(log.ring))


def test_a_ring_without_one_valid_block_is_no_log():
    for junk in (bytes(32768), b"\xa5" * 32768):
        with pytest.raises(ActivityLogDamagedError, match="8 of 8"):
            replay(junk)


def test_a_ring_that_a_crash_left_half_initialised_is_read():
    log = Writer(6433)
    for extent in range(12):
        log.write((extent, extent))
    for cut in range(1, 8):
        half = bytes(log.ring)
        ring = initial_ring(cut) + half[cut * 4096 :]
        assert replay(ring).extents <= log.active


def test_stripes_take_turns():
    assert [block_of(number, 2, 4) for number in range(9)] == [0, 4, 1, 5, 2, 6, 3, 7, 0]
    assert [block_of(number, 1, 8) for number in (0, 7, 8)] == [0, 7, 0]


def test_too_many_updates_are_no_transaction():
    block = bytearray(serialise_transaction(Transaction(1, ((0, 1),), 10, 0, (FREE,) * 10)))
    assert parse_transaction(bytes(block)) is not None
    block[14:16] = (65).to_bytes(2, "big")
    assert parse_transaction(bytes(block)) is None
