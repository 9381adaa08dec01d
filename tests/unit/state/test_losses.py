"""Losing the peer, a disk, or the metadata: what is durable first, and who goes on."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects
from pydrbd.model.commands import Command, Socket
from pydrbd.model.effects import Gate, Reads, Replication
from pydrbd.model.events import (
    Connect,
    Demote,
    Detach,
    DiskFailed,
    Lost,
    MetadataFailed,
    PacketReceived,
    PeerDiskFailed,
    Promote,
)
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import Change, StateChangeRequest, UuidFlag
from pydrbd.model.policies import OnIoError
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.handshake import survivor
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def make_pair(**options: object) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name in ("castor", "pollux"):
        disk = Disk(64, [0] * 8, GenerationIds(0x10), GOOD, 64)
        configured = Options(node_name=name, **options)  # type: ignore[arg-type]
        both.append(Node(name, disk, configured, uuids))
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.castor.command(Promote)
    pair.run()
    assert pair.castor.state.role is Role.PRIMARY
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    return make_pair()


def order_of(each: Node, *kinds: type) -> list[type]:
    return [type(effect) for effect in each.performed if isinstance(effect, kinds)]


def test_a_held_write_is_released_only_under_a_new_generation(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.write(1, 1)
    castor.performed.clear()
    pair.cut()
    wanted = [effects.PersistMetadata, effects.SetReplication, effects.Release]
    assert order_of(castor, *wanted) == wanted
    assert (castor.disk.ids.bitmap, castor.bits) == (0x11, {1})
    assert castor.gate is Gate.OPEN


def test_an_idle_primary_arms_the_gate_instead(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.performed.clear()
    pair.cut()
    wanted = [effects.SetGate, effects.SetReplication, effects.Release]
    assert order_of(castor, *wanted) == wanted
    assert castor.disk.ids == GenerationIds(0x11)
    pair.run()
    assert castor.gate is Gate.OPEN, "the peer came back before anything was written"


def test_an_acknowledged_but_unstable_write_counts_as_missing(pair: ResourcePair) -> None:
    pair.castor.write(1, 1)
    pair.run()
    pair.cut()
    assert (pair.castor.disk.ids.bitmap, pair.castor.bits) == (0x11, {1})


def test_a_secondary_that_loses_the_peer_keeps_its_data_good(pair: ResourcePair) -> None:
    pair.cut()
    assert pair.pollux.state.disk is DiskState.UP_TO_DATE
    assert pair.pollux.state.peer_disk is DiskState.UNKNOWN
    assert pair.pollux.disk.flags == GOOD


def test_a_peer_that_breaks_the_protocol_is_given_a_pause(pair: ResourcePair) -> None:
    pair.castor.lose(Lost.PROTOCOL)
    assert pair.castor.state.connection is ConnectionState.UNCONNECTED
    assert "reconnect" in pair.castor.timers


def test_a_primary_goes_on_by_the_peers_disk_when_its_own_fails(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.post(DiskFailed("write", 8, 5))
    pair.run()
    assert (castor.state.disk, castor.reads, castor.replication) == (DiskState.DISKLESS, Reads.PEER, Replication.PEER)
    assert pollux.state.peer_disk is DiskState.DISKLESS
    assert pollux.disk.ids.bitmap == 0x10, "the disk that is gone must not come back as good"
    castor.write(2, 22)
    pair.run()
    assert pollux.disk.blocks[2] == 22


def test_a_secondary_whose_disk_fails_leaves_the_primary_alone(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    pollux.post(DiskFailed("write", 8, 5))
    pair.run()
    assert (castor.replication, castor.gate) == (Replication.NONE, Gate.OPEN)
    assert castor.disk.ids.bitmap == 0x11, "what it had not made stable is acknowledged already"
    castor.write(2, 22)
    assert castor.bits == {2}


def test_pass_on_keeps_a_disk_that_is_no_longer_good() -> None:
    pair = make_pair(on_io_error=OnIoError.PASS_ON)
    pair.castor.post(DiskFailed("read", 8, 5))
    pair.run()
    assert pair.castor.state.disk is DiskState.INCONSISTENT
    assert not pair.castor.disk.flags & MdFlag.CONSISTENT
    assert pair.castor.reads is Reads.IN_SYNC
    assert pair.castor.performed.count(effects.KeepDisk()) == 1


def test_pass_on_without_the_peer_passes_the_error_on_and_nothing_else() -> None:
    pair = make_pair(on_io_error=OnIoError.PASS_ON)
    pair.cut()
    pair.castor.post(DiskFailed("read", 8, 5))
    assert (pair.castor.state.disk, pair.castor.reads) == (DiskState.UP_TO_DATE, Reads.LOCAL)
    assert pair.castor.performed.count(effects.KeepDisk()) == 1


def test_a_disk_that_cannot_flush_is_given_up_whatever_is_configured() -> None:
    pair = make_pair(on_io_error=OnIoError.PASS_ON)
    pair.castor.post(DiskFailed("flush", 0, 5))
    pair.run()
    assert (pair.castor.state.disk, pair.castor.reads) == (DiskState.DISKLESS, Reads.PEER)


def test_a_block_that_the_peer_could_not_write_stops_replication_at_once(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.write(1, 11)
    castor.performed.clear()
    castor.post(PeerDiskFailed(8, 0x7000))
    assert (castor.replication, castor.gate) == (Replication.NONE, Gate.OPEN)
    assert order_of(castor, effects.PersistMetadata, effects.Release) == [effects.PersistMetadata, effects.Release]
    assert (castor.disk.ids.current, castor.acknowledged[1], castor.bits) == (0x7001, 11, {1})


def test_a_primary_that_asks_to_give_its_disk_up_gets_a_yes_and_a_new_generation(pair: ResourcePair) -> None:
    """The kernel's DRBD asks: what it writes from then on is here alone, and must not look like its own old data."""
    pollux = pair.pollux
    pollux.sent.clear()
    pollux.performed.clear()
    pollux.post(PacketReceived(StateChangeRequest(Change(disk=DiskState.FAILED)), 0, 0x7000))
    assert [Command(command) for _, command, _ in pollux.sent] == [Command.STATE_CHG_REPLY, Command.UUIDS]
    assert (pollux.disk.ids.current, pollux.disk.ids.bitmap) == (0x7000, 0x10)
    assert order_of(pollux, effects.PersistMetadata, effects.ResumeReading)[0] is effects.PersistMetadata
    assert pollux.state.peer_disk is DiskState.FAILED


def test_metadata_that_cannot_be_written_cost_the_disk_and_refuse_the_command(pair: ResourcePair) -> None:
    castor = pair.castor
    token = castor.command(Promote)
    castor.answers[token].clear()
    dropped = (effects.OpenExport(), effects.Answer(token), effects.Release(), effects.ResumeReading())
    castor.post(MetadataFailed("no space left", dropped))
    assert [each.refusal for each in castor.answers[token]] == [Refusal.METADATA_IO]
    assert castor.state.disk is DiskState.DISKLESS
    assert order_of(castor, effects.DetachDisk, effects.Release)[:2] == [effects.DetachDisk, effects.Release]
    assert castor.state.role is Role.SECONDARY, "a promotion without an export is taken back"
    assert not castor.in_link, "a peer whose reading was not resumed is dropped"


def test_a_diskless_primary_takes_only_the_data_that_it_had(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.post(DiskFailed("write", 8, 5))
    pair.run()
    pair.cut()
    assert castor.reads is Reads.NONE
    pollux.disk.ids = GenerationIds(0x77)
    pollux.reset()
    pollux.attach()
    pollux.command(Connect)
    pair.run()
    assert castor.state.connection is ConnectionState.STANDALONE
    assert any(said.rule == "diskless-primary-other-data" for said in castor.said)


def test_a_crashed_primary_comes_back_as_target_of_the_one_that_took_over(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.write(1, 11)
    pair.crash(castor)
    pollux.command(Promote)
    pollux.write(2, 22)
    castor.attach()
    assert castor.state.crashed_primary
    castor.command(Connect)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert castor.state.disk is DiskState.UP_TO_DATE
    assert not castor.disk.flags & (MdFlag.CRASHED_PRIMARY | MdFlag.PRIMARY_IND)


def written_then_lost_by_the_disk_of(pair: ResourcePair) -> tuple[Node, Node]:
    """Let castor's write be acknowledged, then its power fail with the write in its disk's cache."""
    castor, pollux = pair.nodes
    castor.write(1, 11)
    pair.run()
    assert castor.acknowledged == {1: 11}
    pair.crash(castor)
    castor.disk.blocks[1] = 0
    return castor, pollux


def test_what_a_dead_primary_had_acknowledged_comes_from_the_survivor(pair: ResourcePair) -> None:
    castor, pollux = written_then_lost_by_the_disk_of(pair)
    castor.attach()
    castor.command(Connect)
    pair.run()
    assert castor.disk.blocks[1] == pollux.disk.blocks[1] == 11
    assert any(said.rule == "survived-peer" for said in castor.said)
    assert any(said.rule == "survived-self" for said in pollux.said)


def test_a_survivor_is_still_one_after_a_resync_from_it_that_was_cut(pair: ResourcePair) -> None:
    castor, pollux = written_then_lost_by_the_disk_of(pair)
    castor.attach()
    castor.command(Connect)
    while not pollux.state.established:
        pair.connect() if pair.may_connect() else pair.deliver(*pair.deliverable()[0])
    assert pollux.state.replication is ReplicationState.WF_BITMAP_S
    pair.crash(castor)
    castor.attach()
    castor.command(Connect)
    pair.run()
    assert castor.disk.blocks[1] == pollux.disk.blocks[1] == 11
    assert [said.rule for said in castor.said].count("survived-peer") == 2


def died_before_it_heard_the_end_of_its_resync(pair: ResourcePair) -> tuple[Node, Node]:
    """Let castor, a Primary, be the source of a resync; it loses its power before its superblock says that it ended.

    Its disk loses a write that both had acknowledged while the resync ran.
    """
    castor, pollux = pair.nodes
    pair.cut()
    castor.write(1, 11)
    pair.connect()
    while castor.state.replication is not ReplicationState.SYNC_SOURCE:
        pair.deliver(*pair.deliverable()[0])
    castor.write(2, 22)
    while not (pollux.state.disk is DiskState.UP_TO_DATE and 2 in castor.acknowledged):
        ready = pair.deliverable()
        pair.deliver(*max(ready, key=lambda found: found[0].name == "pollux" or found[1] is Socket.META))
    assert pollux.disk.ids.bitmap == 0
    assert castor.disk.ids.bitmap != 0
    pair.crash(castor)
    castor.disk.blocks[2] = 0
    castor.attach()
    castor.command(Connect)
    return castor, pollux


def test_a_source_that_died_before_it_heard_the_end_of_its_resync_takes_what_the_survivor_has(
    pair: ResourcePair,
) -> None:
    castor, pollux = died_before_it_heard_the_end_of_its_resync(pair)
    pair.run()
    assert castor.disk.blocks[:3] == pollux.disk.blocks[:3] == [0, 11, 22]
    assert any(said.rule == "survived-peer" for said in castor.said)
    assert any(said.rule == "survived-self" for said in pollux.said)
    assert castor.disk.ids.bitmap == pollux.disk.ids.bitmap == 0


def test_a_source_that_was_used_after_it_missed_the_end_of_its_resync_gives(pair: ResourcePair) -> None:
    castor, pollux = died_before_it_heard_the_end_of_its_resync(pair)
    castor.command(Promote)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert any(said.rule == "source-missed-finish" for said in castor.said)


def test_a_survivor_that_died_too_knows_no_better_than_the_dead_primary(pair: ResourcePair) -> None:
    castor, pollux = written_then_lost_by_the_disk_of(pair)
    pair.crash(pollux)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert any(said.rule == "crashed-self" for said in castor.said)


def test_a_primary_that_came_back_and_was_used_is_not_overwritten_by_the_survivor(pair: ResourcePair) -> None:
    castor, pollux = written_then_lost_by_the_disk_of(pair)
    castor.attach()
    castor.command(Promote)
    castor.command(Demote)
    castor.command(Connect)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert any(said.rule == "crashed-self" for said in castor.said)


def silence(pair: ResourcePair, forgets: UuidFlag, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one of them a node that knows of no survivors, as a kernel's DRBD."""
    silent = pair.castor if forgets is UuidFlag.YIELDS else pair.pollux
    flags = survivor.flags
    monkeypatch.setattr(survivor, "flags", lambda state: flags(state) & ~forgets)
    monkeypatch.setattr(survivor, "survived", lambda state: state.survived and silent.name != state.options.node_name)
    monkeypatch.setattr(survivor, "yields", lambda state: state.yields and silent.name != state.options.node_name)


@pytest.mark.parametrize("forgets", [UuidFlag.SURVIVED, UuidFlag.YIELDS])
def test_a_peer_that_does_not_know_of_survivors_meets_the_rule_of_8_4(
    pair: ResourcePair, forgets: UuidFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    castor, pollux = written_then_lost_by_the_disk_of(pair)
    silence(pair, forgets, monkeypatch)
    castor.attach()
    castor.command(Connect)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert any(said.rule == "crashed-self" for said in castor.said)
    assert any(said.rule == "crashed-peer" for said in pollux.said)


@pytest.mark.parametrize("forgets", [UuidFlag.SURVIVED, UuidFlag.YIELDS])
def test_a_peer_that_does_not_know_of_survivors_gives_again_when_it_missed_the_end_of_a_resync(
    pair: ResourcePair, forgets: UuidFlag, monkeypatch: pytest.MonkeyPatch
) -> None:
    castor, pollux = died_before_it_heard_the_end_of_its_resync(pair)
    silence(pair, forgets, monkeypatch)
    pair.run()
    assert castor.disk.blocks == pollux.disk.blocks
    assert any(said.rule == "source-missed-finish" for said in castor.said)
    assert any(said.rule == "target-peer-missed-finish" for said in pollux.said)


def test_a_node_that_is_demoted_while_its_peer_dies_keeps_the_mark_until_its_bitmap_is_written(
    pair: ResourcePair,
) -> None:
    castor, _ = pair.nodes
    castor.write(1, 11)
    castor.state = replace(castor.state, role=Role.SECONDARY)  # the export is being closed, its last write is held
    castor.performed.clear()
    castor.lose(Lost.TIMEOUT)
    orders = [one for one in castor.performed if isinstance(one, effects.PersistMetadata | effects.WriteBitmap)]
    persisted = [one for one in orders if isinstance(one, effects.PersistMetadata)]
    assert persisted
    assert all(one.flags & MdFlag.PRIMARY_IND for one in persisted)
    castor.command(Demote)
    assert not castor.disk.flags & MdFlag.PRIMARY_IND


def synced_alone(pair: ResourcePair) -> tuple[Node, Node]:
    """Let castor write alone, and let the resync that follows end on pollux without castor hearing of it."""
    castor, pollux = pair.nodes
    pair.cut()
    castor.write(1, 11)
    pair.connect()
    while pollux.disk.ids.current & ~1 != castor.disk.ids.current & ~1:
        data = [found for found in pair.deliverable() if found[1] is Socket.DATA]
        pair.deliver(*(data or pair.deliverable())[0])
    assert castor.state.replication is ReplicationState.SYNC_SOURCE
    pair.cut()
    return castor, pollux


def test_writes_after_a_resync_whose_end_was_missed_are_never_taken_for_old(pair: ResourcePair) -> None:
    castor, pollux = synced_alone(pair)
    castor.write(1, 12)
    castor.command(Demote)
    pollux.command(Promote)
    pollux.write(2, 22)
    pair.run()
    assert castor.disk.blocks[1:3] == [12, 0]
    assert pollux.disk.blocks[1:3] == [11, 22]
    for each in pair.nodes:
        assert each.state.connection is ConnectionState.STANDALONE
        assert any("Split brain" in said.sentence for said in each.said)


def test_a_target_that_took_over_may_stay_primary_when_its_source_missed_the_end(pair: ResourcePair) -> None:
    castor, pollux = synced_alone(pair)
    castor.command(Demote)
    pollux.command(Promote)
    pair.run()
    assert any(said.rule == "target-finished-primary" for said in pollux.said)
    assert pollux.state.role is Role.PRIMARY
    assert castor.state.disk is pollux.state.disk is DiskState.UP_TO_DATE
    assert castor.disk.blocks == pollux.disk.blocks


def test_a_write_before_sync_uuid_waits_for_the_identifier_that_records_it(pair: ResourcePair) -> None:
    castor, pollux = pair.nodes
    castor.write(1, 11)
    pair.crash(castor)
    castor.attach()
    castor.command(Promote)
    castor.command(Connect)
    pair.connect()
    while castor.state.replication is not ReplicationState.WF_BITMAP_S:
        pair.deliver(*pair.deliverable()[0])
    castor.write(2, 22)
    assert castor.at_gate
    assert castor.disk.ids.bitmap == 0
    pair.run()
    assert not castor.at_gate
    assert pollux.disk.blocks[1:3] == [11, 22]


def test_an_exchange_of_bitmaps_that_does_not_end_is_given_up(pair: ResourcePair) -> None:
    castor, _ = pair.nodes
    pair.cut()
    castor.write(1, 11)
    pair.connect()
    while castor.state.replication is not ReplicationState.WF_BITMAP_S:
        pair.deliver(*pair.deliverable()[0])
    castor.timer("bitmap")
    assert not castor.in_link


@pytest.mark.parametrize("policy", list(OnIoError))
def test_a_disk_that_misses_its_timeout_is_given_up_whatever_the_policy(policy: OnIoError) -> None:
    pair = make_pair(on_io_error=policy)
    castor = pair.castor
    castor.post(DiskFailed("timeout", 0, 110))
    pair.run()
    assert castor.state.disk is DiskState.DISKLESS
    assert castor.reads is Reads.PEER
    assert [said.sentence for said in castor.said if said.rule == "disk-timeout"] == [
        "Local backing device failed to meet the disk-timeout"
    ]


@pytest.mark.parametrize("policy", list(OnIoError))
def test_a_disk_that_is_removed_is_given_up_whatever_the_policy(policy: OnIoError) -> None:
    pair = make_pair(on_io_error=policy)
    castor = pair.castor
    castor.post(DiskFailed("removal", 0, 19))
    castor.post(DiskFailed("write", 8, 5))  # and what was under way on it
    pair.run()
    assert castor.state.disk is DiskState.DISKLESS
    assert castor.reads is Reads.PEER
    assert [said.sentence for said in castor.said if said.rule in {"disk-removed", "io-error"}] == [
        "The backing disk was removed"
    ]


def test_detach_by_force_waits_for_nothing_on_the_disk(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.command(Detach, force=True)
    pair.run()
    assert effects.DetachDisk(force=True) in castor.performed
    assert effects.DetachDisk() not in castor.performed
