"""Short workloads that touch everything a power cut can hurt."""

import asyncio

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
