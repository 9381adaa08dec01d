"""Split brain: every combination of the after-split-brain policies on two nodes, and a person's word.

Who must lose is what `helpers.split_brain` says, in words and not in the code's terms.
"""

from __future__ import annotations

import itertools

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from helpers.split_brain import NO_PRIMARY, Story, loser, stories
from pydrbd.model.effects import RunHandler
from pydrbd.model.events import ClientsChanged, Connect, Demote, Disconnect, NewCurrentUuid, Promote
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.policies import AfterSplitBrain, RrConflict
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, Role
from pydrbd.state.node_state import Options

BLOCKS = 8
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def policy_of(name: str, word: str) -> AfterSplitBrain:
    loser = word.partition("discard-node-")[2]
    if loser:
        return AfterSplitBrain.DISCARD_LOCAL if loser == name else AfterSplitBrain.DISCARD_REMOTE
    return AfterSplitBrain.from_word(word)


def node(name: str, story: Story, **more: object) -> Node:
    options = Options(
        node_name=name,
        peer_name="pollux" if name == "castor" else "castor",
        after_sb_0pri=policy_of(name, story.after_sb_0pri),
        after_sb_1pri=policy_of(name, story.after_sb_1pri),
        after_sb_2pri=policy_of(name, story.after_sb_2pri),
        **more,  # type: ignore[arg-type]
    )
    disk = Disk(BLOCKS * 8, [0] * BLOCKS, GenerationIds(0x10, 0, 0x20, 0x30), GOOD, BLOCKS * 8)
    each = Node(name, disk, options, itertools.count(0x1000 if name == "castor" else 0x2000, 0x10))
    each.attach()
    each.command(Connect)
    return each


def diverged(story: Story, **more: object) -> ResourcePair:
    """Let both write without each other, and take the roles in which they meet again; not connected."""
    pair = ResourcePair(node("castor", story, **more), node("pollux", story, **more))
    pair.run()
    for each in pair.nodes:
        if each.name == story.first:
            each.command(Promote)
    pair.run()
    pair.cut()
    for each, blocks in zip(pair.nodes, story.wrote, strict=True):
        each.command(Disconnect)
        each.command(Promote)
        for block in range(blocks):
            assert each.write(block, 100 + block if each.name == "castor" else 200 + block)
        if not blocks:
            each.command(NewCurrentUuid)
        if each.name not in story.primaries:
            each.command(Demote)
    return pair


def meet(pair: ResourcePair) -> None:
    for each in pair.nodes:
        each.command(Connect)
    pair.run()


@pytest.mark.parametrize("policy", NO_PRIMARY)
def test_the_policies_decide_as_the_table_says_and_otherwise_nothing_is_touched(policy: str) -> None:
    for story in stories():
        if story.after_sb_0pri != policy:
            continue
        pair = diverged(story)
        before = [list(each.disk.blocks) for each in pair.nodes]
        meet(pair)
        loses = loser(story)
        if loses is None:
            assert [each.disk.blocks for each in pair.nodes] == before, str(story)
            assert not any(each.state.established for each in pair.nodes), str(story)
            assert any(each.state.because is not None for each in pair.nodes), str(story)
        else:
            wins = before[0] if loses == "pollux" else before[1]
            for each in pair.nodes:
                assert each.state.established, str(story)
                assert each.disk.blocks == wins, str(story)
                assert each.state.disk is DiskState.UP_TO_DATE, str(story)
                keeps = each.name in story.primaries and each.name != loses
                assert each.state.role is (Role.PRIMARY if keeps else Role.SECONDARY), str(story)


@pytest.mark.parametrize("primaries", [(), ("castor",), ("castor", "pollux")])
def test_where_nothing_decides_both_stand_alone_and_know_how_much_each_has_written(primaries: tuple[str, ...]) -> None:
    pair = diverged(Story(primaries=frozenset(primaries)))
    meet(pair)
    for each, peer in (pair.nodes, pair.nodes[::-1]):
        assert each.state.connection is ConnectionState.STANDALONE
        because = each.state.because
        assert because is not None
        assert because.split_brain is not None
        assert because.split_brain.own_bits == len(each.bits)
        assert because.split_brain.peer_bits == len(peer.bits)
        called = [effect.name for effect in each.performed if isinstance(effect, RunHandler)]
        assert called == ["initial-split-brain", "split-brain"]


@pytest.mark.parametrize("victim", ["castor", "pollux"])
def test_a_persons_word_on_one_side_solves_it_by_the_bitmaps(victim: str) -> None:
    pair = diverged(Story())
    meet(pair)
    wins = list(pair.castor.disk.blocks if victim == "pollux" else pair.pollux.disk.blocks)
    for each in pair.nodes:
        each.command(Connect, discard_my_data=each.name == victim)
    pair.run()
    for each in pair.nodes:
        assert each.disk.blocks == wins
        assert (each.state.disk, each.state.because) == (DiskState.UP_TO_DATE, None)


def test_a_word_on_both_sides_is_refused_with_its_sentence() -> None:
    pair = diverged(Story())
    before = [list(each.disk.blocks) for each in pair.nodes]
    for each in pair.nodes:
        each.command(Connect, discard_my_data=True)
    pair.run()
    assert [each.disk.blocks for each in pair.nodes] == before
    for each in pair.nodes:
        assert each.state.because is not None
        assert "both nodes were told to discard" in each.state.because.sentence


def test_a_primary_does_not_discard_its_data() -> None:
    pair = diverged(Story(primaries=frozenset({"castor"})))
    token = pair.castor.command(Connect, discard_my_data=True)
    (answer,) = pair.castor.answers[token]
    assert answer.refusal is Refusal.DISCARD_AS_PRIMARY


@pytest.mark.parametrize("discard", [False, True])
def test_a_tentative_connect_only_says_what_would_happen(discard: bool) -> None:
    pair = diverged(Story())
    before = [(list(each.disk.blocks), each.disk.ids, set(each.bits)) for each in pair.nodes]
    pair.castor.command(Connect, tentative=True)
    pair.pollux.command(Connect, discard_my_data=discard)
    pair.run()
    assert [(each.disk.blocks, each.disk.ids, each.bits) for each in pair.nodes] == before
    assert pair.castor.state.connection is ConnectionState.STANDALONE
    wanted = "We become SyncSource of the blocks that differ" if discard else "Split brain"
    assert any(wanted in said.sentence for said in pair.castor.said)


def test_a_primary_that_loses_and_is_held_open_calls_its_handler_and_keeps_its_data() -> None:
    story = Story("discard-node-castor", "call-pri-lost-after-sb", primaries=frozenset({"castor"}))
    pair = diverged(story)
    pair.castor.post(ClientsChanged(1))
    before = [list(each.disk.blocks) for each in pair.nodes]
    meet(pair)
    assert [each.disk.blocks for each in pair.nodes] == before
    assert pair.castor.state.connection is ConnectionState.STANDALONE
    assert pair.castor.state.role is Role.PRIMARY
    assert RunHandler("pri-lost-after-sb") in pair.castor.performed
    assert pair.pollux.state.disk is DiskState.UP_TO_DATE


def histories_meet(story: Story, *, always: bool) -> ResourcePair:
    """Let two nodes meet that have only an old generation in common."""
    nodes = []
    for name, ids, value in (
        ("castor", GenerationIds(0x100, 0x110, 0x20, 0), 100),
        ("pollux", GenerationIds(0x200, 0x210, 0x20, 0), 200),
    ):
        each = node(name, story, always_asbp=always)
        each.reset()
        each.disk.ids = ids
        each.disk.blocks = [value] * BLOCKS
        each.disk.bits = {1}
        each.attach()
        nodes.append(each)
    return ResourcePair(*nodes)


@pytest.mark.parametrize("always", [False, True])
def test_only_always_asbp_lets_a_policy_decide_when_just_the_histories_meet(always: bool) -> None:
    pair = histories_meet(Story("discard-node-pollux"), always=always)
    meet(pair)
    if always:
        # Nothing says which blocks differ: all are copied, not only the marked one.
        assert pair.pollux.disk.blocks == pair.castor.disk.blocks == [100] * BLOCKS
    else:
        assert pair.pollux.disk.blocks == [200] * BLOCKS
        assert all(each.state.connection is ConnectionState.STANDALONE for each in pair.nodes)


@pytest.mark.parametrize("conflict", list(RrConflict))
def test_rr_conflict_says_what_becomes_of_a_primary_whose_data_are_older(conflict: RrConflict) -> None:
    """pollux has written, castor has not, but castor is Primary when they meet."""
    story = Story()
    pair = ResourcePair(*(node(name, story, rr_conflict=conflict) for name in ("castor", "pollux")))
    pair.run()
    pair.cut()
    for each in pair.nodes:
        each.command(Disconnect)
    pair.pollux.command(Promote)
    pair.pollux.write(1, 201)
    pair.pollux.command(Demote)
    pair.castor.command(Promote)
    meet(pair)
    called = {effect.name for effect in pair.castor.performed if isinstance(effect, RunHandler)}
    assert ("pri-lost" in called) == (conflict is RrConflict.CALL_PRI_LOST)
    if conflict is RrConflict.VIOLENTLY:
        assert pair.castor.disk.blocks[1] == 201
        assert pair.castor.state.role is Role.PRIMARY
    else:
        assert pair.castor.disk.blocks[1] == 0
        assert pair.castor.state.connection is ConnectionState.STANDALONE
        assert pair.castor.state.because is not None
        assert "we are Primary" in pair.castor.state.because.sentence
