"""Fencing on the rules twice and a model network: what is frozen, what the handler's exit codes do, in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import effects, events
from pydrbd.model.effects import Gate, PersistMetadata, Release, RunHandler, SetGate
from pydrbd.model.generation import JUST_CREATED, GenerationIds, MdFlag
from pydrbd.model.policies import Fencing, OnNoData
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, Role
from pydrbd.state.engine_settings import Suspended, suspended_for
from pydrbd.state.node_state import NO_MD_FLAGS, Options

HANDLERS = frozenset({"fence-peer", "unfence-peer", "disconnected", "pri-on-incon-degr", "before-resync-target"})


def numbers() -> Iterator[int]:
    value = 0x1000
    while True:
        value += 0x100
        yield value


def make_pair(fencing: Fencing, *, handlers: frozenset[str] = HANDLERS, **options: object) -> ResourcePair:
    """Two nodes with metadata, connected and in sync; castor is Primary."""
    uuids = numbers()
    nodes = []
    for name in ("castor", "pollux"):
        configured = Options(node_name=name, fencing=fencing, handlers=handlers, **options)  # type: ignore[arg-type]
        disk = Disk(sectors=64, blocks=[0] * 8, ids=GenerationIds(current=JUST_CREATED), flags=NO_MD_FLAGS)
        nodes.append(Node(name, disk, configured, uuids))
    pair = ResourcePair(*nodes)
    for node in pair.nodes:
        node.attach()
        node.command(events.Connect)
    pair.run()
    pair.castor.command(events.Promote, force=True)
    pair.run()
    if "before-resync-target" in handlers:
        ended(pair.pollux, "before-resync-target", 0)
        pair.run()
    assert pair.castor.state.peer_disk is pair.castor.state.disk is DiskState.UP_TO_DATE
    for node in pair.nodes:
        node.performed.clear()
    return pair


def ended(node: Node, name: str, exit_code: int) -> None:
    node.post(events.HandlerEnded(name, exit_code))


def called(node: Node) -> list[str]:
    return [effect.name for effect in node.performed if isinstance(effect, RunHandler)]


def lose_with_a_write_held(pair: ResourcePair) -> Node:
    castor = pair.castor
    castor.write(3, 33)
    pair.cut()
    return castor


@pytest.fixture
def stonith() -> ResourcePair:
    return make_pair(Fencing.RESOURCE_AND_STONITH)


def test_io_is_frozen_until_the_peer_is_fenced(stonith: ResourcePair) -> None:
    castor = lose_with_a_write_held(stonith)
    assert castor.gate is Gate.SUSPENDED
    assert suspended_for(castor.state) == {Suspended.FENCING}
    assert castor.acknowledged.get(3) is None
    assert "fence-peer" in called(castor)
    assert castor.state.ids.bitmap == 0
    ended(castor, "fence-peer", 7)
    assert castor.acknowledged[3] == 33
    assert castor.state.peer_disk is DiskState.OUTDATED
    assert castor.gate is Gate.OPEN


def test_first_the_fence_then_the_identifiers_then_the_answer(stonith: ResourcePair) -> None:
    castor = lose_with_a_write_held(stonith)
    assert not any(isinstance(effect, PersistMetadata) and effect.ids.bitmap for effect in castor.performed)
    castor.performed.clear()
    ended(castor, "fence-peer", 4)
    kinds = [type(effect) for effect in castor.performed if isinstance(effect, PersistMetadata | SetGate)]
    assert kinds == [PersistMetadata, SetGate]
    (persisted,) = (effect for effect in castor.performed if isinstance(effect, PersistMetadata))
    assert persisted.ids.bitmap != 0
    assert MdFlag.PEER_OUT_DATED in persisted.flags


@pytest.mark.parametrize(
    ("exit_code", "peer_disk"),
    [(3, DiskState.INCONSISTENT), (4, DiskState.OUTDATED), (5, DiskState.OUTDATED), (7, DiskState.OUTDATED)],
)
def test_a_good_exit_code_says_what_the_peer_is_worth(
    stonith: ResourcePair, exit_code: int, peer_disk: DiskState
) -> None:
    castor = lose_with_a_write_held(stonith)
    ended(castor, "fence-peer", exit_code)
    assert castor.state.peer_disk is peer_disk
    assert castor.acknowledged[3] == 33


@pytest.mark.parametrize("exit_code", [0, 1, 2, 6, 8, 127, -1])
def test_after_any_other_exit_code_io_stays_frozen_until_resume_io(stonith: ResourcePair, exit_code: int) -> None:
    castor = lose_with_a_write_held(stonith)
    ended(castor, "fence-peer", exit_code)
    assert castor.gate is Gate.SUSPENDED
    assert 3 not in castor.acknowledged
    token = castor.command(events.SuspendIo, suspended=False)
    assert castor.answers[token][0].refusal is None
    assert castor.acknowledged[3] == 33
    assert castor.state.ids.bitmap != 0
    assert castor.state.peer_disk is DiskState.UNKNOWN


def test_a_peer_that_comes_back_thaws_io_and_gets_what_was_frozen(stonith: ResourcePair) -> None:
    castor = lose_with_a_write_held(stonith)
    stonith.run()
    ended(stonith.pollux, "before-resync-target", 0)
    stonith.run()
    assert castor.acknowledged[3] == 33
    assert stonith.pollux.disk.blocks[3] == 33
    assert castor.state.peer_disk is DiskState.UP_TO_DATE
    ended(castor, "fence-peer", 4)  # too late: it is about a peer that we see
    assert castor.state.peer_disk is DiskState.UP_TO_DATE
    assert called(castor)[-1] == called(stonith.pollux)[-1] == "unfence-peer"


def test_a_frozen_primary_whose_peer_took_over_acknowledges_nothing(stonith: ResourcePair) -> None:
    castor, pollux = stonith.nodes
    castor.write(3, 33)
    stonith.cut()
    token = pollux.command(events.Promote)
    ended(pollux, "fence-peer", 7)
    assert pollux.answers[token][0].refusal is None
    pollux.write(4, 44)
    stonith.run()
    assert 3 not in castor.acknowledged
    assert castor.gate is Gate.SUSPENDED
    assert not castor.state.established
    assert not pollux.state.established


def test_resource_only_fences_beside_the_writes() -> None:
    pair = make_pair(Fencing.RESOURCE_ONLY)
    castor = lose_with_a_write_held(pair)
    assert castor.acknowledged[3] == 33
    assert "fence-peer" in called(castor)
    assert castor.state.peer_disk is DiskState.UNKNOWN
    ended(castor, "fence-peer", 4)
    assert castor.state.peer_disk is DiskState.OUTDATED
    assert MdFlag.PEER_OUT_DATED in castor.disk.flags


def test_dont_care_calls_nobody() -> None:
    castor = lose_with_a_write_held(make_pair(Fencing.DONT_CARE))
    assert called(castor) == ["disconnected"]


def test_a_loss_without_writes_freezes_too(stonith: ResourcePair) -> None:
    stonith.cut()
    castor = stonith.castor
    assert castor.gate is Gate.SUSPENDED
    ended(castor, "fence-peer", 4)
    assert castor.gate is Gate.FIRST_WRITE
    assert castor.state.ids.bitmap == 0


def test_a_secondary_that_loses_its_peer_fences_nobody(stonith: ResourcePair) -> None:
    stonith.cut()
    assert called(stonith.pollux) == ["disconnected"]


def test_a_promotion_without_the_peer_waits_for_the_fence(stonith: ResourcePair) -> None:
    stonith.cut()
    pollux = stonith.pollux
    token = pollux.command(events.Promote)
    assert pollux.answers[token] == []
    ended(pollux, "fence-peer", 4)
    assert pollux.answers[token][0].refusal is None
    assert pollux.state.role is Role.PRIMARY
    assert pollux.gate is Gate.FIRST_WRITE


def test_a_promotion_whose_fence_fails_is_refused_and_forced_if_a_person_wants_it(stonith: ResourcePair) -> None:
    stonith.cut()
    pollux = stonith.pollux
    token = pollux.command(events.Promote)
    ended(pollux, "fence-peer", 1)
    assert pollux.answers[token][0].refusal is Refusal.PEER_IS_PRIMARY_HERE
    token = pollux.command(events.Promote, force=True)
    ended(pollux, "fence-peer", 1)
    assert pollux.answers[token][0].refusal is None


def test_a_promotion_learns_that_the_peer_is_primary(stonith: ResourcePair) -> None:
    stonith.cut()
    pollux = stonith.pollux
    token = pollux.command(events.Promote)
    ended(pollux, "fence-peer", 6)
    assert pollux.answers[token][0].refusal is Refusal.PEER_IS_PRIMARY_HERE
    assert pollux.state.disk is DiskState.OUTDATED


def test_a_restarted_node_is_only_consistent_until_its_peer_is_fenced(stonith: ResourcePair) -> None:
    pollux = stonith.pollux
    stonith.cut()
    pollux.reset()
    pollux.attach()
    assert pollux.state.disk is DiskState.CONSISTENT
    token = pollux.command(events.Promote)
    ended(pollux, "fence-peer", 5)  # unreachable, and we are not UpToDate
    assert pollux.answers[token][0].refusal is Refusal.PEER_IS_PRIMARY_HERE
    token = pollux.command(events.Promote)
    ended(pollux, "fence-peer", 7)
    assert pollux.answers[token][0].refusal is None
    assert pollux.state.disk is DiskState.UP_TO_DATE


def test_a_primary_that_lets_its_peer_go_outdates_it_instead_of_fencing(stonith: ResourcePair) -> None:
    castor, pollux = stonith.nodes
    castor.command(events.Disconnect)
    stonith.run()
    assert pollux.state.disk is DiskState.OUTDATED
    assert castor.state.peer_disk is DiskState.OUTDATED
    assert "fence-peer" not in called(castor)
    assert castor.gate is Gate.FIRST_WRITE


def test_a_secondary_that_leaves_a_primary_outdates_itself(stonith: ResourcePair) -> None:
    castor, pollux = stonith.nodes
    pollux.command(events.Disconnect)
    stonith.run()
    assert pollux.state.connection is ConnectionState.STANDALONE
    assert pollux.state.disk is DiskState.OUTDATED
    assert "fence-peer" not in called(castor)


def test_before_resync_target_is_waited_for_and_can_prevent_the_resync(stonith: ResourcePair) -> None:
    castor, pollux = stonith.nodes
    castor.write(1, 11)
    stonith.cut()
    ended(castor, "fence-peer", 4)
    stonith.run()
    assert not pollux.resync
    ended(pollux, "before-resync-target", 1)
    stonith.run()
    assert pollux.state.connection is ConnectionState.STANDALONE
    assert pollux.disk.blocks[1] == 0


def test_suspend_io_holds_writes_and_resume_io_lets_them_go() -> None:
    castor = make_pair(Fencing.DONT_CARE).castor
    castor.command(events.SuspendIo, suspended=True)
    castor.write(2, 22)
    assert castor.at_gate
    castor.command(events.SuspendIo, suspended=False)
    assert not castor.at_gate


def test_without_data_io_waits_if_it_is_to_and_fails_on_resume_io() -> None:
    pair = make_pair(Fencing.DONT_CARE, on_no_data=OnNoData.SUSPEND_IO)
    castor = pair.castor
    castor.post(events.DiskFailed("write", 8, 5))
    assert castor.reads is effects.Reads.PEER
    assert castor.gate is Gate.OPEN
    pair.cut()
    assert suspended_for(castor.state) == {Suspended.NO_DATA}
    assert "pri-on-incon-degr" in called(castor)
    castor.command(events.SuspendIo, suspended=False)
    assert castor.gate is not Gate.SUSPENDED
    assert castor.reads is effects.Reads.NONE


def test_a_demotion_while_frozen_fails_what_is_held(stonith: ResourcePair) -> None:
    castor = lose_with_a_write_held(stonith)
    castor.write(5, 55)
    castor.performed.clear()
    castor.command(events.Demote, force=True)
    assert castor.failed == [(5, 55), (3, 33)]
    assert castor.acknowledged.get(3) is None
    assert Release not in [type(effect) for effect in castor.performed]
    assert castor.state.ids.bitmap == 0


def test_a_forced_demotion_with_the_first_write_held_fails_it() -> None:
    pair = make_pair(Fencing.DONT_CARE)
    castor = pair.castor
    pair.cut()
    castor.gate = Gate.FIRST_WRITE
    castor.at_gate.append((6, 66))  # held; the engine's word is still on its way
    castor.command(events.Demote, force=True)
    castor.post(events.FirstWriteHeld(0x9900))
    assert castor.failed == [(6, 66)]
    assert castor.state.ids.bitmap == 0


def test_a_write_that_is_held_while_we_give_the_role_up_waits_for_the_fence(stonith: ResourcePair) -> None:
    castor = stonith.castor
    castor.write(3, 33)
    castor.command(events.Demote)
    assert castor.state.role is Role.SECONDARY
    stonith.cut()
    assert "fence-peer" in called(castor)
    assert castor.gate is Gate.SUSPENDED
    assert castor.acknowledged.get(3) is None
    ended(castor, "fence-peer", 7)
    assert castor.acknowledged[3] == 33
    assert castor.disk.ids.bitmap != 0
    assert castor.state.fence is None


def test_a_secondary_without_writes_fences_nobody(stonith: ResourcePair) -> None:
    stonith.cut()
    assert "fence-peer" not in called(stonith.pollux)
