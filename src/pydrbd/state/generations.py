"""What happens to the four generation identifiers (DRBD 8.4, facts of `drbd_main.c`), as pure functions.

Current names our data. Bitmap, if not 0, names the generation that the peer had when we began to record what it
misses. History is what current and bitmap were before. Bit 0 says "was Primary" and never takes part in a comparison.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.generation import JUST_CREATED, GenerationIds
from pydrbd.model.states import DiskState, Role
from pydrbd.state.node_state import NodeState

RESYNC_STEP = 1 << 48
"""Added to the bitmap identifier when a resync starts: the name of the target's data while they are neither old
nor new."""
_MASK = (1 << 64) - 1


def plain(identifier: int) -> int:
    """Return an identifier without the mark "was Primary"."""
    return identifier & ~1


def with_role(ids: GenerationIds, role: Role) -> GenerationIds:
    """Return the identifiers with the current one marked as the role demands."""
    current = plain(ids.current) | (role is Role.PRIMARY)
    return replace(ids, current=current)


def _pushed(ids: GenerationIds, identifier: int) -> GenerationIds:
    return replace(ids, history0=identifier, history1=ids.history0)


def new_generation(ids: GenerationIds, new_uuid: int, role: Role) -> GenerationIds:
    """Begin a generation that the peer does not have: what was current becomes the point from which bits are counted.

    A bitmap identifier that is already there moves to the history; 8.4 overwrites it.
    """
    if ids.bitmap:
        ids = _pushed(ids, ids.bitmap)
    return with_role(replace(ids, bitmap=ids.current, current=_usable(new_uuid)), role)


def next_generation(ids: GenerationIds, new_uuid: int, role: Role) -> GenerationIds:
    """Begin a generation while an older one is still recorded: a resync from us may have ended unknown to us.

    The bitmap identifier stays, so that a target that did not finish is recognised; a target that did finish has our
    current identifier, and finds it in our history.
    """
    return with_role(replace(_pushed(ids, ids.current), current=_usable(new_uuid)), role)


def _usable(new_uuid: int) -> int:
    """Return a random number as an identifier: 0 and 4 have meanings of their own, with or without bit 0."""
    return new_uuid if plain(new_uuid) not in {0, JUST_CREATED} else new_uuid + 8


def started_as_source(ids: GenerationIds, new_uuid: int) -> GenerationIds:
    """Name the state that the target has while it is being synced; it goes out as SYNC_UUID."""
    tracked = ids.bitmap not in {0, JUST_CREATED}
    name = (ids.bitmap + RESYNC_STEP) & _MASK if tracked else _usable(new_uuid)
    if ids.bitmap:
        ids = _pushed(ids, ids.bitmap)
    return replace(ids, bitmap=name)


def started_as_target(ids: GenerationIds, sync_uuid: int, role: Role) -> GenerationIds:
    """Our data are from now on what the source says: neither old nor new."""
    return with_role(replace(ids, current=sync_uuid, bitmap=0), role)


def finished_as_source(ids: GenerationIds) -> GenerationIds:
    """Make history of what named the peer's state: it has everything."""
    return replace(_pushed(ids, ids.bitmap), bitmap=0) if ids.bitmap else ids


def finished_as_target(ids: GenerationIds, source: GenerationIds, role: Role) -> GenerationIds:
    """Take the source's identifiers over; the name that our data had meanwhile becomes the newest history."""
    taken = replace(source, current=ids.current)
    if taken.bitmap:
        taken = _pushed(taken, taken.bitmap)
    return with_role(replace(_pushed(taken, ids.current), bitmap=0, current=source.current), role)


def may_share_current(ids: GenerationIds) -> bool:
    """Whether the peer may have our current identifier without our knowledge: it was our target when we stopped.

    Not if a generation has begun since, which shows by the order of the history (`next_generation`).
    """
    if not ids.bitmap:
        return False
    names = [bool(each) and (plain(each) + RESYNC_STEP) & _MASK == plain(ids.bitmap) for each in _history(ids)]
    return names != [False, True]


def _history(ids: GenerationIds) -> tuple[int, int]:
    return ids.history0, ids.history1


def needs_new_generation(state: NodeState) -> bool:
    """Whether the next write would be one that the peer lacks while no identifier says so yet.

    True for a Primary with good data, no bitmap identifier and no peer that takes part. The new generation begins
    with the first write (rule: first-write), so that a promotion without a write never becomes a split brain.
    """
    if state.role is not Role.PRIMARY or not lacks_generation(state):
        return False
    return not state.established or state.peer_disk < DiskState.INCONSISTENT


def lacks_generation(state: NodeState) -> bool:
    """Whether nothing in our identifiers would tell the peer, or what it became, that we have written without it.

    8.4 looks at the bitmap identifier alone. That is not enough while we are the source of a resync: the target takes
    our current identifier over when it is done. If we lose it then and go on writing under the same one, and it is
    promoted, our writes look like an old generation and are thrown away silently.
    """
    return state.disk is DiskState.UP_TO_DATE and (not state.ids.bitmap or state.shared_current)
