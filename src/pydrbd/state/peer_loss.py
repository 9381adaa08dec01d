"""The peer is lost: what must be durable before held writes are acknowledged, and what becomes of commands.

Order: new identifiers if a write is held or not known stable on the peer (else the gate is armed, and the first write
begins the new generation), then no more replication, then Release. A crash in between leaves a node that knows that
it may differ. While I/O is suspended, by fencing above all, Release marks the blocks and acknowledges nothing; the
new generation begins when I/O goes on.
"""

from __future__ import annotations

from typing import assert_never

from pydrbd.model.effects import Release, StopResync, StopTimer, WriteBitmap
from pydrbd.model.events import (
    Connect,
    Demote,
    Detach,
    Disconnect,
    Down,
    Invalidate,
    Lost,
    NewCurrentUuid,
    Outdate,
    PauseSync,
    PeerLost,
    Promote,
    Resize,
    SuspendIo,
    Verify,
)
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import connections, first_write, resync, roles
from pydrbd.state.changes import requests
from pydrbd.state.engine_settings import SOURCE_STATES, TARGET_STATES
from pydrbd.state.faults import congestion, fencing, negotiation
from pydrbd.state.handshake import exchange, survivor
from pydrbd.state.node_state import NodeState, Pending
from pydrbd.state.turn import INFO, LINGER_TIMER, WARNING, Turn


def on_peer_lost(turn: Turn, event: PeerLost) -> None:
    """Go on alone."""
    state = turn.state
    if state.link is None:
        turn.add(Release())
        return
    ordered = state.dropping
    level = INFO if ordered else WARNING
    turn.say(f"Lost {state.options.peer_name}: {event.reason.value}", "peer-lost", level)
    turn.add(*(StopTimer(name) for name in (exchange.TIMER, resync.TIMER, resync.END_TIMER, congestion.TIMER)))
    pending = requests.take(turn)
    after = _connection_after(state, event.reason, pending)
    if state.replication in SOURCE_STATES | TARGET_STATES:
        turn.add(StopResync())
    if state.lingering:
        turn.add(StopTimer(LINGER_TIMER))
    turn.change(
        survived=survivor.after_loss(state),
        last_writes=state.role is not Role.PRIMARY and (event.held > 0 or event.unstable > 0),
        link=None,
        lingering=False,
        connection=after,
        replication=ReplicationState.OFF,
        peer_role=Role.UNKNOWN,
        peer_disk=_peer_disk_after(state.peer_disk),
        peer_paused=False,
        peer_waits=False,
        end_tries=0,
        before_target_runs=False,
        target_of_growth=False,
    )
    negotiation.on_link_lost(turn)
    # One that is giving its role up still has writes to answer, and they are answered as a Primary's.
    writes = state.role is Role.PRIMARY or event.held > 0
    fences = state.established and writes and fencing.is_due(turn.state)
    if fences:
        fencing.begin_after_loss(turn, event)
    frozen = turn.state.fence is not None and turn.state.fence.frozen
    if not frozen and first_write.misses_writes(turn.state, event.held, event.unstable):
        first_write.begin_generation(turn, event.new_uuid, "peer-lost-with-writes")
    _release(turn)
    if fences:
        fencing.call_handler(turn)
    if pending is not None:
        _go_on(turn, pending)
    _look_again(turn, event.reason)


def _release(turn: Turn) -> None:
    """Let held writes be answered, and mark what the peer may lack.

    A node that is giving its role up has writes until its export is closed. It stays "was Primary" on disk until the
    next event, which comes when they are in the bitmap and on its disk: a power cut before must find the activity log
    worth something.
    """
    turn.settle()
    turn.add(Release())
    if turn.state.has_disk:
        turn.add(WriteBitmap())


def _connection_after(state: NodeState, reason: Lost, pending: Pending | None) -> ConnectionState:
    """Return StandAlone if that was wanted or a person has to act, else what leads back to looking for the peer."""
    wanted = pending is not None and requests.is_about_connection(pending)
    if wanted or state.connection is ConnectionState.DISCONNECTING:
        return ConnectionState.STANDALONE
    broken = reason is Lost.PROTOCOL or state.connection is ConnectionState.PROTOCOL_ERROR
    return ConnectionState.PROTOCOL_ERROR if broken else ConnectionState.UNCONNECTED


def _peer_disk_after(peer_disk: DiskState) -> DiskState:
    """Return what we still know of the peer's disk: that it is bad does not change while we do not see it."""
    known = {DiskState.INCONSISTENT, DiskState.OUTDATED}
    return peer_disk if peer_disk in known else DiskState.UNKNOWN


def _go_on(turn: Turn, pending: Pending) -> None:
    """Deal with the command that waited for the peer's consent: nobody is left to ask."""
    command = pending.command
    match command:
        case Promote():
            roles.on_promote(turn, command)
        case Invalidate() | Verify():
            turn.answer(command.token, Refusal.NEEDS_CONNECTION)
        case Disconnect():
            turn.answer(command.token)
        case Down():
            connections.finish_down(turn, command)
        case Connect() | Demote() | Outdate() | NewCurrentUuid() | PauseSync() | Detach() | SuspendIo() | Resize():
            raise AssertionError(f"{command} does not wait for the peer")
        case _:
            assert_never(command)


def _look_again(turn: Turn, reason: Lost) -> None:
    state = turn.state
    match state.connection:
        case ConnectionState.UNCONNECTED:
            connections.start_listening(turn)
        case ConnectionState.PROTOCOL_ERROR:
            turn.say(f"Trying again in {state.options.reconnect_delay_ms} ms ({reason.value})", "reconnect-delayed")
            turn.change(connection=ConnectionState.UNCONNECTED)
            turn.start_timer(connections.RECONNECT_TIMER, state.options.reconnect_delay_ms)
        case _:
            turn.change(discard_my_data=False, tentative=False)
