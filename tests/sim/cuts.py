"""Power cuts, enumerated: at every step of a workload, with every way in which the caches may be lost.

The workload runs once. At each step of the victim the process forks: the child goes on with the power failed, and forks
once more for each `Case`, a way of losing the caches and a way of going on; the parent goes on as if nothing had
happened. So no prefix is run twice, and every case starts from exactly the state that it names. `replay` runs one case
without forking, with its trace.
"""

import asyncio
import contextlib
import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pydrbd.model.states import DiskState, ReplicationState
from pydrbd.state.generations import plain
from sim.client import Client, GoneError
from sim.node import SimNode
from sim.pair import Pair
from sim.world import PowerCutError

Workload = Callable[[Pair], Coroutine[Any, Any, None]]
Survivors = tuple[tuple[int, int, int], ...]
"""(position in the list of volatile writes, first sector, sectors) of what the platter got."""

SUBSETS_OF = 3
TORN_MAX = 3
ALONE_MAX = 3
LONG_SUBSETS_OF = 6
LONG_MAX = 12


@dataclass(frozen=True, slots=True)
class Case:
    """One state after a cut: where, what survived on each machine that lost its power, and what happens then."""

    victims: str
    step: int
    survivors: tuple[Survivors, ...]
    then: str


def survivals(volatile: list[Any], *, long: bool) -> list[Survivors]:
    """Return the ways in which the cache may have been lost: all of them for few writes, the telling ones for many."""
    whole: list[tuple[int, int, int]] = [(at, 0, one.sectors) for at, (_, _, one) in enumerate(volatile)]
    found: dict[Survivors, None] = {(): None, tuple(whole): None}
    few, many = (LONG_SUBSETS_OF, LONG_MAX) if long else (SUBSETS_OF, ALONE_MAX)
    if len(whole) <= few:
        for chosen in product((False, True), repeat=len(whole)):
            found[tuple(one for one, kept in zip(whole, chosen, strict=True) if kept)] = None
    else:
        for at in _spread(len(whole), many):
            found[tuple(one for one in whole if one[0] != at)] = None
            found[(whole[at],)] = None
    for at in _spread(len(whole), LONG_MAX if long else TORN_MAX):
        sectors = whole[at][2]
        if sectors > 1:
            half = sectors // 2
            found[tuple((at, 0, half) if one[0] == at else one for one in whole)] = None
            found[((at, half, sectors - half),)] = None
    return list(found)


def _spread(count: int, most: int) -> list[int]:
    """Return at most so many of `count` positions, first and last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index * (count - 1) / (most - 1)) for index in range(most)})


@dataclass(slots=True)
class Report:
    """What an enumeration has found."""

    cases: int = 0
    seconds: float = 0.0
    failures: list[tuple[Case, str]] = field(default_factory=list)
    then: Counter[str] = field(default_factory=Counter)
    steps: int = 0


class Enumeration:
    """One workload, one seed, one victim ("castor", "pollux" or "both")."""

    def __init__(self, workload: Workload, seed: int, victims: str, *, long: bool = False, **options: Any) -> None:
        self.workload = workload
        self.seed = seed
        self.victims = victims
        self.long = long
        self.options = options
        self.every = 1
        self.jobs = os.cpu_count() or 1
        self.deadline_s: float | None = None
        self.stop_at_failure = False
        self._children: set[int] = set()
        self._in_child = False
        self._case: Case | None = None
        self._results = -1
        self._armed = False
        self._step = 0
        self._base = 0
        self._began = 0.0
        self._failed = False
        self._loop: Any = None

    # --- the parent --------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Enumerate; return what was found."""
        self._began = time.monotonic()
        with tempfile.NamedTemporaryFile(prefix="cuts-") as results:
            self._results = os.open(results.name, os.O_WRONLY | os.O_APPEND)
            try:
                self._run_forking()
            finally:
                os.close(self._results)
            lines = Path(results.name).read_text(encoding="utf-8").splitlines()
        report = Report(seconds=time.monotonic() - self._began, steps=self._step - self._base)
        for line in lines:
            case, error = eval(line)  # written by `_note`
            report.cases += 1
            report.then[case.then] += 1
            if error:
                report.failures.append((case, error))
        return report

    def _run_forking(self) -> None:
        pair = Pair(self.seed, **self.options)
        world = pair.world
        self._loop = world.loop
        ask = world.ffi.callback("uint32_t(uint32_t, uint64_t)", self._on_step)
        world.lib.sim_ask_at_steps(world.handle, ask)
        error = ""
        try:
            world.run(self._scenario(pair))
        except BaseException as failure:  # noqa: BLE001 - reported by whoever reads the results
            error = _told(failure)
        if self._in_child:
            self._note(error)
            os._exit(0)
        while self._children:
            self._wait()
        world.close()
        assert not error, f"the workload without a cut: {error}"

    def _on_step(self, node: int, step: int) -> int:
        """Fork at a step of the victim; the child's answer is that the power fails."""
        victim = 1 if self.victims == "pollux" else 0
        if self._in_child or not self._armed or node != victim:
            return 0
        self._step = step
        too_late = self.deadline_s is not None and time.monotonic() - self._began > self.deadline_s
        if (step - self._base) % self.every or too_late or (self._failed and self.stop_at_failure):
            return 0
        while len(self._children) >= self.jobs:
            self._wait()
        child = os.fork()
        if child:
            self._children.add(child)
            return 0
        self._in_child = True
        self._case = Case(self.victims, step, (), "the cut itself")
        self._still_running()
        return 1

    def _still_running(self) -> None:
        """Tell asyncio that its loop goes on in this process."""
        asyncio._set_running_loop(self._loop)

    def _wait(self) -> None:
        child, status = os.wait()
        self._children.discard(child)
        self._failed |= status != 0

    def _note(self, error: str) -> None:
        os.write(self._results, f"{(self._case, error)!r}\n".encode())
        if error:
            os._exit(1)

    # --- the child ---------------------------------------------------------------------------------------------------

    async def _scenario(self, pair: Pair) -> None:
        await pair.boot()
        victim = pair.pollux if self.victims == "pollux" else pair.castor
        self._base = pair.world.lib.sim_steps(pair.world.handle, victim.number)
        self._armed = True
        await _until_cut(self.workload(pair), victim)
        if victim.alive:
            self._armed = False
            await pair.at_rest()
            return
        await self._go_on(pair, victim)

    async def _go_on(self, pair: Pair, victim: SimNode) -> None:
        """Fork once for each case; in each child, live it."""
        step = pair.world.lib.sim_steps(pair.world.handle, victim.number) - 1
        dead = [victim]
        if self.victims == "both":
            pair.pollux.cut_power()
            dead.append(pair.pollux)
        listed = [node.disks.volatile() for node in dead]
        failed = False
        cases = list(self._cases(pair, step, listed))
        for case in cases:
            child = os.fork()
            if child == 0:
                self._still_running()
                self._case = case
                break
            failed |= os.waitpid(child, 0)[1] != 0  # noqa: ASYNC222 - simulated time stands meanwhile
        else:
            os._exit(1 if failed else 0)
        await live(pair, case, dead, listed)

    def _cases(self, pair: Pair, step: int, listed: list[list[Any]]) -> Iterator[Case]:
        ways = [survivals(volatile, long=self.long) for volatile in listed]
        if len(ways) > 1 and not self.long:
            ways = [[way[0], way[1], *way[2 + step % 5 : 3 + step % 5]] if len(way) > 2 else way for way in ways]
        for survivors in product(*ways):
            for then in _sequels(pair, self.victims):
                yield Case(self.victims, step, survivors, then)

    # --- one case ----------------------------------------------------------------------------------------------------

    def replay(self, case: Case) -> str:
        """Run one case with its trace, which is returned; a failure carries it as a note."""

        async def scenario(pair: Pair) -> str:
            await pair.boot()
            victim = pair.pollux if case.victims == "pollux" else pair.castor
            pair.world.lib.sim_cut_at(pair.world.handle, victim.number, case.step)
            await _until_cut(self.workload(pair), victim)
            assert not victim.alive, "the step does not come"
            dead = [victim]
            if case.victims == "both":
                pair.pollux.cut_power()
                dead.append(pair.pollux)
            await live(pair, case, dead, [node.disks.volatile() for node in dead])
            return pair.world.trace()

        result: str = Pair.run(scenario, self.seed, **{**self.options, "tracing": True})
        return result


async def _until_cut(work: Coroutine[Any, Any, None], victim: SimNode) -> None:
    """Let the workload run until it is through or the victim dies; a survivor finishes what it can."""
    working = asyncio.ensure_future(work)
    cut = asyncio.ensure_future(victim.power_cut.wait())
    await asyncio.wait({working, cut}, return_when=asyncio.FIRST_COMPLETED)
    if victim.has_power:
        cut.cancel()
        await working
        return
    await cut
    if victim.number == 0:
        working.cancel()
    victim.workload = working


def _sequels(pair: Pair, victims: str) -> list[str]:
    """Return how it can go on."""
    if victims == "both":
        return ["both return"]
    if victims == "pollux":
        return ["pollux returns late", "pollux returns at once"]
    return ["castor returns", "pollux takes over"] if _survivor_has_all(pair) else ["castor returns"]


def _survivor_has_all(pair: Pair) -> bool:
    """Whether pollux had every acknowledged write when castor died; castor need not have heard the end of a resync."""
    survivor = pair.pollux.state
    return (
        pair.castor.state.established
        and survivor.established
        and survivor.disk is DiskState.UP_TO_DATE
        and survivor.replication is ReplicationState.ESTABLISHED
    )


async def live(pair: Pair, case: Case, dead: list[SimNode], listed: list[list[Any]]) -> None:
    """Lose the caches as the case says, and go on to the end."""
    for node, volatile, survivors in zip(dead, listed, case.survivors, strict=True):
        for at, sector, sectors in survivors:
            disk, index, _ = volatile[at]
            node.disks.survive(disk, index, sector, sectors)
        node.disks.lose_the_rest()
        pair.world.say(f"{node.name}: of {[one for _, _, one in volatile]} survived {survivors}")
    if case.victims != "pollux":
        pair.ledger.nobody_knows()
    pair.wire.heal()
    match case.then:
        case "castor returns":
            await _castor_returns(pair, survived=_survivor_has_all(pair))
        case "pollux takes over":
            await _pollux_takes_over(pair)
        case "pollux returns late":
            await _pollux_returns(pair, late=True)
        case "pollux returns at once":
            await _pollux_returns(pair, late=False)
        case "both return":
            await _both_return(pair)


async def _castor_returns(pair: Pair, *, survived: bool) -> None:
    await _alone(pair.pollux)
    await _return_within_bounds(pair, pair.castor)
    client = await pair.promote(pair.castor)
    # If pollux did not have everything, castor is the only one that had: what its cache lost is lost, unless flushed.
    await client.read_all(durable_only=not survived)
    await _use(pair, client)


async def _pollux_takes_over(pair: Pair) -> None:
    await _alone(pair.pollux)
    client = await pair.promote(pair.pollux)
    await client.read_all()
    await client.write(16)
    await client.flush()
    await _return_within_bounds(pair, pair.castor)
    await _use(pair, client)


async def _pollux_returns(pair: Pair, *, late: bool) -> None:
    if late:
        await _finished(pair)
        await _alone(pair.castor)
        await _return_within_bounds(pair, pair.pollux)
    else:
        await pair.pollux.boot()
        await _finished(pair)
        await pair.in_sync()
    connected = [client for client in pair.castor.clients if not client.gone]
    await _use(pair, connected[0] if connected else await pair.promote(pair.castor))


async def _both_return(pair: Pair) -> None:
    await asyncio.gather(*(node.boot() for node in pair.nodes))
    await pair.in_sync()
    client = await pair.promote(pair.castor)
    await client.read_all(durable_only=True)
    await _use(pair, client)


async def _finished(pair: Pair) -> None:
    """Let the application's requests that are under way be answered."""
    with contextlib.suppress(GoneError, PowerCutError):
        await pair.pollux.workload


async def _use(pair: Pair, client: Client) -> None:
    """Read everything, write a little more, flush; then everything must hold."""
    await client.read_all()
    await asyncio.gather(client.write(8), client.write(3 * 8192 + 24))
    await client.flush()
    await client.read_all()
    await pair.at_rest()


async def _alone(node: SimNode) -> None:
    """Wait until a survivor has noticed that its peer is gone, and has done what follows."""
    await node.until(lambda state: state.link is None)
    await asyncio.sleep(1.0)


async def _return_within_bounds(pair: Pair, node: SimNode) -> None:
    """Boot a machine and see it in sync again, with no more copied than bitmaps and activity log allow."""
    survivor = pair.peer_of(node)
    node.power_on()
    allowed = pair.bits_allowed(node) + survivor.bits_set
    if not _counted_from(survivor, pair.current_id(node)):
        allowed = pair.device_sectors // 8
    await node.boot()
    await pair.in_sync()
    copied = node.counters.resync_sectors // 8
    assert copied <= allowed, f"the resync copied {copied} blocks, {allowed} are explained"


def _counted_from(survivor: SimNode, current: int) -> bool:
    """Whether the survivor's bitmap counts from the data that the other node says it has.

    It does not when a target dies before it has taken the source's SYNC_UUID and the source begins a generation: the
    identifiers demand a full sync then, as 8.4's do.
    """
    ids = survivor.state.ids
    return plain(current) in {plain(ids.current), plain(ids.bitmap)} or not ids.bitmap


def _told(failure: BaseException) -> str:
    where = traceback.extract_tb(failure.__traceback__)[-1]
    return f"{type(failure).__name__}: {failure} ({Path(where.filename).name}:{where.lineno})"
