"""What the peer asks us to grant: its promotion, a full resync, the end of the connection (8.4 `receive_req_state`)."""

from __future__ import annotations

from pydrbd.model.commands import ChangeResult
from pydrbd.model.packets import (
    Change,
    ConnectionChangeReply,
    ConnectionChangeRequest,
    StateChangeReply,
    StateChangeRequest,
)
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import invalidate, peer_state, resync
from pydrbd.state.changes import online_verify, requests
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import WARNING, Turn

_SYNC_REQUESTS = frozenset({ReplicationState.STARTING_SYNC_S, ReplicationState.STARTING_SYNC_T})


def on_state_change_request(turn: Turn, packet: StateChangeRequest, new_uuid: int) -> None:
    """Grant or refuse, answer, then do our part."""
    change = packet.change
    result = _judge(turn.state, change)
    if result < ChangeResult.SUCCESS:
        turn.say(f"Refused a state change that the peer wanted: {result.name}", "peer-request-refused", WARNING)
        turn.send(StateChangeReply(result))
        return
    had_data = turn.state.peer_disk >= DiskState.INCONSISTENT
    _apply(turn, change)
    if change.replication is ReplicationState.VERIFY_S:
        online_verify.begin_as_target(turn)
    turn.settle()
    turn.send(StateChangeReply(result))
    if change.replication is ReplicationState.STARTING_SYNC_T:
        invalidate.begin_as_source(turn, new_uuid)
    elif change.replication is ReplicationState.STARTING_SYNC_S:
        invalidate.begin_as_target(turn)
    elif had_data and turn.state.peer_disk < DiskState.INCONSISTENT:
        # 8.4 asks before it detaches. Its STATE will say nothing new then, and writes may come before it.
        peer_state.on_peer_without_data(turn, new_uuid)


def _judge(state: NodeState, change: Change) -> ChangeResult:
    """Say whether the peer may."""
    if not state.established:
        return ChangeResult.IN_TRANSIENT_STATE
    link = state.link
    if state.pending is not None and link is not None and link.resolve_conflicts:
        return ChangeResult.CONCURRENT_ST_CHG
    if (
        change.peer_role is not None
        or change.peer_disk is not None
        or change.connection is ConnectionState.DISCONNECTING
    ):
        return ChangeResult.NOT_SUPPORTED
    if change.replication is ReplicationState.VERIFY_S:
        return online_verify.judge(state)
    if change.connection is not None:
        return _judge_sync(state, change)
    if change.role is Role.PRIMARY and state.role is Role.PRIMARY:
        return ChangeResult.TWO_PRIMARIES
    own_good = state.disk is DiskState.UP_TO_DATE
    if change.role is Role.PRIMARY and not own_good and DiskState.UP_TO_DATE not in {change.disk, state.peer_disk}:
        return ChangeResult.NO_UP_TO_DATE_DISK
    gives_up = change.disk is not None and change.disk < DiskState.UP_TO_DATE
    if gives_up and state.role is Role.PRIMARY and not own_good:
        return ChangeResult.NO_UP_TO_DATE_DISK
    return ChangeResult.SUCCESS


def _judge_sync(state: NodeState, change: Change) -> ChangeResult:
    """Say whether the peer may start a full resync; `change` is from its point of view."""
    if change.replication not in _SYNC_REQUESTS:
        return ChangeResult.NOT_SUPPORTED
    if state.replication is not ReplicationState.ESTABLISHED:
        return ChangeResult.RESYNC_RUNNING
    if not state.has_disk:
        return ChangeResult.NO_REMOTE_DISK
    if state.peer_disk < DiskState.INCONSISTENT:
        return ChangeResult.NO_LOCAL_DISK
    we_give = change.replication is ReplicationState.STARTING_SYNC_T
    source = state.disk if we_give else state.peer_disk
    return ChangeResult.SUCCESS if source is DiskState.UP_TO_DATE else ChangeResult.NO_UP_TO_DATE_DISK


def _apply(turn: Turn, change: Change) -> None:
    """See the peer as it will be."""
    state = turn.state
    if change.role is not None:
        both_inconsistent = state.disk is state.peer_disk is DiskState.INCONSISTENT
        if change.role is Role.PRIMARY and state.peer_role is not Role.PRIMARY and both_inconsistent:
            turn.change_link(consider_resync=True)
        turn.change(peer_role=change.role)
    if change.disk is not None:
        if change.disk < DiskState.INCONSISTENT:
            resync.abort(turn)
            turn.change(replication=ReplicationState.ESTABLISHED)
        turn.change(peer_disk=change.disk)


def on_connection_change_request(turn: Turn, packet: ConnectionChangeRequest) -> None:
    """Let the peer go, unless we are Primary and need its data."""
    change = packet.change
    result = _judge_disconnect(turn.state, change)
    if result < ChangeResult.SUCCESS:
        turn.say(f"Refused to let the peer disconnect: {result.name}", "peer-request-refused", WARNING)
        turn.send(ConnectionChangeReply(result))
        return
    if change.peer_disk is DiskState.OUTDATED and turn.state.disk > DiskState.OUTDATED:
        turn.change(disk=DiskState.OUTDATED)
    if change.disk is DiskState.OUTDATED and turn.state.peer_disk > DiskState.OUTDATED:
        turn.change(peer_disk=DiskState.OUTDATED)
    turn.settle()
    turn.send(ConnectionChangeReply(ChangeResult.SUCCESS))
    turn.say(f"{turn.state.options.peer_name} disconnects", "peer-disconnects")
    turn.drop(ConnectionState.TEAR_DOWN)


def _judge_disconnect(state: NodeState, change: Change) -> ChangeResult:
    link = state.link
    pending = state.pending
    same_kind = pending is not None and requests.is_about_connection(pending)
    if same_kind and link is not None and link.resolve_conflicts:
        return ChangeResult.CONCURRENT_ST_CHG
    if change.connection is not ConnectionState.DISCONNECTING:
        return ChangeResult.NOT_SUPPORTED
    primary = state.role is Role.PRIMARY
    if primary and (state.disk is not DiskState.UP_TO_DATE or change.peer_disk is DiskState.OUTDATED):
        return ChangeResult.NO_UP_TO_DATE_DISK
    if requests.outdates_peer(state) and state.peer_disk > DiskState.OUTDATED and change.disk is not DiskState.OUTDATED:
        return ChangeResult.PRIMARY_NOP
    return ChangeResult.SUCCESS
