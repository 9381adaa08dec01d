"""detach and attach while connected, on either side, under writes: which data the disk ends up with."""

from __future__ import annotations

import itertools

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects, events
from pydrbd.model.effects import Gate, Reads
from pydrbd.model.generation import JUST_CREATED, GenerationIds, MdFlag
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, Role
from pydrbd.state.node_state import NO_MD_FLAGS, Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def make_pair(**options: object) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name in ("castor", "pollux"):
        configured = Options(node_name=name, **options)  # type: ignore[arg-type]
        both.append(Node(name, Disk(64, [0] * 8, GenerationIds(0x10), GOOD, 64), configured, uuids))
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(events.Connect)
    pair.castor.command(events.Promote)
    pair.run()
    assert pair.castor.state.role is Role.PRIMARY
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    return make_pair()


def detached(pair: ResourcePair, node: Node) -> Node:
    token = node.command(events.Detach)
    pair.run()
    assert [each.refusal for each in node.answers[token]] == [None]
    assert node.state.disk is DiskState.DISKLESS
    return node


def attach(pair: ResourcePair, node: Node) -> Refusal | None:
    node.tokens += 1
    token = node.tokens
    node.answers[token] = []
    node.attach(token)
    (answer,) = node.answers[token]
    pair.run()
    return answer.refusal


def in_sync(pair: ResourcePair) -> None:
    for node in pair.nodes:
        assert (node.state.disk, node.state.peer_disk) == (DiskState.UP_TO_DATE, DiskState.UP_TO_DATE), node.name
        assert not node.bits, node.name
    assert pair.castor.disk.blocks == pair.pollux.disk.blocks
    assert pair.castor.disk.ids.current | 1 == pair.pollux.disk.ids.current | 1


def test_a_disk_that_a_primary_takes_back_gets_what_it_wrote_by_the_peer(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    assert (castor.reads, castor.gate) == (Reads.PEER, Gate.OPEN)
    for block in (1, 4):
        castor.write(block, 100 + block)
    pair.run()
    assert castor.disk.blocks[1] == 0
    castor.performed.clear()
    assert attach(pair, castor) is None
    in_sync(pair)
    assert castor.disk.blocks[4] == 104
    assert effects.DropConnection() not in castor.performed + pair.pollux.performed


def test_a_primary_is_never_without_data_while_it_takes_its_disk_back(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.write(1, 11)
    pair.run()
    castor.performed.clear()
    attach(pair, castor)
    assert effects.SetReads(Reads.NONE) not in castor.performed
    gates = [effect.gate for effect in castor.performed if isinstance(effect, effects.SetGate)]
    assert gates == [] or gates[-1] is Gate.OPEN


def test_writes_go_on_while_the_disk_comes_back(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.write(1, 11)
    pair.run()
    castor.attach()
    castor.write(2, 22)
    for step in range(200):
        ready = pair.deliverable()
        if not ready:
            break
        pair.deliver(*ready[step % len(ready)])
        castor.write(step % 8, 1000 + step)
    pair.run()
    in_sync(pair)
    assert castor.acknowledged[1] == castor.disk.blocks[1]


def test_a_disk_that_nothing_was_written_past_needs_no_resync(pair: ResourcePair) -> None:
    pollux = detached(pair, pair.pollux)
    assert pair.castor.state.peer_disk is DiskState.DISKLESS
    assert attach(pair, pollux) is None
    in_sync(pair)


def test_a_secondary_takes_its_disk_back_and_gets_what_it_missed(pair: ResourcePair) -> None:
    pollux = detached(pair, pair.pollux)
    pair.castor.write(3, 33)
    pair.run()
    assert attach(pair, pollux) is None
    in_sync(pair)
    assert pollux.disk.blocks[3] == 33


def test_a_new_disk_is_copied_whole(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.write(5, 55)
    pair.run()
    pair.pollux.disk.blocks[6] = 66
    castor.disk = Disk(72, [9] * 9, GenerationIds(JUST_CREATED), NO_MD_FLAGS, 0)
    assert attach(pair, castor) is None
    assert castor.disk.blocks[:8] == pair.pollux.disk.blocks
    assert castor.state.size_sectors == 64
    assert castor.state.disk is DiskState.UP_TO_DATE


def test_a_disk_without_room_for_the_device_is_refused(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.disk = Disk(56, [0] * 7, GenerationIds(JUST_CREATED), NO_MD_FLAGS, 0)
    assert attach(pair, castor) is Refusal.DISK_TOO_SMALL
    assert castor.state.disk is DiskState.DISKLESS
    assert castor.reads is Reads.PEER


def test_a_disk_with_unrelated_data_is_given_up_and_the_link_stays(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.disk = Disk(64, [7] * 8, GenerationIds(0xABC0), GOOD, 64)
    attach(pair, castor)
    assert castor.state.disk is DiskState.DISKLESS
    assert castor.state.connection is ConnectionState.CONNECTED
    assert pair.pollux.state.peer_disk is DiskState.DISKLESS
    assert castor.reads is Reads.PEER
    castor.write(1, 12)
    pair.run()
    assert pair.pollux.disk.blocks[1] == 12


def test_a_primary_that_lost_the_peer_too_takes_only_the_data_that_it_had(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.write(1, 11)
    pair.run()
    pair.cut()
    assert attach(pair, castor) in {Refusal.DATA_NOT_CURRENT, None}
    assert castor.state.disk is not DiskState.UP_TO_DATE or castor.disk.blocks[1] == 11


def test_a_link_lost_while_negotiating_leaves_old_data_aside(pair: ResourcePair) -> None:
    castor = detached(pair, pair.castor)
    castor.write(1, 11)
    pair.run()
    castor.attach()
    assert castor.state.disk is DiskState.NEGOTIATING
    for node in pair.nodes:
        node.data_out.clear()
        node.meta_out.clear()
        node.listening = False
    castor.lose(events.Lost.BROKEN)
    assert castor.state.disk is DiskState.DISKLESS
    assert castor.reads is Reads.NONE


def test_a_primary_alone_keeps_its_disk_unless_forced(pair: ResourcePair) -> None:
    castor = pair.castor
    for node in pair.nodes:
        node.listening = False
    pair.pollux.command(events.Disconnect, force=True)
    pair.run()
    token = castor.command(events.Detach)
    assert castor.answers[token][0].refusal is Refusal.NO_UP_TO_DATE_DISK
    token = castor.command(events.Detach, force=True)
    assert castor.answers[token][0].refusal is None
    assert castor.state.disk is DiskState.DISKLESS


def test_a_second_disk_is_refused(pair: ResourcePair) -> None:
    assert attach(pair, pair.castor) is Refusal.DISK_IN_USE
    assert pair.castor.state.disk is DiskState.UP_TO_DATE
