"""The activity log: a ring of 4 KiB transactions that name the 4 MiB extents a primary may be writing to.

    offset size field                                 all big endian
         0    4 magic 0x69cb65a2
         4    4 number of the transaction, wraps at 2**32; its place in the ring is number % blocks
         8    4 CRC-32C of the whole block with this field 0, seed 0, nothing inverted
        12    2 type: 0 update, 0xffff initialised
        14    2 number of updates, at most 64
        16    2 context size: the number of slots (al-extents)
        18    2 first slot of the context
        20   16 reserved, 0
        36  128 slot numbers of the updates, unused 0xffff
       164  256 extent numbers of the updates, unused 0xffffffff (also: the slot is free now)
       420 3676 context: what 919 consecutive slots held before the updates, unused or free 0xffffffff

The context windows go round the slots, so that a ring of n blocks always holds the whole set of (n - 1) * 919 slots,
one torn block allowed. A reader takes the newest transaction and those before it without a gap, and replays them in
order. If they do not reach back to where the ring was initialised, their contexts must cover every slot: else an active
extent may be missing, and that is said (`ActivityLogDamagedError`), never guessed.
Source: drbd 8.4.11 `drbd_actlog.c`, drbd-utils `replay_al_84`, `initialize_al`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from pydrbd.ondisk.crc32c import crc32c_kernel
from pydrbd.ondisk.errors import ActivityLogDamagedError
from pydrbd.ondisk.layout import BLOCK_BYTES, DEFAULT_AL_STRIPES, MIN_AL_BLOCKS

AL_MAGIC = 0x69CB65A2
UPDATES_PER_TRANSACTION = 64
CONTEXT_PER_TRANSACTION = 919
TYPE_UPDATE = 0
TYPE_INITIALISED = 0xFFFF
FREE = 0xFFFFFFFF
UNUSED_SLOT = 0xFFFF
FIRST_SEQUENCE = 0
"""The number of the first transaction to write into a ring that `initial_ring` made (`core_disk.al_sequence`)."""

_HEAD = struct.Struct(">IIIHHHH16s")
_UPDATE_SLOTS = struct.Struct(f">{UPDATES_PER_TRANSACTION}H")
_UPDATE_EXTENTS = struct.Struct(f">{UPDATES_PER_TRANSACTION}I")
_CONTEXT = struct.Struct(f">{CONTEXT_PER_TRANSACTION}I")
_CRC_SLICE = slice(8, 12)


@dataclass(frozen=True, slots=True)
class Transaction:
    """One valid block. `updates` are (slot, extent) pairs, `FREE` for a slot that is given up."""

    number: int
    updates: tuple[tuple[int, int], ...] = ()
    context_size: int = 0
    context_start: int = 0
    context: tuple[int, ...] = ()
    type: int = TYPE_UPDATE


@dataclass(frozen=True, slots=True)
class Replay:
    """What a ring says. `next_number` is the number that the next transaction would have."""

    extents: frozenset[int]
    transactions: int
    corrupt_blocks: int
    next_number: int


def max_extents(blocks: int) -> int:
    """Return how many hot extents a ring of so many blocks can remember (6433 for the default 8)."""
    return (blocks - 1) * CONTEXT_PER_TRANSACTION


def block_of(number: int, al_stripes: int, al_stripe_size_4k: int) -> int:
    """Return which 4 KiB block of the area the transaction of this number is written to; stripes take turns."""
    position = number % (al_stripes * al_stripe_size_4k)
    return position % al_stripes * al_stripe_size_4k + position // al_stripes


def parse_transaction(block: bytes) -> Transaction | None:
    """Return the transaction, or None for a block that is torn or was never one."""
    magic, number, checksum, kind, n_updates, size, start, _ = _HEAD.unpack_from(block)
    if magic != AL_MAGIC or kind not in {TYPE_UPDATE, TYPE_INITIALISED}:
        return None
    blank = bytearray(block)
    blank[_CRC_SLICE] = bytes(4)
    if crc32c_kernel(bytes(blank)) != checksum or n_updates > UPDATES_PER_TRANSACTION:
        return None
    slots = _UPDATE_SLOTS.unpack_from(block, _HEAD.size)
    extents = _UPDATE_EXTENTS.unpack_from(block, _HEAD.size + _UPDATE_SLOTS.size)
    context = _CONTEXT.unpack_from(block, _HEAD.size + _UPDATE_SLOTS.size + _UPDATE_EXTENTS.size)
    if kind == TYPE_INITIALISED:
        return Transaction(number, type=kind)
    return Transaction(
        number,
        updates=tuple(zip(slots[:n_updates], extents[:n_updates], strict=True)),
        context_size=size,
        context_start=start,
        context=context[: max(0, size - start)],
    )


def serialise_transaction(transaction: Transaction) -> bytes:
    """Return the 4096 bytes of a transaction, checksum and all."""
    unused = UPDATES_PER_TRANSACTION - len(transaction.updates)
    slots = [slot for slot, _ in transaction.updates] + [UNUSED_SLOT] * unused
    extents = [extent for _, extent in transaction.updates] + [FREE] * unused
    context = list(transaction.context)
    context += [FREE] * (CONTEXT_PER_TRANSACTION - len(context))
    if transaction.type == TYPE_INITIALISED:
        body = bytes(_UPDATE_SLOTS.size + _UPDATE_EXTENTS.size + _CONTEXT.size)
    else:
        body = _UPDATE_SLOTS.pack(*slots) + _UPDATE_EXTENTS.pack(*extents) + _CONTEXT.pack(*context)
    head = _HEAD.pack(
        AL_MAGIC,
        transaction.number,
        0,
        transaction.type,
        len(transaction.updates),
        transaction.context_size,
        transaction.context_start,
        bytes(16),
    )
    block = bytearray(head + body)
    block[_CRC_SLICE] = crc32c_kernel(bytes(block)).to_bytes(4, "big")
    return bytes(block)


@cache
def _initialised_block() -> bytes:
    return serialise_transaction(Transaction(0, type=TYPE_INITIALISED))


def initial_ring(blocks: int = MIN_AL_BLOCKS) -> bytes:
    """Return the activity log as `create-md` and `apply-al` write it: every block valid, and of type initialised."""
    return _initialised_block() * blocks


def replay(ring: bytes, al_stripes: int = DEFAULT_AL_STRIPES) -> Replay:
    """Return the extents that were active when the newest transaction was written.

    `ring` is the whole activity log area. Raise `ActivityLogDamagedError` if extents may be missing.
    """
    blocks = len(ring) // BLOCK_BYTES
    by_position: list[Transaction | None] = []
    for position in range(blocks):
        start = block_of(position, al_stripes, blocks // al_stripes) * BLOCK_BYTES
        by_position.append(parse_transaction(ring[start : start + BLOCK_BYTES]))
    corrupt_blocks = by_position.count(None)
    valid = [each for each in by_position if each is not None]
    updates = [
        each
        for position, each in enumerate(by_position)
        if each is not None and each.type == TYPE_UPDATE and each.number % blocks == position
    ]
    if not updates:
        # One torn block is the very first transaction, whose extent was not written to yet.
        if corrupt_blocks > 1 or not valid:
            raise _damaged(corrupt_blocks, blocks)
        return Replay(frozenset(), 0, corrupt_blocks, FIRST_SEQUENCE)
    newest = _newest(updates)
    run, begins_fresh = _run_up_to(newest, by_position, blocks)
    slots = _replayed(run)
    if not begins_fresh and not _contexts_cover_every_slot(run):
        raise _damaged(corrupt_blocks, blocks)
    extents = frozenset(extent for extent in slots.values() if extent != FREE)
    return Replay(extents, len(run), corrupt_blocks, (newest.number + 1) % (1 << 32))


def _newest(updates: list[Transaction]) -> Transaction:
    """Return the transaction with the greatest number, 2**32 wrapping: none is half the range ahead of another."""
    newest = updates[0]
    for each in updates:
        if 0 < (each.number - newest.number) % (1 << 32) < 1 << 31:
            newest = each
    return newest


def _run_up_to(
    newest: Transaction, by_position: list[Transaction | None], blocks: int
) -> tuple[list[Transaction], bool]:
    """Return the transactions up to the newest without a gap, oldest first; and whether the ring was fresh before."""
    run = [newest]
    while len(run) < blocks:
        number = (run[-1].number - 1) % (1 << 32)
        before = by_position[number % blocks]
        if before is None:
            break
        if before.type == TYPE_INITIALISED:
            run.reverse()
            return run, True
        if before.number != number:
            break
        run.append(before)
    run.reverse()
    return run, False


def _replayed(run: list[Transaction]) -> dict[int, int]:
    slots: dict[int, int] = {}
    for transaction in run:
        for index, extent in enumerate(transaction.context):
            slots[transaction.context_start + index] = extent
        slots.update(transaction.updates)
    return slots


def _contexts_cover_every_slot(run: list[Transaction]) -> bool:
    """Tell whether the windows, all of the newest geometry, leave no slot out."""
    size = run[-1].context_size
    covered: set[int] = set()
    for transaction in run:
        if transaction.context_size != size:
            return False
        start = transaction.context_start
        covered.update(range(start, start + len(transaction.context)))
    return covered >= set(range(size))


def _damaged(corrupt_blocks: int, blocks: int) -> ActivityLogDamagedError:
    return ActivityLogDamagedError(
        f"the activity log is damaged ({corrupt_blocks} of {blocks} blocks corrupt), so active extents may be missing;"
        " `pydrbd apply-al --force` marks the whole device out of sync instead"
    )
