"""A random life of a pair: an application writes to whoever is Primary while machines and link fail, one after another.

At most one fault is repaired by waiting: both are in sync before a Primary is ever left for the other node, for nothing
but fencing could make anything else safe. After each fault everything that was promised is read back.
"""

import asyncio
import contextlib
import errno
from collections.abc import Iterator
from random import Random

from pydrbd.model.events import Verify
from pydrbd.model.states import ReplicationState
from sim.client import Client, GoneError
from sim.node import SimNode
from sim.pair import EXTENT_SECTORS, Pair
from sim.world import PowerCutError

ROUNDS = 6
BLOCKS = 12
VERIFIES = 6
VERIFIED_SECTORS = 96


async def chaos(pair: Pair) -> None:
    """Live so many rounds, a fault in each."""
    await pair.boot()
    primary = pair.castor
    client = await pair.promote(primary)
    for _ in range(ROUNDS):
        fault = pair.world.random.choice(_FAULTS)
        pair.world.say(f"--- {fault.__name__}")
        primary, client = await fault(pair, primary, client)
        await client.read_all()
        if pair.world.random.random() < 0.5:
            await _burst(pair, client)
    await pair.in_sync()
    await pair.at_rest()


async def verifies(pair: Pair) -> None:
    """Compare what is being written, again and again, from either side: nothing may ever be taken for a difference."""
    await pair.boot()
    client = await pair.promote(pair.world.random.choice(pair.nodes))
    for round_ in range(VERIFIES):
        over = asyncio.Event()
        extent = pair.world.random.randrange(5) * EXTENT_SECTORS
        writing = [asyncio.ensure_future(_write_until(over, pair, client, extent)) for _ in range(6)]
        await asyncio.sleep(pair.world.random.random() * 0.002)
        stop = extent + VERIFIED_SECTORS
        refusal = await pair.nodes[round_ % 2].command(Verify, start_sector=extent, stop_sector=stop)
        assert refusal is None, refusal
        for node in pair.nodes:
            await node.until(lambda state: state.replication is ReplicationState.ESTABLISHED)
        over.set()
        await asyncio.gather(*writing)
        await pair.at_rest()


async def _write_until(over: asyncio.Event, pair: Pair, client: Client, extent: int) -> None:
    """Write to the blocks under verify, one write after the other."""
    chance = pair.world.random
    while not over.is_set():
        await client.write(extent + chance.randrange(VERIFIED_SECTORS - 16), chance.choice((1, 8, 8, 16)))


def _places(chance: Random) -> Iterator[tuple[int, int]]:
    """Yield blocks in several extents, often the same, sometimes long or half."""
    while True:
        extent = chance.randrange(5)
        sector = extent * EXTENT_SECTORS + chance.randrange(BLOCKS) * 8 + chance.choice((0, 0, 0, 4))
        yield sector, chance.choice((8, 8, 8, 4, 16, 64))


async def _burst(pair: Pair, client: Client) -> None:
    """Write and flush, several requests at once. Raises GoneError."""
    chance = pair.world.random
    places = _places(chance)
    for _ in range(chance.randint(1, 3)):
        requests = []
        for _ in range(chance.randint(1, 5)):
            sector, sectors = next(places)
            kind = chance.random()
            requests.append(client.write(sector, sectors, zeroes=kind < 0.1, fua=0.1 < kind < 0.2))
        if chance.random() < 0.4:
            requests.append(client.flush())
        done = await asyncio.gather(*requests, return_exceptions=True)
        for one in done:
            if isinstance(one, BaseException):
                raise one


async def _under_load(pair: Pair, client: Client) -> "asyncio.Task[None]":
    """Start a burst, and return at a random moment of it."""
    burst = asyncio.ensure_future(_burst(pair, client))
    await asyncio.sleep(pair.world.random.random() * 0.0008)
    return burst


async def _finish(burst: "asyncio.Task[None]") -> None:
    with contextlib.suppress(GoneError, PowerCutError):
        await burst


async def link_breaks(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    burst = await _under_load(pair, client)
    pair.wire.cut(tell=pair.world.random.random() < 0.7)
    await asyncio.sleep(pair.world.random.choice((0.0, 0.01, 20.0)))
    await _finish(burst)
    if pair.world.random.random() < 0.5:
        await _burst(pair, client)
    pair.wire.heal()
    await pair.in_sync()
    return primary, client


async def half_cut(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    """One direction is lost, nobody is told."""
    burst = await _under_load(pair, client)
    pair.wire.cut(tell=False, directions=(pair.world.random.randrange(2),))
    pair.wire.heal()
    await _finish(burst)
    await pair.in_sync()
    return primary, client


async def secondary_dies(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    secondary = pair.peer_of(primary)
    burst = await _under_load(pair, client)
    _die(pair, secondary)
    await asyncio.sleep(pair.world.random.choice((0.0, 0.001, 15.0)))
    if pair.world.random.random() < 0.5:
        await _finish(burst)
    await secondary.boot()
    await _finish(burst)
    await pair.in_sync()
    return primary, client


async def primary_dies_and_returns(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    burst = await _under_load(pair, client)
    lost = _die(pair, primary)
    await _finish(burst)
    pair.ledger.nobody_knows()
    await asyncio.sleep(pair.world.random.choice((0.0, 15.0)))
    await primary.boot()
    await pair.in_sync()
    client = await pair.promote(primary)
    await client.read_all(durable_only=lost)
    await client.flush()
    return primary, client


async def primary_dies_and_the_other_takes_over(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    await pair.in_sync()
    survivor = pair.peer_of(primary)
    burst = await _under_load(pair, client)
    _die(pair, primary)
    await _finish(burst)
    pair.ledger.nobody_knows()
    await survivor.until(lambda state: state.link is None)
    client = await pair.promote(survivor)
    await client.read_all()
    await _burst(pair, client)
    await primary.boot()
    await pair.in_sync()
    return survivor, client


async def both_lose_their_power(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    burst = await _under_load(pair, client)
    for node in pair.nodes:
        node.cut_power()
        _lose_caches(pair, node)
    await _finish(burst)
    pair.ledger.nobody_knows()
    await asyncio.gather(*(node.boot() for node in pair.nodes))
    await pair.in_sync()
    client = await pair.promote(primary)
    await client.read_all(durable_only=True)
    await client.flush()
    return primary, client


async def roles_swap(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    await _burst(pair, client)
    await pair.in_sync()
    await pair.demote(primary, client)
    other = pair.peer_of(primary)
    return other, await pair.promote(other)


async def a_block_goes_bad(pair: Pair, primary: SimNode, client: Client) -> tuple[SimNode, Client]:
    """The Primary's disk cannot read a block, once; sometimes the link breaks while it is being mended."""
    await _burst(pair, client)
    await pair.in_sync()
    burst = await _under_load(pair, client)
    pair.world.lib.sim_disk_fail(pair.world.handle, primary.disks.data.fd, pair.world.lib.SIM_READ, 0, errno.EIO)
    await client.read_all()
    if pair.world.random.random() < 0.5:
        await asyncio.sleep(pair.world.random.random() * 0.001)
        pair.wire.cut(tell=pair.world.random.random() < 0.7)
    await _finish(burst)
    pair.wire.heal()
    await pair.in_sync()
    return primary, client


_FAULTS = (
    a_block_goes_bad,
    link_breaks,
    half_cut,
    secondary_dies,
    primary_dies_and_returns,
    primary_dies_and_the_other_takes_over,
    both_lose_their_power,
    roles_swap,
)


def _die(pair: Pair, node: SimNode) -> bool:
    """Kill the process, or cut the machine's power. True: caches were lost."""
    if pair.world.random.random() < 0.4:
        node.kill()
        return False
    node.cut_power()
    _lose_caches(pair, node)
    return True


def _lose_caches(pair: Pair, node: SimNode) -> None:
    """Every sector on its own, or all, or none."""
    chance = pair.world.random
    kept = chance.choice((0.0, 0.3, 0.7, 1.0))
    for disk, index, one in node.disks.volatile():
        for sector in range(one.sectors):
            if chance.random() < kept:
                node.disks.survive(disk, index, sector, 1)
    node.disks.lose_the_rest()
