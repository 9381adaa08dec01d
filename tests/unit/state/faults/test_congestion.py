"""on-congestion on the rules twice: what is pulled ahead of, what the other one then is, and the way back."""

from __future__ import annotations

import itertools

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects, events
from pydrbd.model.effects import Replication
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.policies import OnCongestion
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.state.faults import congestion
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def make_pair(on_congestion: OnCongestion) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name in ("castor", "pollux"):
        disk = Disk(64, [0] * 8, GenerationIds(0x10), GOOD, 64)
        both.append(Node(name, disk, Options(node_name=name, on_congestion=on_congestion), uuids))
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(events.Connect)
    pair.castor.command(events.Promote)
    pair.run()
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    """Return a pair whose castor has pulled ahead, with a write on its way."""
    both = make_pair(OnCongestion.PULL_AHEAD)
    both.castor.performed.clear()
    both.castor.write(1, 11)
    both.castor.post(events.Congested(9000, 0x77000))
    return both


def test_the_identifiers_say_so_before_a_write_is_answered_that_the_peer_misses(pair: ResourcePair) -> None:
    castor = pair.castor
    kinds = [type(each) for each in castor.performed]
    persisted = max(index for index, kind in enumerate(kinds) if kind is effects.PersistMetadata)
    assert persisted < castor.performed.index(effects.SetReplication(Replication.AHEAD))
    assert castor.disk.ids.bitmap == 0x11
    assert castor.state.replication is ReplicationState.AHEAD
    castor.write(2, 22)
    assert castor.acknowledged[2] == 22
    assert castor.bits == {2}


def test_the_peer_is_outdated_on_disk_and_not_promoted(pair: ResourcePair) -> None:
    pair.run()
    pollux = pair.pollux
    assert (pollux.state.replication, pollux.state.disk) == (ReplicationState.BEHIND, DiskState.OUTDATED)
    assert MdFlag.WAS_UP_TO_DATE not in pollux.disk.flags
    pair.cut()
    token = pollux.command(events.Promote)
    assert pollux.answers[token][0].refusal is Refusal.NO_UP_TO_DATE_DISK


def test_it_stays_ahead_while_something_is_in_flight_and_comes_back_by_itself(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.timer(congestion.TIMER)
    assert castor.state.replication is ReplicationState.AHEAD, "the first write has not arrived"
    castor.write(2, 22)
    pair.run()
    castor.barrier()
    castor.write(3, 33)
    castor.timer(congestion.TIMER)
    assert castor.state.replication is ReplicationState.SYNC_SOURCE
    castor.write(4, 44)
    pair.run()
    assert castor.state.replication is pollux.state.replication is ReplicationState.ESTABLISHED
    assert castor.state.peer_disk is pollux.state.disk is DiskState.UP_TO_DATE
    assert castor.disk.blocks == pollux.disk.blocks == [0, 11, 22, 33, 44, 0, 0, 0]
    assert castor.bits == pollux.bits == set()
    assert congestion.TIMER not in castor.timers


def test_a_peer_that_is_lost_while_behind_gets_what_it_missed_at_the_next_meeting(pair: ResourcePair) -> None:
    pair.run()
    pair.castor.write(5, 55)
    pair.cut()
    assert congestion.TIMER not in pair.castor.timers
    pair.castor.write(6, 66)
    pair.run()
    assert pair.castor.disk.blocks == pair.pollux.disk.blocks
    assert pair.pollux.state.disk is DiskState.UP_TO_DATE


def test_disconnect_ends_the_connection_for_good() -> None:
    both = make_pair(OnCongestion.DISCONNECT)
    both.castor.post(events.Congested(9000))
    both.run()
    assert both.castor.state.connection is ConnectionState.STANDALONE
    both.castor.write(1, 1)
    assert both.castor.acknowledged[1] == 1


def test_block_does_nothing() -> None:
    both = make_pair(OnCongestion.BLOCK)
    before = both.castor.state
    both.castor.post(events.Congested(9000))
    assert both.castor.state == before
