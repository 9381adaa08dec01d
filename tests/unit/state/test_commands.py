"""Commands on one node and on two: what is granted, what is refused, with which of DRBD's reasons."""

from __future__ import annotations

import itertools

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects
from pydrbd.model.commands import Socket
from pydrbd.model.events import (
    ClientsChanged,
    Connect,
    Demote,
    Disconnect,
    Down,
    Invalidate,
    Outdate,
    PauseSync,
    Promote,
)
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.node_state import Options

BLOCKS = 8
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE

UUIDS = itertools.count(0x1000, 0x1000)
"""One source for both nodes: two random identifiers are never the same."""


def node(name: str, flags: MdFlag = GOOD, ids: GenerationIds | None = None, **options: object) -> Node:
    disk = Disk(BLOCKS * 8, [0] * BLOCKS, ids or GenerationIds(0x10), flags, BLOCKS * 8)
    each = Node(name, disk, Options(node_name=name, **options), UUIDS)  # type: ignore[arg-type]
    each.attach()
    return each


def answer(each: Node, token: int) -> Refusal | None:
    (only,) = each.answers[token]
    return only.refusal


@pytest.fixture
def pair() -> ResourcePair:
    both = ResourcePair(node("castor"), node("pollux"))
    for each in both.nodes:
        each.command(Connect)
    both.run()
    assert all(each.state.established for each in both.nodes)
    return both


@pytest.mark.parametrize(
    ("flags", "worth"),
    [
        (MdFlag(0), DiskState.INCONSISTENT),
        (MdFlag.CONSISTENT, DiskState.OUTDATED),
        (GOOD, DiskState.UP_TO_DATE),
    ],
)
def test_the_flags_on_disk_say_what_the_data_are_worth(flags: MdFlag, worth: DiskState) -> None:
    assert node("castor", flags).state.disk is worth


def test_a_disk_that_shrank_under_good_data_is_not_attached() -> None:
    disk = Disk(BLOCKS * 8 - 8, [0] * BLOCKS, GenerationIds(0x10), GOOD, BLOCKS * 8)
    each = Node("castor", disk, Options(), itertools.count(1))
    each.attach()
    assert each.state.disk is DiskState.DISKLESS
    assert any(said.rule == "implicit-shrink" for said in each.said)


def test_a_full_sync_flag_marks_everything_again() -> None:
    each = node("castor", GOOD | MdFlag.FULL_SYNC)
    assert each.disk.bits == set(range(BLOCKS))
    assert not each.disk.flags & MdFlag.FULL_SYNC


def test_a_disk_that_was_never_in_use_is_out_of_sync_as_a_whole() -> None:
    each = Node("castor", Disk(BLOCKS * 8, [0] * BLOCKS), Options(), itertools.count(1))
    each.attach()
    assert each.disk.bits == set(range(BLOCKS))


def test_a_node_without_good_data_is_promoted_by_force_alone() -> None:
    each = node("castor", MdFlag(0), GenerationIds())
    assert answer(each, each.command(Promote)) is Refusal.NO_UP_TO_DATE_DISK
    assert answer(each, each.command(Promote, force=True)) is None
    assert (each.state.role, each.state.disk) == (Role.PRIMARY, DiskState.UP_TO_DATE)
    assert each.disk.ids.bitmap == 4


def test_a_promotion_without_a_write_begins_no_generation() -> None:
    each = node("castor")
    each.command(Promote)
    assert each.disk.ids == GenerationIds(0x11)
    assert each.gate is effects.Gate.FIRST_WRITE
    each.command(Demote)
    assert each.disk.ids == GenerationIds(0x10)


def test_the_first_write_alone_begins_one_and_only_one() -> None:
    each = node("castor")
    each.command(Promote)
    each.write(1, 1)
    ids = each.disk.ids
    assert (ids.bitmap, ids.current & 1) == (0x10, 1)
    each.write(2, 2)
    assert each.disk.ids == ids


def test_a_secondary_is_held_open_by_its_clients() -> None:
    each = node("castor")
    each.command(Promote)
    each.post(ClientsChanged(1))
    assert answer(each, each.command(Demote)) is Refusal.HELD_OPEN
    assert answer(each, each.command(Down)) is Refusal.HELD_OPEN
    each.post(ClientsChanged(0))
    assert answer(each, each.command(Demote)) is None


def test_the_flag_of_a_primary_is_durable_before_the_export_opens() -> None:
    each = node("castor")
    each.performed.clear()
    each.command(Promote)
    kinds = [type(effect) for effect in each.performed]
    assert kinds.index(effects.PersistMetadata) < kinds.index(effects.OpenExport) < kinds.index(effects.Answer)
    assert each.disk.flags & MdFlag.PRIMARY_IND


def test_a_second_primary_is_refused(pair: ResourcePair) -> None:
    pair.castor.command(Promote)
    pair.run()
    token = pair.pollux.command(Promote)
    pair.run()
    assert answer(pair.pollux, token) is Refusal.TWO_PRIMARIES


@pytest.mark.parametrize(("first", "reason"), [(0, Refusal.REFUSED_BY_PEER), (1, Refusal.CONCURRENT_CHANGE)])
def test_of_two_promotions_at_once_that_of_the_resolving_side_wins(
    pair: ResourcePair, first: int, reason: Refusal
) -> None:
    tokens = [each.command(Promote) for each in pair.nodes]
    pair.deliver(pair.nodes[first], Socket.DATA)
    pair.run()
    results = [answer(each, token) for each, token in zip(pair.nodes, tokens, strict=True)]
    assert results == [reason, None], "pollux accepted the meta socket"
    assert pair.castor.state.peer_role is Role.PRIMARY


def test_outdate_is_for_a_disconnected_secondary(pair: ResourcePair) -> None:
    each = pair.castor
    assert answer(each, each.command(Outdate)) is Refusal.OUTDATE_CONNECTED
    each.command(Disconnect)
    pair.run()
    assert answer(each, each.command(Outdate)) is None
    assert (each.state.disk, each.disk.flags) == (DiskState.OUTDATED, MdFlag.CONSISTENT)
    assert answer(each, each.command(Promote)) is Refusal.NO_UP_TO_DATE_DISK
    alone = node("castor")
    alone.command(Promote)
    assert answer(alone, alone.command(Outdate)) is Refusal.PRIMARY_OUTDATE
    bad = node("castor", MdFlag(0))
    assert answer(bad, bad.command(Outdate)) is Refusal.LOWER_THAN_OUTDATED


def test_connecting_and_disconnecting_twice_is_refused() -> None:
    each = node("castor")
    assert answer(each, each.command(Disconnect)) is Refusal.ALREADY_STANDALONE
    assert answer(each, each.command(Connect)) is None
    assert answer(each, each.command(Connect)) is Refusal.ALREADY_CONNECTED
    assert answer(each, each.command(Disconnect)) is None
    assert not each.listening


def test_a_primary_may_not_discard_its_data() -> None:
    each = node("castor")
    each.command(Promote)
    assert answer(each, each.command(Connect, discard_my_data=True)) is Refusal.DISCARD_AS_PRIMARY


def test_a_disconnected_peer_is_looked_for_again(pair: ResourcePair) -> None:
    token = pair.castor.command(Disconnect)
    pair.run()
    assert answer(pair.castor, token) is None
    assert pair.castor.state.connection is ConnectionState.STANDALONE
    assert pair.pollux.state.connection is ConnectionState.CONNECTING
    assert pair.pollux.state.peer_disk is DiskState.UNKNOWN


def test_down_ends_everything_and_leaves_a_clean_disk(pair: ResourcePair) -> None:
    pair.castor.command(Promote)
    pair.run()
    token = pair.castor.command(Down)
    pair.run()
    assert answer(pair.castor, token) is None
    assert pair.castor.exited
    assert pair.castor.disk.flags == GOOD
    assert isinstance(pair.castor.performed[-1], effects.Exit)


def test_down_while_the_peer_stands_still_ends_when_the_link_does(pair: ResourcePair) -> None:
    token = pair.castor.command(Down)
    assert pair.castor.answers[token] == []
    pair.cut()
    assert answer(pair.castor, token) is None
    assert pair.castor.exited


def test_a_promotion_under_way_goes_on_alone_when_the_peer_is_lost(pair: ResourcePair) -> None:
    token = pair.castor.command(Promote)
    pair.cut()
    assert answer(pair.castor, token) is None
    assert pair.castor.state.role is Role.PRIMARY
    assert pair.castor.gate is effects.Gate.FIRST_WRITE


def test_a_peer_that_does_not_answer_is_dropped(pair: ResourcePair) -> None:
    token = pair.castor.command(Promote)
    pair.castor.timer("peer-answer")
    assert answer(pair.castor, token) is Refusal.PEER_TIMEOUT
    assert not pair.castor.state.established


def test_commands_wait_for_a_handshake_under_way() -> None:
    both = ResourcePair(node("castor"), node("pollux"))
    for each in both.nodes:
        each.command(Connect)
    both.connect()
    token = both.castor.command(Promote)
    assert both.castor.answers[token] == []
    both.run()
    assert answer(both.castor, token) is None
    assert both.pollux.state.peer_role is Role.PRIMARY


def test_invalidate_without_a_connection_marks_everything() -> None:
    each = node("castor")
    assert answer(each, each.command(Invalidate)) is None
    assert each.state.disk is DiskState.INCONSISTENT
    assert each.disk.bits == set(range(BLOCKS))
    assert answer(each, each.command(Invalidate, peer=True)) is Refusal.NEEDS_CONNECTION


def test_invalidate_remote_copies_everything_to_the_peer(pair: ResourcePair) -> None:
    pair.castor.disk.blocks[3] = 33
    token = pair.castor.command(Invalidate, peer=True)
    pair.run()
    assert answer(pair.castor, token) is None
    assert pair.pollux.disk.blocks[3] == 33
    assert pair.pollux.state.disk is DiskState.UP_TO_DATE


def test_a_resync_pauses_and_goes_on(pair: ResourcePair) -> None:
    assert answer(pair.pollux, pair.pollux.command(PauseSync, paused=True)) is None
    assert answer(pair.pollux, pair.pollux.command(PauseSync, paused=True)) is Refusal.PAUSE_ALREADY_SET
    pair.run()
    pair.castor.command(Invalidate)
    pair.run()
    assert pair.castor.state.replication is ReplicationState.PAUSED_SYNC_T
    assert pair.pollux.state.replication is ReplicationState.PAUSED_SYNC_S
    pair.pollux.command(PauseSync, paused=False)
    pair.run()
    assert pair.castor.state.disk is DiskState.UP_TO_DATE
    assert answer(pair.pollux, pair.pollux.command(PauseSync, paused=False)) is Refusal.PAUSE_ALREADY_CLEAR


def test_the_end_of_a_resync_waits_for_the_last_acknowledgement(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.command(Invalidate, peer=True)
    pair.deliver(pollux, Socket.DATA)
    pair.deliver(castor, Socket.META)
    while data := [found for found in pair.deliverable() if found[1] is Socket.DATA]:
        pair.deliver(*data[0])
    assert pollux.state.disk is DiskState.UP_TO_DATE
    assert len(castor.bits) == BLOCKS, "no acknowledgement has been delivered yet"
    assert castor.state.replication is ReplicationState.SYNC_SOURCE
    pair.run()
    assert castor.state.replication is ReplicationState.ESTABLISHED
    assert castor.disk.bits == set()


def test_a_resync_whose_end_is_never_confirmed_is_begun_anew(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.command(Invalidate, peer=True)
    pair.deliver(pollux, Socket.DATA)
    pair.deliver(castor, Socket.META)
    while data := [found for found in pair.deliverable() if found[1] is Socket.DATA]:
        pair.deliver(*data[0])
    pollux.meta_out.clear()
    while "resync-end" in castor.timers:
        castor.timer("resync-end")
    assert not castor.state.established
    pair.run()
    assert castor.bits == pollux.bits == set()
    assert castor.disk.ids.current & ~1 == pollux.disk.ids.current & ~1
