"""A block that a disk cannot read, simulated: what a power cut at any moment leaves of the knowledge of it."""

import asyncio
import errno

from pydrbd.model.generation import MdFlag
from pydrbd.model.states import DiskState
from pydrbd.ondisk import superblock
from pydrbd.ondisk.layout import superblock_offset
from sim.node import SimNode
from sim.pair import Pair

BLOCK = 5
SECTOR = BLOCK * 8


def durable_flags(node: SimNode) -> MdFlag:
    """Return the flags that a power cut now would leave."""
    at_bytes = superblock_offset(node.disks.place.kind, node.disks.metadata.size_bytes)
    return superblock.parse(node.disks.metadata.peek(at_bytes, 4096, durable=True)).flags


def fail_once(node: SimNode, kind: str) -> None:
    """The next operation of that kind (`enum sim_step`) on the node's data fails."""
    library = node.world.lib
    library.sim_disk_fail(node.world.handle, node.disks.data.fd, getattr(library, kind), 0, errno.EIO)


def is_marked(node: SimNode) -> bool:
    """Whether a power cut now would leave the block marked out of sync."""
    at_bytes = node.disks.open(node.disks.place).layout.bm_offset_bytes
    return bool(node.disks.metadata.peek(at_bytes, 4096, durable=True)[BLOCK // 8] >> BLOCK % 8 & 1)


async def _kept(pair: Pair) -> None:
    """castor can neither read nor mend a block, and keeps its disk; at each step the disk says what it lacks."""
    await pair.boot()
    castor = pair.castor
    client = await pair.promote(castor)
    await client.write(SECTOR)
    await client.flush()
    forgotten: list[int] = []

    def look(_: int, step: int) -> int:
        if not durable_flags(castor) & MdFlag.CONSISTENT and not is_marked(castor):
            forgotten.append(step)
        return 0

    ask = pair.world.ffi.callback("uint32_t(uint32_t, uint64_t)", look)
    pair.world.lib.sim_ask_at_steps(pair.world.handle, ask)
    fail_once(castor, "SIM_READ")
    fail_once(castor, "SIM_WRITE")
    await client.read_all()
    await castor.until(lambda state: state.disk is DiskState.INCONSISTENT)
    await asyncio.sleep(1.0)
    pair.world.lib.sim_ask_at_steps(pair.world.handle, pair.world.ffi.NULL)
    assert not durable_flags(castor) & MdFlag.CONSISTENT
    assert not forgotten, f"Inconsistent, and the block was not marked on disk, at steps {forgotten}"
    castor.cut_power()
    castor.disks.lose_the_rest()
    pair.ledger.nobody_knows()
    castor.power_on()
    await castor.boot()
    await pair.in_sync()
    assert castor.counters.resync_sectors >= 8, "the block was not copied"
    await (await pair.promote(castor)).read_all()
    await pair.at_rest()


def test_a_block_that_could_not_be_read_is_known_after_a_power_cut() -> None:
    Pair.run(_kept, 3, disk="on-io-error pass_on;")


async def _mended(pair: Pair) -> None:
    """castor cannot read a block, and mends it: its disk says so until the block is durable."""
    await pair.boot()
    castor = pair.castor
    client = await pair.promote(castor)
    await client.write(SECTOR)
    await client.flush()
    fail_once(castor, "SIM_READ")
    too_early: list[int] = []

    def look(number: int, step: int) -> int:
        volatile = [one for disk, _, one in castor.disks.volatile() if disk is castor.disks.data]
        if number == castor.number and volatile and not is_marked(castor):
            too_early.append(step)
        return 0

    ask = pair.world.ffi.callback("uint32_t(uint32_t, uint64_t)", look)
    pair.world.lib.sim_ask_at_steps(pair.world.handle, ask)
    await client.read_all()
    await asyncio.sleep(1.0)
    pair.world.lib.sim_ask_at_steps(pair.world.handle, pair.world.ffi.NULL)
    assert not too_early, f"written while no bit was durable, or the bit cleared before the block was, at {too_early}"
    assert castor.counters.mended_sectors == 8
    assert castor.state.disk is DiskState.UP_TO_DATE
    assert not is_marked(castor)
    await client.read_all()
    await pair.at_rest()


def test_a_block_that_could_not_be_read_is_mended_and_marked_until_that_is_durable() -> None:
    Pair.run(_mended, 5)
