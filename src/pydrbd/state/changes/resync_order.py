"""The order of resyncs among the resources of one node: `resync-after`, and 0.6's `sync-group`.

A resource waits while any resource that comes before it resyncs or rests in a resync, however long the chain between
the two is (8.4 `_drbd_may_sync_now`, which walks from one `resync-after` to the next). One of a higher group comes
after all those of lower ones; those of one group resync together. What is not up is not waited for, and a chain ends
there. When one that comes before begins, one that runs is paused.

A configuration with a cycle is refused. Two daemons may have read different ones, though: where the order leads back
to itself it is not in force between those on the way, so that nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydrbd.state import resync
from pydrbd.state.engine_settings import SOURCE_STATES, TARGET_STATES
from pydrbd.state.turn import Turn


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource that is up stands in the order, and whether it resyncs (`engine_settings.is_resyncing`)."""

    after: str | None = None
    """The resource that `resync-after` names."""
    group: int = 0
    resyncing: bool = False


def before(name: str, places: Mapping[str, Place]) -> frozenset[str]:
    """Return every resource whose resync comes before that of `name`, which is one of `places`."""
    return frozenset(other for other in _reached(name, places) if other != name and name not in _reached(other, places))


def cycle(name: str, places: Mapping[str, Place]) -> frozenset[str]:
    """Return the resources from which, and to which, the order leads from `name`; none, as a rule."""
    return frozenset(other for other in _reached(name, places) if name in _reached(other, places))


def waits_for(name: str, places: Mapping[str, Place]) -> tuple[str, ...]:
    """Return the resources for whose resync that of `name` has to wait now, by name; none: it may run."""
    return tuple(sorted(other for other in before(name, places) if places[other].resyncing))


def _reached(name: str, places: Mapping[str, Place]) -> set[str]:
    """Return what the order leads to from `name`: itself only if there is a cycle."""
    reached: set[str] = set()
    to_visit = [name]
    while to_visit:
        own = places[to_visit.pop()]
        next_ones = {other for other, place in places.items() if place.group < own.group}
        if own.after is not None and own.after in places:
            next_ones.add(own.after)
        to_visit += next_ones - reached
        reached |= next_ones
    return reached


# --- what follows of it for a resource ------------------------------------------------------------------------------


def look(turn: Turn, names: tuple[str, ...] | None) -> None:
    """Pause, or go on, as the others do; the peer is told. None: nobody has looked."""
    if not note(turn, names):
        return
    resync.follow_pause(turn)
    turn.settle()
    if turn.state.established:
        turn.send_state()


def note(turn: Turn, names: tuple[str, ...] | None) -> bool:
    """Remember who is waited for; return whether the peer has to be told, and a resync paused or resumed.

    Not while we have asked the peer for something, a handshake or a change of the state: the STATE that says so would
    be taken for the one that follows its consent, and is not. Whoever has looked will look again.
    """
    state = turn.state
    asks = state.pending is not None or (state.link is not None and not state.link.established)
    if names is None or names == state.waits_for or asks:
        return False
    turn.change(waits_for=names)
    has_changed = bool(names) != bool(state.waits_for)
    if has_changed and state.replication in SOURCE_STATES | TARGET_STATES:
        if names:
            resync.say_waits(turn)
        else:
            turn.say("The resync need not wait for another one any more", "resync-after")
    return has_changed
