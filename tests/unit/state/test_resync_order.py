"""A resync that has to wait for another resource of its node: `resync-after`, `sync-group`."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects
from pydrbd.model.commands import Command, Socket
from pydrbd.model.events import (
    Connect,
    Disconnect,
    HandlerEnded,
    Invalidate,
    OthersResync,
    PacketReceived,
    PauseSync,
    Promote,
)
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import State
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState
from pydrbd.state.changes.resync_order import Place, before, cycle, waits_for
from pydrbd.state.engine_settings import is_resyncing
from pydrbd.state.node_state import Options
from pydrbd.wire.states import unpack_state

BLOCKS = 8
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
OTHER = ("r0",)


def pair_with(*handlers: str) -> ResourcePair:
    """Return two nodes in sync, castor Primary, each with these handlers."""
    uuids = itertools.count(0x1000, 0x1000)
    nodes = []
    for name in ("castor", "pollux"):
        disk = Disk(BLOCKS * 8, [0] * BLOCKS, GenerationIds(0x10), GOOD, BLOCKS * 8)
        nodes.append(Node(name, disk, Options(resource="r1", node_name=name, handlers=frozenset(handlers)), uuids))
    pair = ResourcePair(*nodes)
    for node in pair.nodes:
        node.attach()
        node.command(Connect)
    pair.run()
    pair.castor.command(Promote)
    pair.run()
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    return pair_with()


def part(pair: ResourcePair) -> None:
    """Let castor write while pollux is away, so that the next connection means a resync."""
    token = pair.castor.command(Disconnect)
    pair.run()
    assert pair.castor.answers[token][0].refusal is None
    assert pair.castor.write(3, 33)


def meet(pair: ResourcePair) -> None:
    pair.castor.command(Connect)
    pair.run()


def replications(pair: ResourcePair) -> tuple[str, str]:
    return str(pair.castor.state.replication), str(pair.pollux.state.replication)


def states_sent(node: Node) -> list[State]:
    return [unpack_state(payload) for _, command, payload in node.sent if command == Command.STATE]


def asked_for(node: Node) -> list[effects.StartResync]:
    return [each for each in node.performed if isinstance(each, effects.StartResync)]


# --- who comes before whom ------------------------------------------------------------------------------------------


def test_the_whole_chain_is_looked_at() -> None:
    places = {"a": Place(resyncing=True), "b": Place("a"), "c": Place("b"), "d": Place()}
    assert waits_for("c", places) == ("a",)
    assert waits_for("d", places) == ()


def test_a_chain_ends_at_a_resource_that_is_not_up() -> None:
    assert waits_for("c", {"a": Place(resyncing=True), "c": Place("b")}) == ()


def test_a_group_waits_for_all_lower_ones_and_not_for_its_own() -> None:
    places = {"a": Place(group=0, resyncing=True), "b": Place(group=1, resyncing=True), "c": Place(group=1)}
    assert waits_for("c", places) == ("a",)
    assert before("a", places) == frozenset()


def test_an_order_that_leads_back_to_itself_holds_nobody_back() -> None:
    places = {"a": Place("b", resyncing=True), "b": Place("a", resyncing=True), "c": Place("a")}
    assert waits_for("a", places) == waits_for("b", places) == ()
    assert waits_for("c", places) == ("a", "b")
    assert cycle("a", places) == {"a", "b"}
    assert cycle("c", places) == frozenset()


# --- what a resource does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["castor", "pollux"])
def test_a_resync_begins_at_rest_while_another_comes_first_and_goes_on_by_itself(pair: ResourcePair, who: str) -> None:
    waiting = pair.castor if who == "castor" else pair.pollux
    part(pair)
    waiting.post(OthersResync(OTHER))
    meet(pair)
    assert replications(pair) == ("PausedSyncS", "PausedSyncT")
    assert not any(each.target for node in pair.nodes for each in asked_for(node)), "no block may be asked for"
    assert waiting.state.waits_for == OTHER
    assert pair.peer_of(waiting).state.peer_waits
    assert any("waits for that of r0" in each.sentence for each in waiting.said)
    waiting.post(OthersResync(()))
    pair.run()
    assert replications(pair) == ("Established", "Established")
    assert pair.pollux.disk.blocks[3] == 33
    assert not pair.peer_of(waiting).state.peer_waits


@pytest.mark.parametrize("who", ["castor", "pollux"])
def test_a_resync_that_runs_is_paused_when_one_that_comes_before_begins(pair: ResourcePair, who: str) -> None:
    waiting = pair.castor if who == "castor" else pair.pollux
    part(pair)
    pair.castor.command(Connect)
    pair.connect()
    while replications(pair) != ("SyncSource", "SyncTarget"):
        pair.deliver(*pair.deliverable()[0])
    waiting.post(OthersResync(OTHER))
    assert waiting.state.replication in {ReplicationState.PAUSED_SYNC_S, ReplicationState.PAUSED_SYNC_T}
    assert states_sent(waiting)[-1].after_paused


@pytest.mark.parametrize("who", ["castor", "pollux"])
def test_whom_a_resync_waits_for_is_looked_up_when_it_begins(pair: ResourcePair, who: str) -> None:
    waiting = pair.castor if who == "castor" else pair.pollux
    post = waiting.post

    def post_looked_up(event: object) -> None:
        post(replace(event, waits_for=OTHER) if hasattr(event, "waits_for") else event)  # type: ignore[type-var, arg-type]

    part(pair)
    waiting.post = post_looked_up  # type: ignore[method-assign]
    meet(pair)
    assert replications(pair) == ("PausedSyncS", "PausedSyncT")


def test_the_packets_bit_is_set_in_both_directions_and_is_not_the_users(pair: ResourcePair) -> None:
    pair.castor.post(OthersResync(OTHER))
    pair.run()
    said, heard = states_sent(pair.castor)[-1], pair.pollux.state
    assert (said.after_paused, said.user_paused, said.peer_paused) == (True, False, False)
    assert (heard.peer_waits, heard.peer_paused, heard.user_paused) == (True, False, False)
    pair.pollux.command(PauseSync, paused=True)
    said = states_sent(pair.pollux)[-1]
    assert (said.after_paused, said.user_paused, said.peer_paused) == (False, True, True)


def test_each_reason_holds_a_resync_by_itself(pair: ResourcePair) -> None:
    part(pair)
    pair.castor.post(OthersResync(OTHER))
    pair.castor.command(PauseSync, paused=True)
    meet(pair)
    pair.castor.post(OthersResync(()))
    pair.run()
    assert replications(pair) == ("PausedSyncS", "PausedSyncT")
    pair.castor.command(PauseSync, paused=False)
    pair.run()
    assert replications(pair) == ("Established", "Established")


def test_resume_sync_says_why_a_resync_rests_all_the_same(pair: ResourcePair) -> None:
    part(pair)
    pair.castor.post(OthersResync(OTHER))
    meet(pair)
    refused = {node.name: node.command(PauseSync, paused=False) for node in pair.nodes}
    assert pair.castor.answers[refused["castor"]][0].refusal is Refusal.PAUSE_BY_ORDER
    assert pair.pollux.answers[refused["pollux"]][0].refusal is Refusal.PAUSE_BY_PEER


def test_the_others_hear_of_a_resync_before_it_begins_and_of_its_end_afterwards(pair: ResourcePair) -> None:
    part(pair)
    for node in pair.nodes:
        node.performed.clear()
    meet(pair)
    for node in pair.nodes:
        told = [each for each in node.performed if isinstance(each, effects.SetResyncing)]
        assert told == [effects.SetResyncing(resyncing=True), effects.SetResyncing(resyncing=False)]
        assert node.performed.index(told[0]) < node.performed.index(asked_for(node)[0])
    stop = pair.castor.performed.index(effects.StopResync())
    assert stop < pair.castor.performed.index(effects.SetResyncing(resyncing=False))


@pytest.mark.parametrize("loss", ["cut", "crash"])
def test_who_loses_its_peer_is_not_waited_for_any_more(pair: ResourcePair, loss: str) -> None:
    part(pair)
    pair.castor.post(OthersResync(OTHER))
    meet(pair)
    assert is_resyncing(pair.castor.state)
    if loss == "cut":
        pair.cut()
    else:
        pair.crash(pair.pollux)
    assert not is_resyncing(pair.castor.state)
    assert pair.castor.performed[-1] != effects.SetResyncing(resyncing=True)
    assert effects.SetResyncing(resyncing=False) in pair.castor.performed


def test_who_only_waits_and_has_nothing_to_copy_holds_nobody_back(pair: ResourcePair) -> None:
    pair.castor.post(OthersResync(OTHER))
    pair.run()
    assert pair.pollux.state.peer_waits
    assert not any(is_resyncing(node.state) for node in pair.nodes)
    pair.castor.command(PauseSync, paused=True)
    pair.run()
    assert all(is_resyncing(node.state) for node in pair.nodes), "a person's pause does"


def test_the_handlers_run_once_at_the_begin_and_at_the_end_however_long_a_resync_waits() -> None:
    pair = pair_with("before-resync-target", "after-resync-target", "before-resync-source")
    part(pair)
    pair.pollux.post(OthersResync(OTHER))
    meet(pair)

    def run_on(node: Node) -> list[str]:
        return [each.name for each in node.performed if isinstance(each, effects.RunHandler) and "resync" in each.name]

    assert run_on(pair.pollux) == ["before-resync-target"], "before the first write of the Primary changes anything"
    assert run_on(pair.castor) == ["before-resync-source"]
    pair.pollux.post(OthersResync(()))
    pair.run()
    assert replications(pair) == ("SyncSource", "SyncTarget")
    assert pair.pollux.disk.blocks[3] == 0, "the handler has not ended"
    pair.pollux.post(HandlerEnded("before-resync-target", 0))
    pair.run()
    assert replications(pair) == ("Established", "Established")
    assert run_on(pair.pollux) == ["before-resync-target", "after-resync-target"]
    assert run_on(pair.castor) == ["before-resync-source"]


def test_a_pause_that_crosses_our_wish_to_resync_is_no_refusal(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.state = replace(castor.state, replication=ReplicationState.WF_BITMAP_S)
    crossing = replace(states_sent(pair.pollux)[-1], after_paused=True)
    assert crossing.replication is ReplicationState.ESTABLISHED
    assert crossing.disk is crossing.peer_disk is DiskState.UP_TO_DATE
    castor.reading = False
    castor.post(PacketReceived(replace(crossing, peer_role=castor.state.role), 1))
    assert castor.state.established
    assert castor.state.peer_waits
    castor.post(PacketReceived(replace(crossing, peer_role=castor.state.role), 1))
    assert not castor.state.established, "but the same word again, without anything new in it, is one"


def test_a_pause_that_crosses_our_consent_is_not_taken_for_what_we_consented_to() -> None:
    uuids = itertools.count(0x1000, 0x1000)
    disks = [Disk(BLOCKS * 8, [0] * BLOCKS, bits=set(range(BLOCKS))) for _ in range(2)]
    pair = ResourcePair(Node("castor", disks[0], Options(), uuids), Node("pollux", disks[1], Options(), uuids))
    for node in pair.nodes:
        node.attach()
        node.command(Connect)
    pair.run()
    pair.castor.command(Promote, force=True)
    pair.deliver(pair.pollux, Socket.DATA)
    pair.pollux.reading = False
    pair.pollux.post(PacketReceived(replace(states_sent(pair.castor)[-1], after_paused=True), BLOCKS))
    pair.run()
    assert [node.state.disk for node in pair.nodes] == [DiskState.UP_TO_DATE] * 2


def test_nothing_is_noted_while_the_peer_has_not_answered_a_request(pair: ResourcePair) -> None:
    pair.pollux.command(Invalidate)
    sent = len(pair.pollux.sent)
    pair.pollux.post(OthersResync(OTHER))
    assert (pair.pollux.state.waits_for, len(pair.pollux.sent)) == ((), sent)


def test_nothing_is_noted_during_a_handshake_and_everything_after_it(pair: ResourcePair) -> None:
    part(pair)
    pair.castor.command(Connect)
    pair.connect()
    pair.castor.post(OthersResync(OTHER))
    assert pair.castor.state.waits_for == ()
    pair.run()
    pair.castor.post(OthersResync(OTHER))
    assert pair.castor.state.waits_for == OTHER
    assert states_sent(pair.castor)[-1].after_paused
