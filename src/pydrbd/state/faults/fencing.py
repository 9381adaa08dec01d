"""Fencing: making sure that a peer which we do not see does not become Primary, before we go on as one (facts 2.14).

Two occasions. A Primary, or one that is giving the role up and still has writes to answer, loses a peer whose data may
be good: with `resource-and-stonith` I/O is frozen, the handler `fence-peer` runs, and only what it says lets writes be
acknowledged; with `resource-only` it runs beside them. And a promotion while we do not see a peer whose data may be
good waits for the handler.

Frozen writes are not acknowledged and their blocks are marked already, so that the peer may come back meanwhile: then
nothing has to be fenced, and a resync brings it what they wrote. What the handler says: `pydrbd.state.faults.verdict`.
"""

from __future__ import annotations

from pydrbd.model.effects import RunHandler
from pydrbd.model.events import PeerLost, Promote
from pydrbd.model.policies import Fencing
from pydrbd.model.states import DiskState
from pydrbd.state.node_state import Fence, NodeState
from pydrbd.state.turn import WARNING, Turn

HANDLER = "fence-peer"
_OWN_GOOD = frozenset({DiskState.CONSISTENT, DiskState.UP_TO_DATE})


def is_due(state: NodeState) -> bool:
    """Whether the peer may have good data and we do not see it, while the configuration asks for fencing.

    Without good data of our own there is nothing to be kept for us.
    """
    if state.options.fencing is Fencing.DONT_CARE or state.established:
        return False
    return state.disk in _OWN_GOOD and state.peer_disk > DiskState.OUTDATED


def begin_after_loss(turn: Turn, event: PeerLost) -> None:
    """Fence the peer that a Primary has lost. The caller settles: that freezes I/O, if it is to be frozen."""
    frozen = turn.state.options.fencing is Fencing.RESOURCE_AND_STONITH
    turn.change(fence=Fence(frozen=frozen, held=event.held, unstable=event.unstable, new_uuid=event.new_uuid))
    if frozen:
        turn.say("I/O is frozen until the peer is fenced", "fencing-frozen", WARNING)


def begin_for_promotion(turn: Turn, command: Promote) -> None:
    """Fence the peer before we become Primary without it; the command goes on when the handler has ended."""
    turn.change(fence=Fence(promote=command))
    call_handler(turn)


def call_handler(turn: Turn) -> None:
    """Start the handler."""
    turn.say(f"Fencing {turn.state.options.peer_name}", "fence-peer", WARNING)
    turn.add(RunHandler(HANDLER))
