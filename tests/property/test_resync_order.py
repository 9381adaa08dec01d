"""Any order of resyncs, among resources that connect, lose each other and die at any moment.

Each resource is a pair of nodes with the real rules. On each node the resources see at once who resyncs, as they do
under a lock in the kernel. At no moment do two run of which one comes before the other; and in the end all are done.
"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model.events import Connect, Detach, Invalidate, OthersResync, PauseSync, Promote, Resize, Verify
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import SyncParam
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.state.changes import resync_order
from pydrbd.state.changes.resync_order import Place, before, cycle, waits_for
from pydrbd.state.engine_settings import is_resyncing
from pydrbd.state.node_state import Options

NAMES = ("r0", "r1", "r2", "r3")
BLOCKS = 6
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
WITH_DIGEST = SyncParam(250, verify_alg="crc32c")
RUNNING = {ReplicationState.SYNC_SOURCE, ReplicationState.SYNC_TARGET}

PLACES = st.fixed_dictionaries(
    {
        name: st.builds(Place, st.sampled_from([None, *NAMES, "gone"]), st.integers(0, 2), st.booleans())
        for name in NAMES
    }
)
"""Any order, also one that leads back to itself."""


class Site:
    """All resources of two nodes."""

    def __init__(self, order: dict[str, Place], seed: int) -> None:
        self.order = order
        self.random = random.Random(seed)
        self.pairs = {name: _pair(name) for name in order}
        self.down: set[str] = set()
        """Nodes whose daemon does not run, as ``r0 castor``."""
        self.paused_once = False

    def places(self, which: int) -> dict[str, Place]:
        """Return what the daemons of a node have published."""
        found = {}
        for name, pair in self.pairs.items():
            node = pair.nodes[which]
            if f"{name} {node.name}" not in self.down:
                own = self.order[name]
                found[name] = Place(own.after, own.group, is_resyncing(node.state))
        return found

    def tell(self) -> None:
        """Let every daemon see who resyncs on its node, and look at once whether that is kept."""
        for which in (0, 1):
            places = self.places(which)
            for name in places:
                node = self.pairs[name].nodes[which]
                names = waits_for(name, places)
                if names != node.state.waits_for:
                    node.post(OthersResync(names))
            running = {name for name in places if self.pairs[name].nodes[which].state.replication in RUNNING}
            for name in running:
                assert not running & before(name, places), f"{name} does not wait for {running}"
            self.paused_once |= any(
                self.pairs[name].nodes[which].state.replication is ReplicationState.PAUSED_SYNC_T for name in places
            )

    def move(self) -> None:
        """Do one thing to one resource."""
        name = self.random.choice(list(self.pairs))
        pair = self.pairs[name]
        node = self.random.choice(pair.nodes)
        dice = self.random.random()
        ready = pair.deliverable()
        if dice < 0.8 and ready:
            pair.deliver(*self.random.choice(ready))
        elif dice < 0.9 and pair.may_connect():
            pair.connect()
        elif dice < 0.94:
            pair.cut()
            for block in self.random.sample(range(BLOCKS), 2):
                pair.castor.write(block, self.random.randrange(1000))
        elif dice < 0.96:
            node.command(PauseSync, paused=self.random.random() < 0.5)
        elif dice < 0.97:
            pair.crash(node)
            self.down.add(f"{name} {node.name}")
        elif self.down:
            self.up(self.random.choice(sorted(self.down)))

    def up(self, which: str) -> None:
        """Start a daemon again."""
        self.down.discard(which)
        name, host = which.split()
        node = self.pairs[name].castor if host == "castor" else self.pairs[name].pollux
        node.attach()
        node.command(Connect)

    def come_to_rest(self) -> None:
        """Let everybody go on, and nobody pause by a person's word, until nothing moves any more."""
        for which in sorted(self.down):
            self.up(which)
        for pair in self.pairs.values():
            for node in pair.nodes:
                node.command(PauseSync, paused=False)
        for _ in range(10 * len(self.pairs)):
            for pair in self.pairs.values():
                pair.run()
                self.tell()


def _pair(name: str) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    nodes = [
        Node(
            host,
            Disk(BLOCKS * 8, [0] * BLOCKS, GenerationIds(0x10), GOOD, BLOCKS * 8),
            Options(resource=name, node_name=host, sync=WITH_DIGEST),
            uuids,
        )
        for host in ("castor", "pollux")
    ]
    pair = ResourcePair(*nodes)
    for node in pair.nodes:
        node.attach()
        node.command(Connect)
    pair.run()
    pair.castor.command(Promote)
    pair.run()
    return pair


def play(order: dict[str, Place], seed: int, moves: int = 300) -> Site:
    """Play a life; everything must end in sync."""
    site = Site(order, seed)
    for _ in range(moves):
        site.move()
        site.tell()
    site.come_to_rest()
    for name, pair in site.pairs.items():
        for node in pair.nodes:
            state = node.state
            assert state.replication is ReplicationState.ESTABLISHED, (
                name,
                node.name,
                state.replication,
                state.waits_for,
            )
            assert state.disk is state.peer_disk is DiskState.UP_TO_DATE
            assert not state.waits_for
        assert pair.castor.disk.blocks == pair.pollux.disk.blocks
    return site


@given(PLACES, st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_no_two_of_a_chain_run_at_once_and_all_come_to_their_end(order: dict[str, Place], seed: int) -> None:
    play(order, seed)


def test_resyncs_do_wait_in_such_lives() -> None:
    order = {"r0": Place(), "r1": Place("r0"), "r2": Place("r1"), "r3": Place(group=1)}
    assert any(play(order, seed).paused_once for seed in range(3))


def test_a_rule_that_does_not_pause_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync_order, "note", lambda *_: False)
    order = {"r0": Place(), "r1": Place("r0"), "r2": Place("r1"), "r3": Place("r2")}
    with pytest.raises(AssertionError, match="does not wait"):
        all(play(order, seed) for seed in range(10))


@given(PLACES)
def test_somebody_may_always_run(places: dict[str, Place]) -> None:
    resyncing = [name for name, place in places.items() if place.resyncing]
    assert not resyncing or any(not waits_for(name, places) for name in resyncing)


@given(PLACES)
def test_who_comes_before_is_an_order(places: dict[str, Place]) -> None:
    for name, place in places.items():
        earlier = before(name, places)
        assert name not in earlier
        assert all(name not in before(other, places) for other in earlier)
        assert all(before(other, places) <= earlier for other in earlier)
        if not any(cycle(other, places) for other in places):
            lower = {other for other, each in places.items() if each.group < place.group}
            assert lower | ({place.after} & places.keys()) <= earlier


# --- one resource, and an order that changes at any moment ----------------------------------------------------------


def _changes(name: str) -> ResourcePair:
    """Return a pair in which something has just been asked for that ends in sync, with a resync or a verify before."""
    if name == "the first sync":
        pair = _fresh_pair()
        pair.castor.command(Promote, force=True)
        return pair
    pair = _pair("r0")
    match name:
        case "invalidate":
            pair.pollux.command(Invalidate)
        case "invalidate-remote":
            pair.castor.command(Invalidate, peer=True)
        case "resize":
            for node in pair.nodes:
                node.disk.sectors += 8 * BLOCKS
            pair.pollux.command(Resize)
        case "verify" | "verify of the primary's":
            pair.pollux.disk.blocks[2] = 99
            node = pair.pollux if name == "verify" else pair.castor
            node.command(Verify, repair=True)
        case "attach":
            pair.pollux.command(Detach)
            pair.run()
            pair.castor.write(1, 11)
            pair.run()
            pair.pollux.answers[99] = []
            pair.pollux.attach(99)
        case "connect":
            pair.cut()
            pair.castor.write(1, 11)
            pair.connect()
    return pair


def _fresh_pair() -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    nodes = [
        Node(host, Disk(BLOCKS * 8, [0] * BLOCKS, bits=set(range(BLOCKS))), Options(node_name=host), uuids)
        for host in ("castor", "pollux")
    ]
    pair = ResourcePair(*nodes)
    for node in pair.nodes:
        node.attach()
        node.command(Connect)
    pair.run()
    return pair


@pytest.mark.parametrize(
    "change",
    [
        "the first sync",
        "invalidate",
        "invalidate-remote",
        "resize",
        "verify",
        "verify of the primary's",
        "attach",
        "connect",
    ],
)
def test_an_order_that_changes_at_any_moment_costs_no_resync(change: str) -> None:
    for seed in range(150):
        pair, dice = _changes(change), random.Random(seed)
        while ready := pair.deliverable():
            if dice.random() < 0.3:
                node = dice.choice(pair.nodes)
                node.post(OthersResync(("r9",) if dice.random() < 0.5 else ()))
            pair.deliver(*dice.choice(ready))
        for node in pair.nodes:
            node.post(OthersResync(()))
        pair.run()
        for node in pair.nodes:
            state = node.state
            assert state.connection is ConnectionState.CONNECTED, (seed, node.said[-3:])
            assert state.replication is ReplicationState.ESTABLISHED, (seed, node.name, node.said[-3:])
            assert state.disk is state.peer_disk is DiskState.UP_TO_DATE, (seed, node.name, node.said[-3:])
            assert all(each.refusal is None for each in itertools.chain(*node.answers.values())), (seed, node.answers)
            lost = sum(said.rule == "peer-lost" for said in node.said)
            assert lost == (change == "connect"), (seed, node.said)
        assert pair.castor.disk.blocks == pair.pollux.disk.blocks, seed
