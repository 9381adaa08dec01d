"""What is only told: handlers that hear of a change of state (8.4, 9 `disconnected`), and lines of the log."""

from __future__ import annotations

import errno

from pydrbd.model.effects import RunHandler
from pydrbd.model.events import BlockMended
from pydrbd.model.policies import Fencing
from pydrbd.model.states import DiskState, Role
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import ERROR, WARNING, Turn


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


def on_block_mended(turn: Turn, event: BlockMended) -> None:
    """Name the sectors that our disk could not read, and what has become of them; nothing else changes."""
    block = f"{event.sectors} sectors at sector {event.sector}"
    if not event.error:
        turn.say(f"The disk could not read {block}: mended with the peer's data", "block-mended", WARNING)
    elif event.error == errno.ENODATA:
        turn.say(f"The disk could not read {block}, and the peer cannot either: not mended", "block-lost", ERROR)
    else:
        sentence = f"The disk could not read {block}, and the peer went before they were mended: the next read tries"
        turn.say(f"{sentence} again", "block-not-mended", WARNING)


def _is_degraded(state: NodeState) -> bool:
    """Whether we are Primary and see no good data at all."""
    if state.role is not Role.PRIMARY or state.disk is DiskState.UP_TO_DATE:
        return False
    return not (state.established and state.peer_disk is DiskState.UP_TO_DATE)


def _is_whole(state: NodeState) -> bool:
    """Whether both replicas are good and see each other: what fenced one of them may go."""
    return state.established and state.disk is state.peer_disk is DiskState.UP_TO_DATE
