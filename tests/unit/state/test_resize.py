"""The device grows on both nodes, whoever is told to, and whenever the two lose each other."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects
from pydrbd.model.events import Attached, Connect, Demote, Detach, Disconnect, MetadataFailed, Promote, Resize
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.state.machine import step
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
OLD, NEW = 64, 128
NODES = ("castor", "pollux")


def make_pair(**options: Any) -> ResourcePair:  # noqa: ANN401
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name in NODES:
        disk = Disk(OLD, [0] * (OLD // 8), GenerationIds(0x10), GOOD, OLD)
        both.append(Node(name, disk, Options(node_name=name, **options), uuids))
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.castor.command(Promote)
    pair.run()
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    """Castor is Primary; both disks have grown and nobody knows."""
    both = make_pair()
    for each in both.nodes:
        each.disk.sectors = NEW
    return both


def named(pair: ResourcePair, name: str) -> Node:
    return pair.castor if name == "castor" else pair.pollux


def sizes(pair: ResourcePair) -> list[int]:
    return [each.disk.agreed_sectors for each in pair.nodes]


def equal(pair: ResourcePair) -> None:
    for each in pair.nodes:
        assert each.state.replication is ReplicationState.ESTABLISHED
        assert (each.state.disk, each.state.peer_disk) == (DiskState.UP_TO_DATE, DiskState.UP_TO_DATE)
        assert (each.bits, each.disk.bits) == (set(), set())
    assert pair.castor.disk.blocks == pair.pollux.disk.blocks


def answer(node: Node, token: int) -> effects.Answer:
    (only,) = node.answers[token]
    return only


@pytest.mark.parametrize("who", NODES)
def test_both_nodes_grow_and_what_is_new_is_resynced_from_the_primary(pair: ResourcePair, who: str) -> None:
    castor = pair.castor
    castor.write(1, 11)
    pair.run()
    token = named(pair, who).command(Resize)
    pair.run()
    assert answer(named(pair, who), token).refusal is None
    assert sizes(pair) == [NEW, NEW]
    assert castor.export_sectors == NEW
    equal(pair)
    assert len(pair.pollux.disk.blocks) == NEW // 8
    assert castor.write(12, 5)
    pair.run()
    assert castor.acknowledged[12] == pair.pollux.disk.blocks[12] == 5
    equal(pair)


@pytest.mark.parametrize("who", NODES)
def test_writes_go_on_all_the_time_to_what_is_old_and_to_what_is_new(pair: ResourcePair, who: str) -> None:
    castor = pair.castor
    named(pair, who).command(Resize)
    values = itertools.count(100)
    written: dict[int, int] = {}
    for _ in range(200):
        for block in (2, 15):
            value = next(values)
            if castor.write(block, value):
                written[block] = value
        if not pair.deliverable():
            break
        pair.deliver(*pair.deliverable()[0])
    pair.run()
    assert set(written) == {2, 15}
    assert sizes(pair) == [NEW, NEW]
    equal(pair)
    for block, value in written.items():
        assert pair.pollux.disk.blocks[block] == value


@pytest.mark.parametrize("who", NODES)
@pytest.mark.parametrize("loss", ["cut", "castor dies", "pollux dies"])
def test_lost_at_any_moment_nothing_is_lost_and_both_end_with_one_size(who: str, loss: str) -> None:
    ends: set[int] = set()
    for moment in range(24):
        pair = make_pair()
        for each in pair.nodes:
            each.disk.sectors = NEW
        castor = pair.castor
        castor.write(1, 11)
        pair.run()
        token = named(pair, who).command(Resize)
        delivered = 0
        while delivered < moment and pair.deliverable():
            pair.deliver(*pair.deliverable()[0])
            delivered += 1
            castor.write(15, 1000 + delivered)
        if loss == "cut":
            pair.cut()
        else:
            victim = named(pair, loss.split(maxsplit=1)[0])
            pair.crash(victim)
            victim.attach()
            victim.command(Connect)
            if victim is castor:
                victim.command(Promote)
        pair.run()
        assert sizes(pair)[0] == sizes(pair)[1], moment
        equal(pair)
        assert castor.disk.blocks[1] == 11
        if sizes(pair)[0] == NEW and 15 in castor.acknowledged:
            assert castor.disk.blocks[15] == castor.acknowledged[15]
        if loss == "cut":
            assert len(named(pair, who).answers[token]) == 1
        ends.add(sizes(pair)[0])
    assert ends == {OLD, NEW}, "it was cut before and after"


def test_the_size_is_durable_only_after_the_bits_and_before_anybody_may_use_it(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.performed.clear()
    castor.command(Resize)
    pair.run()
    kinds = (effects.SetSize, effects.WriteBitmap, effects.PersistMetadata, effects.ResizeExport)
    order = [type(each) for each in castor.performed if isinstance(each, kinds)]
    assert order[:4] == list(kinds)
    assert castor.performed[[type(each) for each in castor.performed].index(effects.SetSize)].out_of_sync_from == OLD


def test_assumed_clean_nothing_is_resynced(pair: ResourcePair) -> None:
    pair.castor.command(Resize, assume_clean=True)
    pair.run()
    assert sizes(pair) == [NEW, NEW]
    for each in pair.nodes:
        assert not each.bits
        assert not any(isinstance(effect, effects.StartResync) for effect in each.performed)
        assert each.state.replication is ReplicationState.ESTABLISHED


def test_the_smaller_disk_says_how_far_it_goes(pair: ResourcePair) -> None:
    pair.pollux.disk.sectors = 96
    pair.castor.command(Resize)
    pair.run()
    assert sizes(pair) == [96, 96]
    equal(pair)


def test_a_size_is_taken_at_its_word(pair: ResourcePair) -> None:
    pair.castor.command(Resize, sectors=80)
    pair.run()
    assert sizes(pair) == [80, 80]
    token = pair.castor.command(Resize, sectors=NEW + 8)
    assert answer(pair.castor, token).refusal is Refusal.DISK_TOO_SMALL


def test_the_configured_size_bounds_it() -> None:
    pair = make_pair(user_sectors=OLD)
    for each in pair.nodes:
        each.disk.sectors = NEW
    token = pair.castor.command(Resize)
    assert answer(pair.castor, token).refusal is None
    assert "already" in answer(pair.castor, token).text
    assert sizes(pair) == [OLD, OLD]


def test_the_configured_size_is_not_exceeded_by_a_command_for_the_next_handshake_would_not_take_it() -> None:
    pair = make_pair(user_sectors=OLD)
    pair.pollux.state = replace(pair.pollux.state, options=replace(pair.pollux.state.options, user_sectors=0))
    for each in pair.nodes:
        each.disk.sectors = NEW
    token = pair.castor.command(Resize, sectors=NEW)
    assert answer(pair.castor, token).refusal is Refusal.RESIZE_CONFIGURED
    # The peer, which is not bound, asks; and is told what we come to.
    token = pair.pollux.command(Resize, sectors=NEW)
    pair.run()
    assert answer(pair.pollux, token).refusal is Refusal.DISK_TOO_SMALL
    assert "smaller size configured there" in answer(pair.pollux, token).text
    assert sizes(pair) == [OLD, OLD]
    pair.cut()
    pair.run()
    equal(pair)


def test_a_configured_size_that_cuts_a_good_device_is_said_when_it_is_attached() -> None:
    pair = make_pair()
    node = pair.castor
    pair.crash(node)
    node.state = replace(node.state, options=replace(node.state.options, user_sectors=OLD - 8))
    node.attach()
    assert any(said.rule == "size-cuts" for said in node.said)


def test_a_peer_whose_disk_has_not_grown_refuses_and_all_stays(pair: ResourcePair) -> None:
    pair.pollux.disk.sectors = OLD
    token = pair.castor.command(Resize)
    pair.run()
    assert answer(pair.castor, token).refusal is Refusal.DISK_TOO_SMALL
    assert sizes(pair) == [OLD, OLD]
    assert pair.castor.state.established


def test_it_never_shrinks_while_it_is_up(pair: ResourcePair) -> None:
    token = pair.castor.command(Resize, sectors=OLD - 8)
    assert answer(pair.castor, token).refusal is Refusal.RESIZE_SHRINKS
    pair.castor.command(Disconnect)
    pair.run()
    token = pair.castor.command(Resize, sectors=OLD - 8, assume_peer_has_space=True)
    assert answer(pair.castor, token).refusal is Refusal.RESIZE_SHRINKS


def test_alone_it_needs_a_word_about_the_peer_and_the_peer_follows_when_it_comes(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.command(Disconnect)
    pair.run()
    token = castor.command(Resize)
    assert answer(castor, token).refusal is Refusal.RESIZE_PEER_SPACE
    token = castor.command(Resize, assume_peer_has_space=True)
    assert answer(castor, token).refusal is None
    assert castor.write(15, 7)
    castor.command(Connect)
    pair.run()
    assert sizes(pair) == [NEW, NEW]
    equal(pair)
    assert pair.pollux.disk.blocks[15] == 7


def test_a_peer_without_the_room_that_was_promised_is_refused(pair: ResourcePair) -> None:
    pair.pollux.disk.sectors = OLD
    pair.castor.command(Disconnect)
    pair.run()
    pair.castor.command(Resize, assume_peer_has_space=True)
    pair.castor.command(Connect)
    pair.run()
    assert pair.castor.state.connection is ConnectionState.STANDALONE
    assert sizes(pair) == [NEW, OLD]


def test_during_a_resync_it_is_refused(pair: ResourcePair) -> None:
    pair.castor.command(Disconnect)
    pair.run()
    pair.castor.write(3, 3)
    pair.castor.command(Connect)
    while pair.castor.state.replication is not ReplicationState.SYNC_SOURCE:
        if pair.may_connect():
            pair.connect()
        else:
            pair.deliver(*pair.deliverable()[0])
    token = pair.castor.command(Resize)
    assert answer(pair.castor, token).refusal is Refusal.RESIZE_DURING_RESYNC
    pair.run()
    equal(pair)


def test_two_secondaries_need_a_primary(pair: ResourcePair) -> None:
    pair.castor.command(Demote)
    pair.run()
    token = pair.pollux.command(Resize)
    assert answer(pair.pollux, token).refusal is Refusal.RESIZE_NO_PRIMARY


def test_a_primary_without_a_disk_follows_the_one_that_has_it(pair: ResourcePair) -> None:
    pair.castor.command(Detach)
    pair.run()
    token = pair.pollux.command(Resize)
    pair.run()
    assert answer(pair.pollux, token).refusal is None
    assert (pair.pollux.disk.agreed_sectors, pair.castor.export_sectors) == (NEW, NEW)
    token = pair.castor.command(Resize)
    assert answer(pair.castor, token).refusal is Refusal.DISKLESS


def test_bits_that_cannot_be_written_cost_the_disk_not_the_size(pair: ResourcePair) -> None:
    castor = pair.castor
    castor.command(Disconnect)
    pair.run()
    _, todo = _step_of(castor, Resize(99, assume_peer_has_space=True, backing_sectors=NEW))
    position = [type(each) for each in todo].index(effects.WriteBitmap)
    castor.answers[99] = []
    castor.state = _step_of(castor, Resize(99, assume_peer_has_space=True, backing_sectors=NEW))[0]
    castor.post(MetadataFailed("no", dropped=tuple(todo[position + 1 :])))
    assert castor.disk.agreed_sectors == OLD
    assert castor.export_sectors == OLD
    assert castor.answers[99][0].refusal is Refusal.METADATA_IO


def _step_of(node: Node, event: Resize) -> Any:  # noqa: ANN401
    return step(node.state, event, 0)


def test_room_that_is_not_used_is_said_when_the_disk_is_attached() -> None:
    uuids = itertools.count(0x1000)
    node = Node("castor", Disk(NEW, [0] * 16, GenerationIds(0x10), GOOD, OLD), Options(), uuids)
    node.post(Attached(node.disk.ids, GOOD, 1, OLD, NEW, 0, crashed_primary=False))
    assert any(each.rule == "disk-has-room" for each in node.said)
