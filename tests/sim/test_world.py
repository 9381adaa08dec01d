"""The world without faults: a pair replicates, and the same seed gives the same run."""

from sim.pair import Pair


async def _replicates(pair: Pair) -> str:
    await pair.boot()
    client = await pair.promote(pair.castor)
    for extent in range(4):
        await client.write(extent * 8192 + 8)
    await client.flush()
    await client.read_all()
    await pair.demote(pair.castor, client)
    client = await pair.promote(pair.pollux)
    await client.write(16, fua=True)
    await client.write(24, zeroes=True)
    await client.read_all()
    await pair.at_rest()
    return pair.world.trace()


def test_a_pair_replicates_and_changes_roles() -> None:
    Pair.run(_replicates, 1)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second, other = (Pair.run(_replicates, seed, tracing=True) for seed in (7, 7, 8))
    assert first == second
    assert first != other
