"""From identifiers to a decision: disk states, split-brain policies, and what must not happen (facts 2.3).

The order of the steps is 8.4's (`drbd_sync_handshake`). Both nodes run it and come to mirrored results, because
everything that it looks at is known to both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydrbd.model.policies import AfterSplitBrain, RrConflict
from pydrbd.model.states import DiskState, Role
from pydrbd.state.handshake.uuid_compare import RULES, Finding, Kind, Side, compare
from pydrbd.state.node_state import Options


@dataclass(frozen=True, slots=True)
class Case:
    """What the decision depends on."""

    own: Side
    peer: Side
    own_disk: DiskState
    peer_disk: DiskState
    own_discards: bool
    """`--discard-my-data` was given here."""
    peer_discards: bool
    resolve_conflicts: bool
    own_may_demote: bool = False
    """We are Primary but nobody holds the device open."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """What to do, by which rule, in one sentence.

    A `refusal` means: drop the connection and stay StandAlone, for this reason.
    """

    finding: Finding
    sentence: str
    refusal: str = ""
    handlers: tuple[str, ...] = ()
    diverged: bool = False
    """Both sides have written without each other, whoever has decided what becomes of it."""
    demotes: bool = False
    """We lose, and give up being Primary for it (call-pri-lost-after-sb)."""
    peer_demotes: bool = False
    """The peer loses, and either gives up being Primary or drops the connection."""

    @property
    def kind(self) -> Kind:
        """Return what to do."""
        return self.finding.kind

    @property
    def rule(self) -> str:
        """Return the rule's name."""
        return self.finding.rule


def decide(case: Case, options: Options) -> Strategy:
    """Return what this handshake leads to."""
    finding = compare(case.own, case.peer, resolve_conflicts=case.resolve_conflicts)
    if finding.kind is Kind.UNRELATED:
        return Strategy(finding, RULES["unrelated"], "Unrelated data: the two disks have no generation in common")
    finding = _by_disk_states(finding, case)
    handlers: tuple[str, ...] = ()
    diverged = finding.kind.is_split_brain
    if diverged:
        handlers = ("initial-split-brain",)
        finding = _solve_split_brain(finding, case, options)
    if finding.kind.is_split_brain:
        sentence = f"Split brain ({RULES.get(finding.rule, finding.rule)}) is not solved by a policy"
        return Strategy(finding, sentence, sentence, (*handlers, "split-brain"), diverged)
    return replace(_refuse_or_do(finding, case, options, handlers), diverged=diverged)


def _by_disk_states(finding: Finding, case: Case) -> Finding:
    """Give from the better disk if exactly one side is Inconsistent, whatever the identifiers say."""
    own_better = case.peer_disk is DiskState.INCONSISTENT and case.own_disk > DiskState.INCONSISTENT
    peer_better = case.own_disk is DiskState.INCONSISTENT and case.peer_disk > DiskState.INCONSISTENT
    if not own_better and not peer_better:
        if finding.number == 42 and case.own_disk <= DiskState.INCONSISTENT:
            # Neither side has anything to give: the marks stay until somebody is forced to be Primary.
            return replace(finding, kind=Kind.NO_SYNC, rule="same-generation", number=40)
        return finding
    full = finding.kind is Kind.SPLIT_BRAIN or finding.kind.is_full
    if own_better:
        kind = Kind.SOURCE_FULL if full else Kind.SOURCE_BITMAP
    else:
        kind = Kind.TARGET_FULL if full else Kind.TARGET_BITMAP
    return finding if kind is finding.kind else replace(finding, kind=kind, rule="disk-states")


def _solve_split_brain(finding: Finding, case: Case, options: Options) -> Finding:
    """Let a policy decide, then a person's word on exactly one side."""
    if finding.kind is Kind.SPLIT_BRAIN_AUTO or options.always_asbp:
        kind, rule = _by_policy(case, options)
        if kind is not None:
            # Without a common bitmap identifier nothing says which blocks differ.
            doubled = kind if finding.kind is Kind.SPLIT_BRAIN_AUTO else Kind(kind.value * 2)
            return replace(finding, kind=doubled, rule=rule)
    if case.own_discards and not case.peer_discards:
        return replace(finding, kind=Kind.TARGET_BITMAP, rule="discard-my-data")
    if case.peer_discards and not case.own_discards:
        return replace(finding, kind=Kind.SOURCE_BITMAP, rule="discard-my-data")
    return replace(finding, kind=Kind.SPLIT_BRAIN)


def _by_policy(case: Case, options: Options) -> tuple[Kind | None, str]:
    primaries = (case.own.role is Role.PRIMARY) + (case.peer.role is Role.PRIMARY)
    match primaries:
        case 0:
            return _no_primary(case, options), "after-sb-0pri"
        case 1:
            return _one_primary(case, options), "after-sb-1pri"
        case _:
            policy = options.after_sb_2pri
            if policy in {AfterSplitBrain.VIOLENTLY_AS0P, AfterSplitBrain.CALL_PRI_LOST_AFTER_SB}:
                return _no_primary(case, options), "after-sb-2pri"
            return None, "after-sb-2pri"


def _no_primary(case: Case, options: Options) -> Kind | None:
    """`after-sb-0pri`; None leaves it to people. Ties lose on the RESOLVE_CONFLICTS side."""
    policy = options.after_sb_0pri
    give, take = Kind.SOURCE_BITMAP, Kind.TARGET_BITMAP
    tie = take if case.resolve_conflicts else give
    own_first, peer_first = bool(case.own.ids.bitmap & 1), bool(case.peer.ids.bitmap & 1)
    match policy:
        case AfterSplitBrain.DISCARD_LOCAL:
            return take
        case AfterSplitBrain.DISCARD_REMOTE:
            return give
        case AfterSplitBrain.DISCARD_YOUNGER_PRIMARY if own_first != peer_first:
            return give if own_first else take
        case AfterSplitBrain.DISCARD_OLDER_PRIMARY if own_first != peer_first:
            return take if own_first else give
        case AfterSplitBrain.DISCARD_LEAST_CHANGES:
            return _least_changes(case, tie)
        case (
            AfterSplitBrain.DISCARD_YOUNGER_PRIMARY
            | AfterSplitBrain.DISCARD_OLDER_PRIMARY
            | AfterSplitBrain.DISCARD_ZERO_CHANGES
        ):
            if not case.own.bits and not case.peer.bits:
                return tie
            if not case.own.bits or not case.peer.bits:
                return give if case.own.bits else take
            return None if policy is AfterSplitBrain.DISCARD_ZERO_CHANGES else _least_changes(case, tie)
        case _:
            return None


def _least_changes(case: Case, tie: Kind) -> Kind:
    if case.own.bits == case.peer.bits:
        return tie
    return Kind.SOURCE_BITMAP if case.own.bits > case.peer.bits else Kind.TARGET_BITMAP


def _one_primary(case: Case, options: Options) -> Kind | None:
    """`after-sb-1pri`; None leaves it to people."""
    we_are_primary = case.own.role is Role.PRIMARY
    match options.after_sb_1pri:
        case AfterSplitBrain.CONSENSUS:
            kind = _no_primary(case, options)
            return kind if kind is not None and kind.is_source == we_are_primary else None
        case AfterSplitBrain.VIOLENTLY_AS0P | AfterSplitBrain.CALL_PRI_LOST_AFTER_SB:
            return _no_primary(case, options)
        case AfterSplitBrain.DISCARD_SECONDARY:
            return Kind.SOURCE_BITMAP if we_are_primary else Kind.TARGET_BITMAP
        case _:
            return None


def _refuse_or_do(finding: Finding, case: Case, options: Options, handlers: tuple[str, ...]) -> Strategy:
    kind = finding.kind
    what = RULES.get(finding.rule, f"by {finding.rule}")
    if kind.is_source and case.own_disk <= DiskState.INCONSISTENT:
        return Strategy(finding, what, "We should become SyncSource, but our data are Inconsistent", handlers)
    calls = _calls_primary(finding.rule, options)
    if kind.is_target and case.own.role is Role.PRIMARY and case.own_disk >= DiskState.CONSISTENT:
        if calls and case.own_may_demote:
            return Strategy(finding, f"{_WORDS[kind]} and Secondary: {what}", "", handlers, demotes=True)
        if calls:
            handlers = (*handlers, "pri-lost-after-sb")
            return Strategy(finding, what, "We should become SyncTarget, but we are Primary and held open", handlers)
        if options.rr_conflict is RrConflict.CALL_PRI_LOST:
            handlers = (*handlers, "pri-lost")
        if options.rr_conflict is not RrConflict.VIOLENTLY:
            return Strategy(finding, what, "We should become SyncTarget, but we are Primary", handlers)
    peer_demotes = calls and kind.is_source and case.peer.role is Role.PRIMARY
    return Strategy(finding, f"{_WORDS[kind]}: {what}", "", handlers, peer_demotes=peer_demotes)


def _calls_primary(rule: str, options: Options) -> bool:
    """Whether the rule is a policy that has a Primary that lost give up (8.4 `drbd_asb_recover_1p`, `_2p`)."""
    policy = {"after-sb-1pri": options.after_sb_1pri, "after-sb-2pri": options.after_sb_2pri}.get(rule)
    return policy is AfterSplitBrain.CALL_PRI_LOST_AFTER_SB


_WORDS = {
    Kind.NO_SYNC: "No resync is needed",
    Kind.SOURCE_BITMAP: "We become SyncSource of the blocks that differ",
    Kind.SOURCE_FULL: "We become SyncSource of the whole device",
    Kind.TARGET_BITMAP: "We become SyncTarget of the blocks that differ",
    Kind.TARGET_FULL: "We become SyncTarget of the whole device",
}
