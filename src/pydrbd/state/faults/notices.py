"""Handlers that only hear of something: which change of state calls which (8.4 `after_state_ch`, 9 `disconnected`)."""

from __future__ import annotations

from pydrbd.model.effects import RunHandler
from pydrbd.model.policies import Fencing
from pydrbd.model.states import DiskState, Role
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import ERROR, Turn


def tell(turn: Turn, before: NodeState) -> None:
    """Call the handlers of what has become of `before`, where there are any."""
    now = turn.state
    called = []
    if _is_degraded(now) and not _is_degraded(before):
        turn.say("Primary without access to good data", "no-data", ERROR)
        called.append("pri-on-incon-degr")
    if before.established and now.link is None:
        called.append("disconnected")
    if now.options.fencing is not Fencing.DONT_CARE and _is_whole(now) and not _is_whole(before):
        called.append("unfence-peer")
    turn.add(*(RunHandler(name) for name in called if name in now.options.handlers))


def _is_degraded(state: NodeState) -> bool:
    """Whether we are Primary and see no good data at all."""
    if state.role is not Role.PRIMARY or state.disk is DiskState.UP_TO_DATE:
        return False
    return not (state.established and state.peer_disk is DiskState.UP_TO_DATE)


def _is_whole(state: NodeState) -> bool:
    """Whether both replicas are good and see each other: what fenced one of them may go."""
    return state.established and state.disk is state.peer_disk is DiskState.UP_TO_DATE
