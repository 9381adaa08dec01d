"""Our commands that need the peer's consent: asked on the data socket, answered on the meta socket, one at a time.

When both nodes ask at once, the one that accepted the meta socket (RESOLVE_CONFLICTS) wins: it refuses, the other one
grants.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.commands import ChangeResult
from pydrbd.model.effects import StopTimer
from pydrbd.model.events import Disconnect, Down, Invalidate, Promote, Verify
from pydrbd.model.packets import (
    Change,
    ConnectionChangeReply,
    ConnectionChangeRequest,
    StateChangeReply,
    StateChangeRequest,
)
from pydrbd.model.policies import Fencing
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.node_state import NodeState, Pending
from pydrbd.state.turn import WARNING, Turn

TIMER = "peer-answer"


def ask(turn: Turn, pending: Pending) -> None:
    """Ask the peer; `pending` is done or refused when it answers."""
    turn.change(pending=pending)
    turn.settle()
    match pending.command:
        case Promote():
            disk = DiskState.UP_TO_DATE if pending.forced else None
            turn.send(StateChangeRequest(Change(role=Role.PRIMARY, disk=disk)))
        case Invalidate(peer=peer):
            wanted = ReplicationState.STARTING_SYNC_S if peer else ReplicationState.STARTING_SYNC_T
            change = Change(connection=ConnectionState.CONNECTED, replication=wanted)
            turn.send(StateChangeRequest(change))
        case Verify():
            change = Change(connection=ConnectionState.CONNECTED, replication=ReplicationState.VERIFY_S)
            turn.send(StateChangeRequest(change))
        case _:
            disk = DiskState.OUTDATED if pending.outdate else None
            change = Change(
                connection=ConnectionState.DISCONNECTING,
                replication=ReplicationState.OFF,
                disk=disk,
                peer_disk=DiskState.OUTDATED if outdates_peer(turn.state) else None,
            )
            turn.send(ConnectionChangeRequest(change))
    turn.start_timer(TIMER, turn.state.options.answer_timeout_ms)


def outdates_peer(state: NodeState) -> bool:
    """Whether a Primary lets the peer go only as Outdated, so that nobody has to fence it."""
    return state.role is Role.PRIMARY and state.options.fencing is not Fencing.DONT_CARE


def take(turn: Turn) -> Pending | None:
    """Take the pending command out, if there is one."""
    pending = turn.state.pending
    if pending is not None:
        turn.change(pending=None)
        turn.add(StopTimer(TIMER))
    return pending


def is_about_connection(pending: Pending) -> bool:
    """Whether the peer answers with CONN_ST_CHG_REPLY."""
    return isinstance(pending.command, Disconnect | Down)


def fits(pending: Pending | None, packet: StateChangeReply | ConnectionChangeReply) -> bool:
    """Whether a reply is the one that we wait for."""
    return pending is not None and is_about_connection(pending) == isinstance(packet, ConnectionChangeReply)


def refuse(turn: Turn, pending: Pending, result: int) -> None:
    """Answer a command that the peer does not grant.

    A disconnect may be asked for again with our data offered as Outdated.
    """
    wants_outdated = is_about_connection(pending) and result == ChangeResult.PRIMARY_NOP and not pending.outdate
    if wants_outdated:
        ask(turn, replace(pending, outdate=True))
        return
    turn.say(f"The peer refused a state change: {_reason(result)}", "refused-by-peer", WARNING)
    concurrent = result == ChangeResult.CONCURRENT_ST_CHG
    refusal = Refusal.CONCURRENT_CHANGE if concurrent else Refusal.REFUSED_BY_PEER
    turn.answer(pending.command.token, refusal, _reason(result))


def _reason(result: int) -> str:
    """Return 8.4's sentence for a result."""
    sentences = {
        ChangeResult.TWO_PRIMARIES: Refusal.TWO_PRIMARIES.sentence,
        ChangeResult.NO_UP_TO_DATE_DISK: Refusal.NO_UP_TO_DATE_DISK.sentence,
        ChangeResult.NO_LOCAL_DISK: Refusal.NO_LOCAL_DISK.sentence,
        ChangeResult.NO_REMOTE_DISK: Refusal.NO_PEER_DISK.sentence,
        ChangeResult.NO_VERIFY_ALG: Refusal.NO_VERIFY_ALG.sentence,
        ChangeResult.CONNECTED_OUTDATES: Refusal.OUTDATE_CONNECTED.sentence,
        ChangeResult.PRIMARY_NOP: Refusal.PEER_IS_PRIMARY_HERE.sentence,
        ChangeResult.RESYNC_RUNNING: Refusal.RESYNC_RUNNING.sentence,
        ChangeResult.DEVICE_IN_USE: Refusal.HELD_OPEN.sentence,
        ChangeResult.IS_DISKLESS: Refusal.DISKLESS.sentence,
        ChangeResult.NOT_SUPPORTED: Refusal.NOT_SUPPORTED.sentence,
        ChangeResult.IN_TRANSIENT_STATE: Refusal.IN_TRANSIENT_STATE.sentence,
        ChangeResult.CONCURRENT_ST_CHG: Refusal.CONCURRENT_CHANGE.sentence,
    }
    return {int(key): text for key, text in sentences.items()}.get(result, f"reason {result}")


def on_timeout(turn: Turn) -> None:
    """Give up waiting. The peer may have done it or not: only a new connection tells."""
    pending = take(turn)
    if pending is None:
        return
    turn.answer(pending.command.token, Refusal.PEER_TIMEOUT)
    if turn.state.link is not None and not turn.state.dropping:
        turn.drop_broken("The peer did not answer a request in time", "peer-answer-timeout")
