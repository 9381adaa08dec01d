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
    if own.ids.bitmap and plain(own.ids.bitmap) == plain(peer.ids.bitmap):
        return found(Kind.SPLIT_BRAIN_AUTO, "bitmap-both", 90)
    if _history(own.ids) & _history(peer.ids):
        return found(Kind.SPLIT_BRAIN, "history-both", 100)
    return found(Kind.UNRELATED, "unrelated", 110)


def _is_fresh(ids: GenerationIds) -> bool:
    return plain(ids.current) in {0, JUST_CREATED}


def _history(ids: GenerationIds) -> set[int]:
    """Return the history as a set. 0 means "nothing" and matches nothing: 8.4 let it match, 9 does not."""
    return {plain(ids.history0), plain(ids.history1)} - {0}


def _behind(own: GenerationIds, peer: GenerationIds) -> Finding | None:
    """Say how our data are an earlier generation of the peer's, if they are (rules 50, 51, 60)."""
    current = plain(own.current)
    if current == plain(peer.bitmap):
        return Finding(Kind.TARGET_BITMAP, "bitmap-peer", 50, own, peer)
    lost = (plain(peer.history0) + RESYNC_STEP) & ((1 << 64) - 1)
    if current == plain(peer.history0) and lost == plain(peer.bitmap):
        # The peer renamed our generation when it began the resync, but the packet that tells us was lost: undo the
        # renaming.
        mended = replace(peer, bitmap=peer.history0, history0=peer.history1)
        return Finding(Kind.TARGET_BITMAP, "lost-sync-uuid-peer", 51, own, mended)
    if current in _history(peer):
        return Finding(Kind.TARGET_FULL, "history-peer", 60, own, peer)
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
    """Say, from the source's side, at which end of a resync one of the two lost track (rules 34, 36, 43)."""
    ids, targets = source.ids, target.ids
    same_bitmap = plain(ids.bitmap) == plain(targets.history0)
    if not (same_bitmap and plain(ids.history0) == plain(targets.history1)):
        return Finding(Kind.SOURCE_BITMAP, "source-peer-missed-start", 36, ids, targets)
    mended = replace(ids, bitmap=0, history0=ids.bitmap, history1=ids.history0)
    if target.role is Role.PRIMARY and source.role is not Role.PRIMARY:
        # The target has everything, and the source has acknowledged nothing since under this identifier: the one that
        # applications use may go on, where 8.4 would want a Primary to be target.
        return Finding(Kind.TARGET_BITMAP, "source-missed-finish-peer-primary", 43, mended, targets)
    return Finding(Kind.SOURCE_BITMAP, "source-missed-finish", 34, mended, targets)


def _after_crash(own: Side, peer: Side, *, resolve_conflicts: bool) -> Finding:
    """Choose whose version of the doubtful blocks counts (rules 40 and 41)."""

    def found(kind: Kind, rule: str, number: int) -> Finding:
        return Finding(kind, rule, number, own.ids, peer.ids)

    own_primary, peer_primary = own.role is Role.PRIMARY, peer.role is Role.PRIMARY
    if own_primary and peer_primary:
        return found(Kind.SPLIT_BRAIN, "crashed-both-primary", 41)
    if own_primary:
        return found(Kind.SOURCE_BITMAP, "crashed-source-primary", 41)
    if peer_primary:
        return found(Kind.TARGET_BITMAP, "crashed-target-primary", 41)
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
