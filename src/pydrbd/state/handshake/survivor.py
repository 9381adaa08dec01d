"""Who has every acknowledged write after a Primary has died and nobody has taken over (docs/adr/0009).

The peer of that Primary has them all, if it lives: under protocol C a write is acknowledged when both disks have it.
What the Primary comes back with may be less, for its disk may have lost what it had not flushed, and more, which nobody
was promised. So the survivor is the source (rule: survived), as with DRBD 9. 8.4 makes it the Primary that died, and
knows neither of the two words with which we agree on it; with such a peer we do as it does.
"""

from __future__ import annotations

from pydrbd.model.packets import NO_FLAGS, UuidFlag
from pydrbd.model.policies import WireProtocol
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state.generations import plain
from pydrbd.state.node_state import NodeState

_WHOLE = frozenset({ReplicationState.ESTABLISHED, ReplicationState.VERIFY_S, ReplicationState.VERIFY_T})
_GIVING = frozenset({ReplicationState.WF_BITMAP_S, ReplicationState.SYNC_SOURCE, ReplicationState.PAUSED_SYNC_S})


def after_loss(state: NodeState) -> int:
    """Return the generation of which we hold every acknowledged write, now that the peer is lost; 0: of none.

    `state` is the one before the loss. A resync from us that is cut takes nothing away: its target was not Primary.
    """
    if not state.established:
        return state.survived
    if state.peer_role is not Role.PRIMARY:
        return state.survived if state.replication in _GIVING else 0
    whole = state.replication in _WHOLE and state.disk is DiskState.UP_TO_DATE
    return plain(state.ids.current) if whole and state.options.wire_protocol is WireProtocol.C else 0


def survived(state: NodeState) -> bool:
    """Whether we have all that a Primary had acknowledged when we lost it, and it is what our identifiers name."""
    return (
        state.survived != 0
        and not state.crashed_primary
        and state.survived == plain(state.ids.current)
        and not state.ids.bitmap
        and state.disk is DiskState.UP_TO_DATE
    )


def yields(state: NodeState) -> bool:
    """Whether we take what a survivor has: we died as Primary, and nobody has read from us since."""
    return state.crashed_primary and state.yields and state.options.wire_protocol is WireProtocol.C


def flags(state: NodeState) -> UuidFlag:
    """Return what UUIDS says of it."""
    return (UuidFlag.SURVIVED if survived(state) else NO_FLAGS) | (UuidFlag.YIELDS if yields(state) else NO_FLAGS)
