"""Both nodes compute the decision by themselves: whatever the identifiers are, the results are mirror images."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pydrbd.model.generation import JUST_CREATED, GenerationIds
from pydrbd.model.policies import AfterSplitBrain, RrConflict
from pydrbd.model.states import DiskState, Role
from pydrbd.state.generations import RESYNC_STEP
from pydrbd.state.handshake.strategy import Case, decide
from pydrbd.state.handshake.uuid_compare import RULES, Kind, Side, compare
from pydrbd.state.node_state import Options

# Few different identifiers, so that they meet; each with its successor at the start of a resync, and "was Primary" too.
NAMES = [0, JUST_CREATED] + [
    name for plain in (0x10, 0x20, 0x30) for name in (plain, plain | 1, plain + RESYNC_STEP, (1 << 64) - 0x10)
]
identifiers = st.builds(GenerationIds, *(st.sampled_from(NAMES) for _ in range(4)))
roles = st.sampled_from([Role.PRIMARY, Role.SECONDARY])
sides = st.builds(Side, identifiers, roles, st.booleans(), st.integers(0, 2), st.booleans(), st.booleans())
disks = st.sampled_from([DiskState.INCONSISTENT, DiskState.OUTDATED, DiskState.CONSISTENT, DiskState.UP_TO_DATE])


@given(sides, sides, st.booleans())
def test_two_nodes_find_mirrored_results(own: Side, peer: Side, resolves: bool) -> None:
    ours = compare(own, peer, resolve_conflicts=resolves)
    theirs = compare(peer, own, resolve_conflicts=not resolves)
    assert ours.mirrored == theirs
    assert theirs.mirrored == ours


# Equal generations; the first side has not heard that the resync from it ended.
started = GenerationIds(0x30, 0x20, 0x10, 0)
finished = GenerationIds(0x30, 0, 0x20, 0x10)
missed_ends = st.tuples(sides, sides).map(lambda two: (replace(two[0], ids=started), replace(two[1], ids=finished)))


@given(missed_ends, st.booleans())
def test_two_nodes_agree_on_who_gives_when_one_missed_the_end_of_a_resync(
    missed: tuple[Side, Side], resolves: bool
) -> None:
    source, target = missed
    ours = compare(source, target, resolve_conflicts=resolves)
    assert ours.mirrored == compare(target, source, resolve_conflicts=not resolves)
    primaries = source.role is Role.PRIMARY, target.role is Role.PRIMARY
    turned_round = primaries == (False, True) or (not primaries[0] and target.survived and source.yields)
    assert ours.kind is (Kind.TARGET_BITMAP if turned_round else Kind.SOURCE_BITMAP)
    assert ours.own.bitmap == ours.peer.bitmap == 0


@given(sides, sides, st.booleans())
def test_every_finding_names_a_rule_that_is_explained(own: Side, peer: Side, resolves: bool) -> None:
    assert compare(own, peer, resolve_conflicts=resolves).rule in RULES


@given(sides, sides)
def test_nobody_gives_data_that_were_never_written(own: Side, peer: Side) -> None:
    finding = compare(own, peer, resolve_conflicts=True)
    if own.ids.current in {0, JUST_CREATED}:
        assert not finding.kind.is_source
    if peer.ids.current in {0, JUST_CREATED}:
        assert not finding.kind.is_target


@given(sides, sides)
def test_equal_generations_with_bits_set_are_never_taken_for_equal(own: Side, peer: Side) -> None:
    finding = compare(own, peer, resolve_conflicts=True)
    fresh = {0, JUST_CREATED}
    if finding.kind is Kind.NO_SYNC and not {own.ids.current & ~1, peer.ids.current & ~1} & fresh:
        assert own.bits == peer.bits == 0


cases = st.builds(Case, sides, sides, disks, disks, st.booleans(), st.booleans(), st.booleans())
policies = st.sampled_from(AfterSplitBrain)
options = st.builds(
    Options,
    after_sb_0pri=policies,
    after_sb_1pri=policies,
    after_sb_2pri=policies,
    always_asbp=st.booleans(),
    rr_conflict=st.sampled_from(RrConflict),
)


def mirrored_case(case: Case) -> Case:
    return Case(
        own=case.peer,
        peer=case.own,
        own_disk=case.peer_disk,
        peer_disk=case.own_disk,
        own_discards=case.peer_discards,
        peer_discards=case.own_discards,
        resolve_conflicts=not case.resolve_conflicts,
    )


@given(cases, options)
def test_two_nodes_decide_mirrored(case: Case, configured: Options) -> None:
    peers = replace(
        configured,
        after_sb_0pri=configured.after_sb_0pri.mirrored,
        after_sb_1pri=configured.after_sb_1pri.mirrored,
        after_sb_2pri=configured.after_sb_2pri.mirrored,
    )
    assert decide(case, configured).kind is decide(mirrored_case(case), peers).kind.mirrored


@given(cases, options)
def test_an_inconsistent_disk_is_never_a_source_unless_the_link_is_refused(case: Case, configured: Options) -> None:
    strategy = decide(case, configured)
    if strategy.kind.is_source and case.own_disk is DiskState.INCONSISTENT:
        assert strategy.refusal


@given(cases)
def test_diverged_data_are_never_overwritten_without_a_persons_word(case: Case) -> None:
    strategy = decide(replace(case, own_disk=DiskState.UP_TO_DATE, peer_disk=DiskState.UP_TO_DATE), Options())
    found = compare(case.own, case.peer, resolve_conflicts=case.resolve_conflicts)
    told = case.own_discards != case.peer_discards
    if (found.kind.is_split_brain and not told) or found.kind is Kind.UNRELATED:
        assert strategy.refusal
