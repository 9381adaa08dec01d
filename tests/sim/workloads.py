"""Short workloads that touch everything a power cut can hurt."""

import asyncio
import errno

from pydrbd.model.events import Demote, Invalidate, PauseSync
from pydrbd.model.states import ReplicationState
from sim.pair import EXTENT_SECTORS as EXTENT
from sim.pair import Pair


async def replicated(pair: Pair) -> None:
    """Writes that overlap, evict extents, are flushed, are written through; connected all the time."""
    client = await pair.promote(pair.castor)
    await asyncio.gather(client.write(8), client.write(EXTENT + 16, 16))
    await client.flush()
    await asyncio.gather(client.write(2 * EXTENT), client.write(24), client.write(24), client.write(20))
    await client.write(3 * EXTENT + 8, fua=True)
    await asyncio.gather(client.flush(), client.write(4 * EXTENT + 64), client.write(2 * EXTENT + 8))
    await client.write(24, 16, zeroes=True)
    await client.write(EXTENT + 128)
    await client.flush()
    await client.write(3 * EXTENT + 16)


async def disconnected(pair: Pair) -> None:
    """The link breaks under writes, comes back, a resync runs while writes go on."""
    client = await pair.promote(pair.castor)
    await client.write(8)
    under_way = asyncio.gather(client.write(16), client.write(EXTENT + 8))
    await asyncio.sleep(0.00015)
    pair.wire.cut()
    await under_way
    await asyncio.gather(client.write(40), client.write(2 * EXTENT + 8, 64))
    await client.flush()
    pair.wire.heal()
    await asyncio.sleep(0.004)
    await asyncio.gather(client.write(48), client.write(2 * EXTENT + 24), client.write(8))
    await pair.in_sync()
    await asyncio.gather(client.write(40), client.write(3 * EXTENT))
    await client.flush()


async def overlapping(pair: Pair) -> None:
    """Many writes to the same few blocks at once, as no file system would dare."""
    client = await pair.promote(pair.castor)
    for _ in range(3):
        await asyncio.gather(*(client.write(8 + at, 16) for at in (0, 4, 8, 0, 12, 4)))
    await client.flush()


async def alone(pair: Pair) -> None:
    """The link breaks, and one node goes on through more extents than the activity log holds."""
    client = await pair.promote(pair.castor)
    await client.write(8)
    pair.wire.cut()
    for extent in range(5):
        await client.write(extent * EXTENT + 16)
    await asyncio.gather(client.write(24), client.write(2 * EXTENT + 24))
    pair.wire.heal()
    await pair.in_sync()
    await client.write(32)


async def broken(pair: Pair) -> None:
    """The link breaks under writes, again and again: some never arrive and are answered all the same."""
    client = await pair.promote(pair.castor)
    await client.write(8)
    for block in (8, 40, 72):
        under_way = asyncio.gather(*(client.write(block + 8 * at) for at in range(4)))
        await asyncio.sleep(0.00006 + pair.world.random.random() * 0.00014)
        pair.wire.cut()
        await under_way
        pair.wire.heal()
        await pair.in_sync()


async def handed_over(pair: Pair) -> None:
    """A node gives up being Primary right behind a write, and the other goes on."""
    client = await pair.promote(pair.castor)
    await asyncio.gather(client.write(8), client.write(EXTENT + 8))
    await pair.demote(pair.castor, client)
    client = await pair.promote(pair.pollux)
    await client.write(16)
    await pair.demote(pair.pollux, client)


async def restarted(pair: Pair) -> None:
    """The program of a Primary is replaced under its client's writes: beside its peer, and without it."""
    client = await pair.promote(pair.castor)
    for has_peer in (True, False):
        if not has_peer:
            pair.wire.cut()
        under_way = asyncio.gather(*(client.write(8 + 16 * at) for at in range(3)), client.write(EXTENT + 8))
        await asyncio.sleep(0.00005)
        restarting = asyncio.ensure_future(pair.castor.restart())
        await asyncio.sleep(0.00005)
        late = asyncio.gather(client.write(64), client.flush(), client.write(16, fua=True))
        await asyncio.gather(restarting, under_way, late)
        await client.write(2 * EXTENT + 8)
        await client.read_all()
    pair.wire.heal()
    await pair.in_sync()
    await client.write(24)


async def swapped(pair: Pair) -> None:
    """The target of a resync is promoted against the peer's data: it reads there, and writes to blocks it lacks."""
    client = await pair.promote(pair.castor)
    await client.write(8)
    pair.wire.cut()
    await asyncio.gather(client.write(40, 32), client.write(EXTENT + 8, 64))
    assert await pair.pollux.command(PauseSync, paused=True) is None
    pair.wire.heal()
    await pair.pollux.until(lambda state: state.replication is ReplicationState.PAUSED_SYNC_T)
    await pair.demote(pair.castor, client)
    client = await pair.promote(pair.pollux)
    await asyncio.gather(client.write(48), client.write(EXTENT + 24, 4))
    await client.read_all()
    assert await pair.pollux.command(PauseSync, paused=False) is None
    await asyncio.gather(client.write(16), client.write(EXTENT + 32))
    await client.flush()
    await pair.in_sync()
    await pair.demote(pair.pollux, client)


async def invalidated(pair: Pair) -> None:
    """A disk is declared bad, and copied whole while writes go on."""
    client = await pair.promote(pair.castor)
    await asyncio.gather(client.write(8), client.write(EXTENT + 8))
    await client.flush()
    await pair.in_sync()  # it may have died, and come back a moment ago
    assert await pair.pollux.command(Invalidate, new_uuid=pair.world.new_uuid()) is None
    await asyncio.gather(client.write(16), client.write(2 * EXTENT + 4, 16))
    await client.flush()
    await pair.in_sync()
    await client.write(24)


async def broken_while_demoted(pair: Pair) -> None:
    """The link breaks while the export is being closed: its last writes are held, by a Secondary."""
    client = await pair.promote(pair.castor)
    await client.write(8)
    under_way = asyncio.gather(client.write(16), client.write(EXTENT + 8), client.write(24), return_exceptions=True)
    await asyncio.sleep(0.00005)
    demoting = asyncio.ensure_future(pair.castor.command(Demote, force=True))
    await asyncio.sleep(0.00005)
    pair.wire.cut()
    assert await demoting is None
    await under_way
    client.close()
    pair.wire.heal()
    await pair.in_sync()
    client = await pair.promote(pair.castor)
    await client.write(32)


async def mended(pair: Pair) -> None:
    """A block cannot be read, and is mended while it is written to."""
    client = await pair.promote(pair.castor)
    await asyncio.gather(client.write(8, 16), client.write(EXTENT + 8))
    await client.flush()
    pair.world.lib.sim_disk_fail(pair.world.handle, pair.castor.disks.data.fd, pair.world.lib.SIM_READ, 0, errno.EIO)
    await asyncio.gather(client.read(8, 8), client.write(20))
    await asyncio.gather(client.write(12), client.read(EXTENT + 8, 8))
    await client.flush()
    await client.write(8)
