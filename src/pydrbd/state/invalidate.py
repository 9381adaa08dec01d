"""invalidate and invalidate-remote: throw one side's data away and copy everything (8.4 StartingSyncT and -S)."""

from __future__ import annotations

from pydrbd.model.events import Invalidate
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import resync
from pydrbd.state.changes import requests
from pydrbd.state.node_state import NodeState, Pending
from pydrbd.state.turn import WARNING, Turn


def on_invalidate(turn: Turn, command: Invalidate) -> None:
    """Start a full resync, or mark everything if there is no connection and there will be none for now."""
    state = turn.state
    if not state.has_disk:
        turn.answer(command.token, Refusal.NO_LOCAL_DISK)
    elif _marks_alone(state, command):
        _mark_alone(turn, command)
    else:
        refusal = _refusal(state, command)
        if refusal is not None:
            turn.answer(command.token, refusal)
        else:
            requests.ask(turn, Pending(command))


def _marks_alone(state: NodeState, command: Invalidate) -> bool:
    alone = state.connection is ConnectionState.STANDALONE and state.link is None
    return alone and (state.role is Role.PRIMARY) == command.peer


def _mark_alone(turn: Turn, command: Invalidate) -> None:
    if command.peer:
        turn.change(peer_disk=DiskState.INCONSISTENT)
    else:
        turn.change(disk=DiskState.INCONSISTENT)
    turn.set_all_bits()
    turn.say("Every block is marked: the next connection copies everything", "invalidated", WARNING)
    turn.answer(command.token)


def _refusal(state: NodeState, command: Invalidate) -> Refusal | None:
    if not state.established:
        return Refusal.NEEDS_CONNECTION
    if state.replication is not ReplicationState.ESTABLISHED:
        return Refusal.RESYNC_RUNNING
    if state.peer_disk < DiskState.INCONSISTENT:
        return Refusal.NO_PEER_DISK
    source = state.disk if command.peer else state.peer_disk
    return None if source is DiskState.UP_TO_DATE else Refusal.NO_UP_TO_DATE_DISK


def begin_as_target(turn: Turn) -> None:
    """Both agreed: our data are worth nothing from now on; the source will send SYNC_UUID."""
    turn.enter(ReplicationState.STARTING_SYNC_T)
    turn.change(disk=DiskState.INCONSISTENT)
    turn.say("Our data are invalidated: full resync from the peer", "invalidate", WARNING)
    turn.set_all_bits()
    turn.enter(ReplicationState.WF_SYNC_UUID)
    turn.start_timer(resync.TIMER, turn.state.options.bitmap_timeout_ms)
    turn.settle()


def begin_as_source(turn: Turn, new_uuid: int) -> None:
    """Both agreed: the peer's data are worth nothing from now on."""
    turn.enter(ReplicationState.STARTING_SYNC_S)
    turn.say("The peer's data are invalidated: full resync to it", "invalidate-remote", WARNING)
    turn.set_all_bits()
    resync.become_source(turn, new_uuid, turn.state.total_bits)
