"""Who has whose data: the comparison of generation identifiers (8.4 `drbd_uuid_compare`, with 9's corrections).

Both nodes compute it by themselves and must come to mirrored results: `compare(a, b)` and `compare(b, a)` are mirror
images for every pair of sets, not only for those that can come about. That is why "I am behind" and "the peer is
behind" are looked for both, always: sets that say both at once cannot come from one history, and nobody may overwrite
anybody (rule: contradiction).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from pydrbd.model.generation import JUST_CREATED, GenerationIds
from pydrbd.model.states import Role
from pydrbd.state.generations import RESYNC_STEP, plain


class Kind(Enum):
    """What to do. The value is 8.4's number."""

    NO_SYNC = 0
    SOURCE_BITMAP = 1
    SOURCE_FULL = 2
    TARGET_BITMAP = -1
    TARGET_FULL = -2
    SPLIT_BRAIN_AUTO = 100
    """Both wrote since they last agreed, and the bitmaps say what: a policy may decide."""
    SPLIT_BRAIN = -100
    UNRELATED = -1000

    @property
    def mirrored(self) -> Kind:
        """Return what the other node must come to."""
        return Kind(-self.value) if abs(self.value) <= 2 else self

    @property
    def is_source(self) -> bool:
        """Whether we give."""
        return self in {Kind.SOURCE_BITMAP, Kind.SOURCE_FULL}

    @property
    def is_target(self) -> bool:
        """Whether we take."""
        return self in {Kind.TARGET_BITMAP, Kind.TARGET_FULL}

    @property
    def is_full(self) -> bool:
        """Whether every block is copied."""
        return abs(self.value) == 2

    @property
    def is_split_brain(self) -> bool:
        """Whether both have written."""
        return abs(self.value) == 100


@dataclass(frozen=True, slots=True)
class Side:
    """What one node brings to the comparison."""

    ids: GenerationIds
    role: Role = Role.SECONDARY
    doubtful: bool = False
    """It crashed as Primary, or has bits set that nothing explains (8.4's flag "crashed primary")."""
    bits: int = 0
    survived: bool = False
    """It has every write that the other side, as Primary, had acknowledged when it died (`survivor`)."""
    yields: bool = False
    """It was Primary when it died, and takes what a survivor has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What to do, by which rule (8.4's number beside it), and both sets of identifiers as they should be."""

    kind: Kind
    rule: str
    number: int
    own: GenerationIds
    peer: GenerationIds

    @property
    def mirrored(self) -> Finding:
        """Return what the other node must come to, its own identifiers first."""
        rule, number = _MIRRORED_RULES.get(self.rule, (self.rule, self.number))
        return Finding(self.kind.mirrored, rule, number, self.peer, self.own)


PAIRS = (
    (("just-created-self", 20), ("just-created-peer", 30)),
    (("source-missed-finish", 34), ("target-peer-missed-finish", 35)),
    (("source-missed-finish-peer-primary", 43), ("target-finished-primary", 43)),
    (("source-peer-missed-start", 36), ("target-missed-start", 37)),
    (("crashed-source-primary", 41), ("crashed-target-primary", 41)),
    (("crashed-self", 40), ("crashed-peer", 40)),
    (("survived-self", 44), ("survived-peer", 44)),
    (("crashed-both-source", 40), ("crashed-both-target", 40)),
    (("bits-source", 42), ("bits-target", 42)),
    (("bitmap-peer", 50), ("bitmap-self", 70)),
    (("lost-sync-uuid-peer", 51), ("lost-sync-uuid-self", 71)),
    (("history-peer", 60), ("history-self", 80)),
)
_MIRRORED_RULES = {a[0]: b for a, b in PAIRS} | {b[0]: a for a, b in PAIRS}
RULES: dict[str, str] = {
    "just-created-both": "neither disk has ever held data",
    "just-created-self": "our disk has never held data",
    "just-created-peer": "the peer's disk has never held data",
    "source-missed-finish": "we were the source of a resync and missed its end",
    "target-peer-missed-finish": "we were the target of a resync and the peer missed its end",
    "source-missed-finish-peer-primary": "we missed the end of a resync from us, and its target is Primary by now",
    "target-finished-primary": "the peer missed the end of a resync to us, and we are Primary by now",
    "source-peer-missed-start": "we were to be the source of a resync; the peer did not write its new identifier",
    "target-missed-start": "we were to be the target of a resync; we did not write our new identifier",
    "same-generation": "both have the same data generation",
    "crashed-source-primary": "one side was Primary when it died; we are Primary now",
    "crashed-target-primary": "one side was Primary when it died; the peer is Primary now",
    "crashed-both-primary": "the generations are the same although one side crashed and both are Primary",
    "crashed-self": "we were Primary when we died, the peer was not",
    "crashed-peer": "the peer was Primary when it died, we were not",
    "survived-self": "the peer was Primary when it died; we have all that it had acknowledged",
    "survived-peer": "we were Primary when we died; the peer has all that we had acknowledged",
    "crashed-both-source": "both were Primary when they died; the tie goes to us",
    "crashed-both-target": "both were Primary when they died; the tie goes to the peer",
    "bits-source": "the generations are the same but blocks are marked out of sync; ours count",
    "bits-target": "the generations are the same but blocks are marked out of sync; the peer's count",
    "bitmap-peer": "the peer has recorded what changed since our generation",
    "lost-sync-uuid-peer": "the peer began a resync towards us of which we never heard",
    "history-peer": "our generation is in the peer's history",
    "bitmap-self": "we have recorded what changed since the peer's generation",
    "lost-sync-uuid-self": "we began a resync towards the peer of which it never heard",
    "history-self": "the peer's generation is in our history",
    "contradiction": "each side's identifiers say that the other one is behind",
    "bitmap-both": "both sides have written since the same generation",
    "history-both": "both sides have written since a generation that both remember",
    "unrelated": "the two disks have no generation in common",
}
"""Every rule's name and what it saw."""


def compare(own: Side, peer: Side, *, resolve_conflicts: bool) -> Finding:
    """Say who has whose data. Exactly one of the two nodes must call with `resolve_conflicts`: it loses ties."""

    def found(kind: Kind, rule: str, number: int) -> Finding:
        return Finding(kind, rule, number, own.ids, peer.ids)

    own_fresh, peer_fresh = _is_fresh(own.ids), _is_fresh(peer.ids)
    if own_fresh and peer_fresh:
        return found(Kind.NO_SYNC, "just-created-both", 10)
    if own_fresh:
        return found(Kind.TARGET_FULL, "just-created-self", 20)
    if peer_fresh:
        return found(Kind.SOURCE_FULL, "just-created-peer", 30)
    if plain(own.ids.current) == plain(peer.ids.current):
        return _same_current(own, peer, resolve_conflicts=resolve_conflicts)
    behind = _behind(own.ids, peer.ids)
    ahead = _behind(peer.ids, own.ids)
    if behind is not None and ahead is not None:
        return found(Kind.SPLIT_BRAIN, "contradiction", 100)
    if behind is not None:
        return behind
    if ahead is not None:
        return ahead.mirrored
    return _fork(own.ids, peer.ids) or found(Kind.UNRELATED, "unrelated", 110)


def _is_fresh(ids: GenerationIds) -> bool:
    return plain(ids.current) in {0, JUST_CREATED}


def _history(ids: GenerationIds) -> set[int]:
    """Return the history as a set. 0 means "nothing" and matches nothing: 8.4 let it match, 9 does not."""
    return {plain(ids.history0), plain(ids.history1)} - {0}


def _fork(own: GenerationIds, peer: GenerationIds) -> Finding | None:
    """Say how both have written since a common generation, if they have (rules 90, 100).

    8.4 looks for it in the histories alone. These have room for two: cut resyncs with writes behind them push the
    common generation out on one side. So the bitmap identifiers count, too, and starts of a resync of which the other
    side never heard are undone first; else a person's word could not solve what is a split brain after all.
    """
    own, peer = _unheard_undone(own, peer), _unheard_undone(peer, own)
    if own.bitmap and plain(own.bitmap) == plain(peer.bitmap):
        return Finding(Kind.SPLIT_BRAIN_AUTO, "bitmap-both", 90, own, peer)
    if _remembered(own) & _remembered(peer):
        return Finding(Kind.SPLIT_BRAIN, "history-both", 100, own, peer)
    return None


def _remembered(ids: GenerationIds) -> set[int]:
    return _history(ids) | ({plain(ids.bitmap)} - {0})


def _unheard_undone(ids: GenerationIds, other: GenerationIds) -> GenerationIds:
    """Return the identifiers before the start of a resync of which the other side knows nothing."""
    if plain(ids.bitmap) in _remembered(other):
        return ids
    for older in (ids.history0, ids.history1):
        undone = _start_undone(plain(older), ids) if older else None
        if undone is not None:
            return undone
    return ids


def _behind(own: GenerationIds, peer: GenerationIds) -> Finding | None:
    """Say how our data are an earlier generation of the peer's, if they are (rules 50, 51, 60)."""
    current = plain(own.current)
    if current == plain(peer.bitmap):
        return Finding(Kind.TARGET_BITMAP, "bitmap-peer", 50, own, peer)
    mended = _start_undone(current, peer)
    if mended is not None:
        return Finding(Kind.TARGET_BITMAP, "lost-sync-uuid-peer", 51, own, mended)
    if current in _history(peer):
        # With all bits set, what the peer has recorded is what we lack: from now on its bitmap identifier says so, and
        # still knows us if the resync is cut again and again.
        return Finding(Kind.TARGET_FULL, "history-peer", 60, own, _recorded_for(current, peer))
    return None


def _recorded_for(current: int, source: GenerationIds) -> GenerationIds:
    """Return the source's identifiers with the target's generation out of the history, as what the bits count from."""
    older = source.history1 if plain(source.history0) == current else source.history0
    return replace(source, bitmap=current, history0=older, history1=0)


def _start_undone(current: int, source: GenerationIds) -> GenerationIds | None:
    """Return the source's identifiers before a start of a resync of which the target, with `current`, never heard.

    The source renamed the target's generation, but the packet that tells the target was lost. If the source has written
    since, its own last identifier stands in the history before the target's (`generations.next_generation`).
    """
    if (current + RESYNC_STEP) & ((1 << 64) - 1) != plain(source.bitmap):
        return None
    if current == plain(source.history0):
        return replace(source, bitmap=source.history0, history0=source.history1)
    if current == plain(source.history1):
        return replace(source, bitmap=source.history1, history1=0)
    return None


def _same_current(own: Side, peer: Side, *, resolve_conflicts: bool) -> Finding:
    """Tell equal generations apart: a resync whose end one side missed, a crash, or nothing at all (rules 34 to 42)."""
    if own.ids.bitmap and not peer.ids.bitmap:
        return _missed_finish(own, peer)
    if peer.ids.bitmap and not own.ids.bitmap:
        return _missed_finish(peer, own).mirrored
    if own.doubtful or peer.doubtful:
        return _after_crash(own, peer, resolve_conflicts=resolve_conflicts)
    if own.bits or peer.bits:
        return _bits_left(own, peer, resolve_conflicts=resolve_conflicts)
    return Finding(Kind.NO_SYNC, "same-generation", 40, own.ids, peer.ids)


def _missed_finish(source: Side, target: Side) -> Finding:
    """Say, from the source's side, at which end of a resync one of the two lost track (rules 34, 36, 43, 44)."""
    ids, targets = source.ids, target.ids
    same_bitmap = plain(ids.bitmap) == plain(targets.history0)
    if not (same_bitmap and plain(ids.history0) == plain(targets.history1)):
        return Finding(Kind.SOURCE_BITMAP, "source-peer-missed-start", 36, ids, targets)
    mended = replace(ids, bitmap=0, history0=ids.bitmap, history1=ids.history0)
    if target.role is Role.PRIMARY and source.role is not Role.PRIMARY:
        # The target has everything, and the source has acknowledged nothing since under this identifier: the one that
        # applications use may go on, where 8.4 would want a Primary to be target.
        return Finding(Kind.TARGET_BITMAP, "source-missed-finish-peer-primary", 43, mended, targets)
    if target.survived and source.yields and source.role is not Role.PRIMARY:
        # It died as Primary when the target had everything and had said so: all that it acknowledged since is there.
        return Finding(Kind.TARGET_BITMAP, "survived-peer", 44, mended, targets)
    return Finding(Kind.SOURCE_BITMAP, "source-missed-finish", 34, mended, targets)


def _after_crash(own: Side, peer: Side, *, resolve_conflicts: bool) -> Finding:
    """Choose whose version of the doubtful blocks counts (rules 40, 41, 44)."""

    def found(kind: Kind, rule: str, number: int) -> Finding:
        return Finding(kind, rule, number, own.ids, peer.ids)

    own_primary, peer_primary = own.role is Role.PRIMARY, peer.role is Role.PRIMARY
    if own_primary and peer_primary:
        return found(Kind.SPLIT_BRAIN, "crashed-both-primary", 41)
    if own_primary:
        return found(Kind.SOURCE_BITMAP, "crashed-source-primary", 41)
    if peer_primary:
        return found(Kind.TARGET_BITMAP, "crashed-target-primary", 41)
    gives, takes = own.survived and peer.yields, peer.survived and own.yields
    if gives != takes:
        # Bits that a resync from the survivor left behind when it was cut make nobody doubt it.
        kind, rule = (Kind.SOURCE_BITMAP, "survived-self") if gives else (Kind.TARGET_BITMAP, "survived-peer")
        return found(kind, rule, 44)
    if not peer.doubtful:
        return found(Kind.SOURCE_BITMAP, "crashed-self", 40)
    if not own.doubtful:
        return found(Kind.TARGET_BITMAP, "crashed-peer", 40)
    if resolve_conflicts:
        return found(Kind.TARGET_BITMAP, "crashed-both-target", 40)
    return found(Kind.SOURCE_BITMAP, "crashed-both-source", 40)


def _bits_left(own: Side, peer: Side, *, resolve_conflicts: bool) -> Finding:
    """Copy what is marked although the generations agree; 8.4 only writes a line to the log.

    UpToDate with bits set must not outlive a handshake. The Primary's blocks count; else the side that marked
    nothing; else the tie.
    """
    if own.role is Role.PRIMARY and peer.role is Role.PRIMARY:
        return Finding(Kind.SPLIT_BRAIN, "crashed-both-primary", 41, own.ids, peer.ids)
    if Role.PRIMARY in {own.role, peer.role}:
        we_give = own.role is Role.PRIMARY
    elif own.bits and peer.bits:
        we_give = not resolve_conflicts
    else:
        we_give = own.bits == 0
    kind, rule = (Kind.SOURCE_BITMAP, "bits-source") if we_give else (Kind.TARGET_BITMAP, "bits-target")
    return Finding(kind, rule, 42, own.ids, peer.ids)
