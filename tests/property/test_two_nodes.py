"""Two nodes, a network and a person who types whatever: the promises hold after every step.

Hypothesis chooses commands, writes, deliveries, broken links and crashes. Checked all the time: never two connected
Primaries; a write that the peer misses is acknowledged only after the identifiers on disk say so; a sync target is
Inconsistent on disk before it asks for a block; no resync throws an acknowledged write away unless a person said so.
Checked whenever nothing moves: both replicas are equal where both say UpToDate, identifiers are equal too, and every
command has been answered exactly once.
"""

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.resource_pair import Disk, Item, Node, ResourcePair
from pydrbd.model.commands import Socket
from pydrbd.model.effects import Effect, PersistMetadata, StartResync
from pydrbd.model.events import Connect, Demote, Disconnect, Down, Invalidate, OthersResync, PauseSync, Promote
from pydrbd.model.generation import MdFlag
from pydrbd.model.policies import OnCongestion
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.generations import plain
from pydrbd.state.node_state import Options

BLOCKS = 6
nodes = st.sampled_from(["castor", "pollux"])


class CheckedNode(Node):
    """A node whose disk watches what it is told to do."""

    def __init__(self, name: str, peer: str, uuids: itertools.count, on_congestion: OnCongestion) -> None:
        disk = Disk(BLOCKS * 8, [0] * BLOCKS, bits=set(range(BLOCKS)))
        super().__init__(name, disk, Options(node_name=name, peer_name=peer, on_congestion=on_congestion), uuids)
        self.kept: set[int] = set()
        self.pair: CheckedPair | None = None

    def _submit(self, block: int, value: int) -> None:
        before = dict(self.acknowledged)
        super()._submit(block, value)
        if self.attached:
            self.kept.add(value)
        if self.acknowledged != before:
            self.check_generation("a write without the peer")

    def receive(self, socket: Socket, item: Item) -> None:
        if item.kind in {"write", "rs-reply"}:
            self.kept.add(item.value)
        super().receive(socket, item)

    def _release(self) -> None:
        if self.unacked:
            self.check_generation("release of held writes")
        super()._release()

    def check_generation(self, what: str) -> None:
        if self.attached and self.disk.flags & MdFlag.WAS_UP_TO_DATE:
            known_bad = self.state.established and self.state.peer_disk is DiskState.INCONSISTENT
            assert self.disk.ids.bitmap or known_bad, f"{what} before a new generation is durable on {self.name}"

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, StartResync) and effect.target:
            assert not self.disk.flags & MdFlag.CONSISTENT, "a target asks for blocks while its disk says Consistent"
        if isinstance(effect, PersistMetadata) and effect.flags & MdFlag.WAS_UP_TO_DATE:
            assert self.resync != "target", "a target is UpToDate before its last block"
        super()._perform(effect)
        if isinstance(effect, StartResync) and effect.target and self.pair is not None:
            self.pair.check_overwrite(self)


class CheckedPair(ResourcePair):
    """The pair, which knows what a person has allowed to be thrown away."""

    def __init__(self, castor: CheckedNode, pollux: CheckedNode) -> None:
        super().__init__(castor, pollux)
        castor.pair = pollux.pair = self
        self.allowed = False

    def check_overwrite(self, target: Node) -> None:
        source = self.peer_of(target)
        lost = set(target.acknowledged.values()) - source.kept
        assert not lost or self.allowed, f"{target.name} throws acknowledged writes away: {lost}"


class TwoNodes(RuleBasedStateMachine):
    """What can happen to them."""

    on_congestion = OnCongestion.BLOCK

    @initialize(synced=st.integers(0, 9).map(bool))
    def begin(self, synced: bool) -> None:
        uuids = itertools.count(0x10000, 0x10000)
        self.values = itertools.count(1)
        castor = CheckedNode("castor", "pollux", uuids, self.on_congestion)
        pollux = CheckedNode("pollux", "castor", uuids, self.on_congestion)
        self.pair = CheckedPair(castor, pollux)
        for node in self.pair.nodes:
            node.attach()
            node.command(Connect)
        if synced:
            castor.command(Promote, force=True)
            self.pair.run()
            for node in self.pair.nodes:
                node.disk.hot.clear()

    def node(self, name: str) -> Node:
        return self.pair.castor if name == "castor" else self.pair.pollux

    @rule(name=nodes, force=st.integers(0, 9).map(lambda n: n == 0))
    def promote(self, name: str, force: bool) -> None:
        self.pair.allowed |= force
        self.node(name).command(Promote, force=force)

    @rule(name=nodes)
    def demote(self, name: str) -> None:
        self.node(name).command(Demote)

    @rule(name=nodes, force=st.booleans())
    def disconnect(self, name: str, force: bool) -> None:
        self.node(name).command(Disconnect, force=force)

    @rule(name=nodes, discard=st.integers(0, 5).map(lambda n: n == 0))
    def connect(self, name: str, discard: bool) -> None:
        self.pair.allowed |= discard
        self.node(name).command(Connect, discard_my_data=discard)

    @precondition(lambda self: all(node.state.established for node in self.pair.nodes))
    @rule(name=nodes, peer=st.booleans())
    def invalidate(self, name: str, peer: bool) -> None:
        self.pair.allowed = True
        self.node(name).command(Invalidate, peer=peer)

    @rule(name=nodes, paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:
        self.node(name).command(PauseSync, paused=paused)

    @rule(name=nodes, resyncs=st.booleans())
    def another_resource_resyncs(self, name: str, resyncs: bool) -> None:
        """One that comes before ours begins, or ends: at any moment, for nobody has asked this node."""
        self.node(name).post(OthersResync(("another",) if resyncs else ()))

    @rule(name=nodes, block=st.integers(0, BLOCKS - 1))
    def write(self, name: str, block: int) -> None:
        self.node(name).write(block, next(self.values))

    @rule(name=nodes, blocks=st.lists(st.integers(0, BLOCKS - 1), max_size=4))
    def go_on_alone(self, name: str, blocks: list[int]) -> None:
        """Lose the link, then let one node be Primary and write."""
        self.pair.cut()
        node = self.node(name)
        node.command(Promote)
        for block in blocks:
            node.write(block, next(self.values))

    @rule(steps=st.integers(0, 60))
    def come_back(self, steps: int) -> None:
        """Let both look for each other, and the first packets arrive, in the order of time."""
        for node in self.pair.nodes:
            if node.state.connection is ConnectionState.STANDALONE:
                node.command(Connect)
        for _ in range(steps):
            ready = self.pair.deliverable()
            if ready:
                self.pair.deliver(*ready[0])
            elif self.pair.may_connect():
                self.pair.connect()

    @rule(name=nodes, blocks=st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=4))
    def write_connected(self, name: str, blocks: list[int]) -> None:
        """Let a node be Primary and write, acknowledgements still under way."""
        node = self.node(name)
        node.command(Promote)
        self.pair.run()
        for block in blocks:
            node.write(block, next(self.values))

    @rule(name=nodes)
    def barrier(self, name: str) -> None:
        self.node(name).barrier()

    @rule(data=st.data(), steps=st.integers(1, 12))
    def deliver(self, data: st.DataObject, steps: int) -> None:
        for _ in range(steps):
            ready = self.pair.deliverable()
            if not ready:
                break
            self.pair.deliver(*data.draw(st.sampled_from(ready)))

    @precondition(lambda self: self.pair.may_connect())
    @rule(resolver=nodes)
    def sockets(self, resolver: str) -> None:
        self.pair.connect(self.node(resolver))

    @rule()
    def settle(self) -> None:
        self.pair.run()
        self.check_at_rest()

    @rule()
    def cut(self) -> None:
        self.pair.cut()

    @rule(name=nodes, kill=st.integers(0, 3).map(bool))
    def restart(self, name: str, kill: bool) -> None:
        node = self.node(name)
        if not kill:
            node.command(Down)
            self.pair.run()
            if not node.exited:
                return
        self.pair.crash(node)
        node.answers.clear()
        node.attach()
        node.command(Connect)

    @rule(name=nodes, data=st.data())
    def time_passes(self, name: str, data: st.DataObject) -> None:
        node = self.node(name)
        if node.timers:
            node.timer(data.draw(st.sampled_from(sorted(node.timers))))

    @invariant()
    def never_two_connected_primaries(self) -> None:
        if hasattr(self, "pair"):
            both = [node.state.established and node.state.role is Role.PRIMARY for node in self.pair.nodes]
            assert not all(both)

    @invariant()
    def no_command_is_answered_twice(self) -> None:
        if hasattr(self, "pair"):
            for node in self.pair.nodes:
                assert all(len(answers) <= 1 for answers in node.answers.values())

    def check_at_rest(self) -> None:
        """Nothing is under way any more."""
        castor, pollux = self.pair.nodes
        for node in self.pair.nodes:
            assert node.reading or not node.in_link, f"{node.name} never read on"
            assert node.state.connection not in {ConnectionState.DISCONNECTING, ConnectionState.TEAR_DOWN}
            if not node.state.waiting and node.state.pending is None:
                assert all(len(answers) == 1 for answers in node.answers.values()), node.answers
            assert not node.state.waiting, (node.name, node.state)
            assert node.state.pending is None
            assert not node.at_gate, node.state
        good = DiskState.UP_TO_DATE
        connected = castor.state.established and pollux.state.established
        both_good = castor.state.disk is pollux.state.disk is good
        if connected and both_good:
            assert castor.state.replication is pollux.state.replication is ReplicationState.ESTABLISHED
            assert castor.state.peer_disk is pollux.state.peer_disk is good
            assert plain(castor.disk.ids.current) == plain(pollux.disk.ids.current)
            assert castor.disk.blocks == pollux.disk.blocks
            assert castor.bits == pollux.bits == set()
            self.same_history(castor, pollux)
        if connected and not both_good and good in {castor.state.disk, pollux.state.disk}:
            paused = castor.state.paused or pollux.state.paused
            assert paused, "a resync came to rest before its end"

    def same_history(self, castor: CheckedNode, pollux: CheckedNode) -> None:
        """Equal again: what either had is what both have, and a person's word is used up."""
        castor.kept |= pollux.kept
        pollux.kept |= castor.kept
        self.pair.allowed = False


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
class TestTwoNodes(TwoNodes.TestCase):
    settings = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
