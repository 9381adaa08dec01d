"""Online verify by the rules: who may, what the peer is told, where it ends, and how what differs is repaired."""

from __future__ import annotations

import errno
import itertools
from dataclasses import replace

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from helpers.transcript import said_by
from pydrbd.model import effects
from pydrbd.model.commands import Command
from pydrbd.model.effects import Gate, Replication
from pydrbd.model.events import (
    Connect,
    DigestFailed,
    Disconnect,
    DiskFailed,
    Invalidate,
    OutOfSyncFound,
    Promote,
    Verify,
    VerifyDone,
)
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import SyncParam
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state.node_state import Options

BLOCKS = 8
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
WITH_DIGEST = SyncParam(250, verify_alg="crc32c")


def make_pair(sync: SyncParam = WITH_DIGEST) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name, peer in (("castor", "pollux"), ("pollux", "castor")):
        disk = Disk(BLOCKS * 8, [0] * BLOCKS, GenerationIds(0x10), GOOD, BLOCKS * 8)
        both.append(Node(name, disk, Options(node_name=name, peer_name=peer, sync=sync), uuids))
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.run()
    return pair


@pytest.fixture
def pair() -> ResourcePair:
    return make_pair()


def refusal_of(each: Node, token: int) -> Refusal | None:
    (answer,) = each.answers[token]
    return answer.refusal


def handlers(each: Node) -> list[str]:
    return [effect.name for effect in each.performed if isinstance(effect, effects.RunHandler)]


def step_until(pair: ResourcePair, state: ReplicationState, node: Node) -> None:
    while node.state.replication is not state:
        pair.deliver(*pair.deliverable()[0])


def assert_at_rest(pair: ResourcePair) -> None:
    for each in pair.nodes:
        assert each.state.replication is ReplicationState.ESTABLISHED
        assert (each.state.disk, each.state.peer_disk) == (DiskState.UP_TO_DATE, DiskState.UP_TO_DATE)
        assert each.state.verify is None


def test_both_say_what_two_kernels_said(pair: ResourcePair) -> None:
    for each in pair.nodes:
        each.sent.clear()
    pair.castor.command(Promote)
    pair.run()
    for each in pair.nodes:
        each.sent.clear()
    pair.castor.command(Verify)
    pair.run()
    for each in pair.nodes:
        ours = [(Command(command), payload) for _, command, payload in each.sent]
        # The captured dialogue is cut before the STATE with which the source ends, 000110a9.
        captured = said_by("11-online-verify", each.name)
        end = [(Command.STATE, bytes.fromhex("000110a9"))] if each is pair.castor else []
        assert ours == [*captured, *end]


def test_what_differs_is_marked_on_both_and_both_stay_up_to_date(pair: ResourcePair) -> None:
    pair.pollux.disk.blocks[3] = 99
    token = pair.castor.command(Verify)
    pair.run()
    assert refusal_of(pair.castor, token) is None
    assert_at_rest(pair)
    for each in pair.nodes:
        assert each.bits == {3}
        assert "out-of-sync" in handlers(each)
        assert any(said.rule == "verify-differences" for said in each.said)


def test_without_a_difference_no_handler_is_called(pair: ResourcePair) -> None:
    pair.castor.command(Verify)
    pair.run()
    assert_at_rest(pair)
    assert all("out-of-sync" not in handlers(each) for each in pair.nodes)
    assert all(any(said.rule == "verify-done" for said in each.said) for each in pair.nodes)


def test_the_target_is_ready_before_the_source_hears_its_consent(pair: ResourcePair) -> None:
    pair.pollux.performed.clear()
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_T, pair.pollux)
    kinds = [type(effect) for effect in pair.pollux.performed]
    reply = kinds.index(effects.SendPacket)
    assert kinds.index(effects.StartVerify) < reply
    assert kinds.index(effects.SetAccept) < reply


def test_writes_go_to_both_during_a_verify(pair: ResourcePair) -> None:
    pair.castor.command(Promote)
    pair.run()
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_S, pair.castor)
    assert pair.castor.replication is Replication.PEER
    assert pair.castor.gate is Gate.OPEN


@pytest.mark.parametrize("stop", [1, 5])
def test_a_verify_with_an_end_tells_the_peer_that_it_is_over(pair: ResourcePair, stop: int) -> None:
    pair.pollux.disk.blocks[0] = pair.pollux.disk.blocks[7] = 99
    pair.castor.command(Verify, stop_sector=stop * 8)
    pair.run()
    assert_at_rest(pair)
    assert pair.castor.bits == {0}


def test_a_verify_that_was_cut_goes_on_where_it_was(pair: ResourcePair) -> None:
    pair.pollux.disk.blocks[0] = pair.pollux.disk.blocks[6] = 99
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_S, pair.castor)
    while len(pair.castor.verifying) > 4:
        pair.deliver(*pair.deliverable()[0])
    pair.castor.bits.clear()
    pair.cut()
    assert pair.castor.state.verify_position == 4 * 8
    pair.run()
    for each in pair.nodes:
        each.bits.clear()
    pair.castor.command(Verify)
    pair.run()
    assert pair.castor.bits == {6}
    assert pair.castor.state.verify_position == 0
    assert_at_rest(pair)


def test_disconnect_ends_a_verify(pair: ResourcePair) -> None:
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_S, pair.castor)
    token = pair.pollux.command(Disconnect)
    pair.run()
    assert refusal_of(pair.pollux, token) is None
    assert all(each.state.replication is ReplicationState.OFF and each.state.verify is None for each in pair.nodes)


def test_stop_given_to_a_verify_that_runs_moves_its_end(pair: ResourcePair) -> None:
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_S, pair.castor)
    limited: list[effects.Effect] = []
    perform = pair.castor._perform_on_link
    pair.castor._perform_on_link = (  # type: ignore[method-assign]
        lambda effect: limited.append(effect) if isinstance(effect, effects.LimitVerify) else perform(effect)
    )
    assert refusal_of(pair.castor, pair.castor.command(Verify, stop_sector=16)) is None
    assert limited == [effects.LimitVerify(16)]
    assert refusal_of(pair.castor, pair.castor.command(Verify)) is Refusal.RESYNC_RUNNING
    assert refusal_of(pair.castor, pair.castor.command(Invalidate)) is Refusal.RESYNC_RUNNING


def test_why_a_verify_is_refused(pair: ResourcePair) -> None:
    no_digest = make_pair(SyncParam(250))
    assert refusal_of(no_digest.castor, no_digest.castor.command(Verify)) is Refusal.NO_VERIFY_ALG
    assert (Refusal.NO_VERIFY_ALG.exit_code, Refusal.NO_VERIFY_ALG.sentence) == (
        11,
        "Need a verify algorithm to start online verify",
    )
    pair.pollux.command(Disconnect)
    pair.run()
    assert refusal_of(pair.castor, pair.castor.command(Verify)) is Refusal.NEEDS_CONNECTION
    pair.pollux.command(Connect)
    pair.run()
    pair.pollux.command(Invalidate)
    step_until(pair, ReplicationState.SYNC_TARGET, pair.pollux)
    assert refusal_of(pair.castor, pair.castor.command(Verify)) is Refusal.RESYNC_RUNNING


def test_a_peer_in_a_resync_refuses_a_verify(pair: ResourcePair) -> None:
    token = pair.castor.command(Verify)
    pair.pollux.state = replace(pair.pollux.state, replication=ReplicationState.WF_BITMAP_S)
    pair.deliver(pair.pollux, pair.deliverable()[0][1])
    pair.deliver(*next(each for each in pair.deliverable() if each[0] is pair.castor and each[1].name == "META"))
    assert refusal_of(pair.castor, token) is Refusal.REFUSED_BY_PEER


@pytest.mark.parametrize("loser", [0, 1])
def test_a_disk_that_is_lost_ends_the_verify_on_both(pair: ResourcePair, loser: int) -> None:
    pair.castor.command(Verify)
    step_until(pair, ReplicationState.VERIFY_S, pair.castor)
    pair.nodes[loser].post(DiskFailed("read", 8, errno.EIO))
    for each in pair.nodes:
        each.data_out = type(each.data_out)(item for item in each.data_out if not item.kind.startswith("ov-"))
    pair.run()
    for each in pair.nodes:
        assert each.state.replication is ReplicationState.ESTABLISHED
        assert each.state.verify is None


@pytest.mark.parametrize("roles", ["primary verifies", "secondary verifies", "both secondary"])
def test_repair_copies_what_differs_from_the_primary_or_from_where_it_was_started(
    pair: ResourcePair, roles: str
) -> None:
    source = pair.pollux if roles == "secondary verifies" else pair.castor
    if roles != "both secondary":
        pair.castor.command(Promote)
        pair.run()
    pair.castor.disk.blocks[2], pair.pollux.disk.blocks[5] = 22, 55
    source.command(Verify, repair=True)
    pair.run()
    assert_at_rest(pair)
    assert pair.castor.disk.blocks == pair.pollux.disk.blocks == [0, 0, 22, 0, 0, 0, 0, 0]
    assert not pair.castor.bits
    assert not pair.pollux.bits
    assert pair.castor.disk.ids.current & ~1 == pair.pollux.disk.ids.current & ~1
    assert (pair.castor.disk.ids.bitmap, pair.pollux.disk.ids.bitmap) == (0, 0)
    if roles == "secondary verifies":
        # It never was the source of anything, and said that it is Inconsistent before it was one.
        assert pair.castor.state.role is Role.PRIMARY


@pytest.mark.parametrize("verifier", [0, 1])
def test_a_repair_that_is_cut_at_any_step_ends_with_equal_disks(verifier: int) -> None:
    for steps in itertools.count():
        pair = make_pair()
        pair.castor.command(Promote)
        pair.run()
        pair.pollux.disk.blocks[5] = 55
        pair.nodes[verifier].command(Verify, repair=True)
        step_until(pair, ReplicationState.VERIFY_S, pair.nodes[verifier])
        while pair.nodes[verifier].state.replication is ReplicationState.VERIFY_S:
            pair.deliver(*pair.deliverable()[0])
        for _ in range(steps):
            if not pair.deliverable():
                break
            pair.deliver(*pair.deliverable()[0])
        finished = not pair.deliverable()
        pair.castor.write(1, 11)
        pair.cut()
        pair.run()
        assert_at_rest(pair)
        assert pair.castor.disk.blocks == pair.pollux.disk.blocks == [0, 11, 0, 0, 0, 0, 0, 0], steps
        assert not pair.castor.bits | pair.pollux.bits
        if finished:
            return


def test_the_log_says_where_in_the_kernels_words(pair: ResourcePair) -> None:
    pair.castor.post(OutOfSyncFound(800, 16))
    assert pair.castor.said[-1].sentence == "Out of sync: start=800, size=16 (sectors)"
    pair.castor.post(DigestFailed(8, 8))
    assert pair.castor.said[-1].sentence.startswith("Digest integrity check FAILED: 8s +4096")


def test_a_late_end_of_a_verify_means_nothing(pair: ResourcePair) -> None:
    before = pair.castor.state
    pair.castor.post(VerifyDone(5, 8, errno.ECANCELED))
    assert pair.castor.state == before
