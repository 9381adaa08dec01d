"""The peer's answers to what we asked."""

from __future__ import annotations

from typing import assert_never

from pydrbd.model.commands import ChangeResult
from pydrbd.model.events import (
    Connect,
    Demote,
    Detach,
    Disconnect,
    Down,
    Invalidate,
    NewCurrentUuid,
    Outdate,
    PauseSync,
    Promote,
    Resize,
    SuspendIo,
    Verify,
)
from pydrbd.model.packets import ConnectionChangeReply, StateChangeReply
from pydrbd.model.states import ConnectionState, DiskState
from pydrbd.state import invalidate, roles
from pydrbd.state.changes import online_verify, requests
from pydrbd.state.node_state import Pending
from pydrbd.state.turn import DEBUG, Turn


def on_reply(turn: Turn, packet: StateChangeReply | ConnectionChangeReply, new_uuid: int) -> None:
    """Do what was granted, or answer what was refused."""
    if not requests.fits(turn.state.pending, packet):
        turn.say("The peer answered a question that we no longer ask", "late-reply", DEBUG)
        return
    pending = requests.take(turn)
    if pending is None:
        return
    if packet.result >= ChangeResult.SUCCESS:
        grant(turn, pending, new_uuid)
    else:
        requests.refuse(turn, pending, packet.result)


def grant(turn: Turn, pending: Pending, new_uuid: int) -> None:
    """Do what the peer has granted."""
    command = pending.command
    match command:
        case Promote():
            roles.become_primary(turn, command, forced=pending.forced)
        case Invalidate(peer=False):
            invalidate.begin_as_target(turn)
            turn.answer(command.token)
        case Invalidate():
            invalidate.begin_as_source(turn, new_uuid)
            turn.answer(command.token)
        case Verify():
            online_verify.begin_as_source(turn, command)
        case Disconnect() | Down():
            # Answered when the engine says that the link is gone.
            if pending.outdate:
                turn.change(disk=DiskState.OUTDATED)
            if requests.outdates_peer(turn.state):
                turn.change(peer_disk=DiskState.OUTDATED)
            turn.change(pending=pending)
            turn.drop(ConnectionState.DISCONNECTING)
        case Connect() | Demote() | Outdate() | NewCurrentUuid() | PauseSync() | Detach() | SuspendIo() | Resize():
            raise AssertionError(f"{command} needs nobody's consent")
        case _:
            assert_never(command)
