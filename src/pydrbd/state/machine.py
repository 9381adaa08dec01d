"""The rules: one event in, the new state and the orders out. Pure: time and random identifiers come in with the call.

Invariants that every step keeps (tests/property checks them):

1. A control packet from the data socket, and a merged bitmap, is answered by exactly one ResumeReading or by
DropConnection. 2. A command is answered by exactly one Answer, at once or when what it waits for has come. 3. What an
order tells somebody else (the engine, the peer, the user) is durable in the superblock before that order. 4. A sync
target is Inconsistent before the first block is asked for, and UpToDate only after the last one is durable. 5. A
write that the peer misses is acknowledged only after the identifiers say so: they change before Release, or behind
the gate.
"""

from __future__ import annotations

from typing import assert_never

from pydrbd.model.effects import Effect, ResumeReading
from pydrbd.model.events import (
    Attached,
    BitmapReceived,
    BlockMended,
    ClientsChanged,
    Congested,
    Connect,
    Demote,
    Detach,
    DigestFailed,
    Disconnect,
    DiskFailed,
    Down,
    Event,
    FirstWriteHeld,
    HandlerEnded,
    Invalidate,
    MetadataFailed,
    NewCurrentUuid,
    OthersResync,
    Outdate,
    OutOfSyncFound,
    PacketReceived,
    PauseSync,
    PeerDiskFailed,
    PeerLost,
    Promote,
    Resize,
    ResyncDone,
    SocketsReady,
    SuspendIo,
    TimerFired,
    Verify,
    VerifyDone,
)
from pydrbd.model.states import ReplicationState
from pydrbd.state import connections, disk, first_write, incoming, invalidate, peer_loss, peer_state, resync, roles
from pydrbd.state.changes import new_current_uuid, online_verify, requests, resize, resync_order
from pydrbd.state.faults import congestion, notices, suspension, verdict
from pydrbd.state.handshake import exchange
from pydrbd.state.node_state import Command, NodeState
from pydrbd.state.turn import LINGER_TIMER, Turn


def step(state: NodeState, event: Event, now_ms: int) -> tuple[NodeState, tuple[Effect, ...]]:
    """React to one event. Orders are to be carried out one after another, each finished before the next begins."""
    turn = Turn(state, now_ms)
    if not isinstance(event, PeerLost | FirstWriteHeld | DiskFailed):
        # Only these are dealt with while an export is being closed: now it is closed, and the local disk is flushed.
        turn.change(last_writes=False)
    _dispatch(turn, event)
    resize.give_up_if_lost(turn)
    # A command that closes the export must not find a write held at the gate which only we can let go.
    first_write.begin_if_held(turn)
    _run_waiting(turn)
    notices.tell(turn, state)
    first_write.begin_if_held(turn)
    turn.settle()
    reads_on = turn.state.link is not None and (turn.state.lingering or not turn.state.dropping)
    if _stopped_reading(event) and reads_on:
        turn.add(ResumeReading())
    return turn.state, tuple(turn.effects)


def _stopped_reading(event: Event) -> bool:
    match event:
        case PacketReceived(packet=packet):
            return incoming.stops_reading(packet)
        case BitmapReceived():
            return True
        case _:
            return False


def _dispatch(turn: Turn, event: Event) -> None:  # one line per event
    match event:
        case Attached():
            disk.on_attached(turn, event)
        case SocketsReady():
            exchange.on_sockets_ready(turn, event)
        case ClientsChanged(clients=clients):
            turn.change(clients=clients)
        case TimerFired():
            _on_timer(turn, event)
        case HandlerEnded():
            verdict.on_handler_ended(turn, event)
        case OthersResync(waits_for=waits_for):
            resync_order.look(turn, waits_for)
        case MetadataFailed():
            disk.on_metadata_failed(turn, event)
        case PacketReceived():
            incoming.on_packet(turn, event)
        case PeerLost():
            peer_loss.on_peer_lost(turn, event)
        case FirstWriteHeld():
            first_write.on_first_write_held(turn, event)
        case BitmapReceived():
            if turn.state.established:
                resync_order.look(turn, event.waits_for)
                resync.on_bitmap_received(turn, event)
        case ResyncDone():
            resync.on_resync_done(turn, event)
        case OutOfSyncFound():
            online_verify.on_out_of_sync(turn, event)
        case DigestFailed():
            peer_state.on_digest_failed(turn, event)
        case VerifyDone():
            online_verify.on_verify_done(turn, event)
        case BlockMended():
            notices.on_block_mended(turn, event)
        case DiskFailed():
            disk.on_disk_failed(turn, event)
        case PeerDiskFailed():
            peer_state.on_peer_disk_failed(turn, event)
        case Congested():
            congestion.on_congested(turn, event)
        case Promote() | Demote() | Connect() | Disconnect() | Down():
            turn.change(waiting=(*turn.state.waiting, event))
        case Invalidate() | Verify() | Outdate() | NewCurrentUuid() | PauseSync() | Detach() | SuspendIo() | Resize():
            turn.change(waiting=(*turn.state.waiting, event))
        case _:
            assert_never(event)


def _on_timer(turn: Turn, event: TimerFired) -> None:
    match event.name:
        case exchange.TIMER:
            exchange.on_timeout(turn)
        case linger if linger == LINGER_TIMER:
            if turn.state.lingering:
                turn.drop(turn.state.connection)
        case resize.TIMER:
            resize.on_timeout(turn)
        case requests.TIMER:
            requests.on_timeout(turn)
        case connections.RECONNECT_TIMER:
            connections.on_reconnect_timer(turn)
        case resync.TIMER:
            resync.on_timeout(turn)
        case congestion.TIMER:
            congestion.on_timer(turn, event)
        case resync.END_TIMER:
            resync.on_end_timer(turn, event.bits_set)
        case _:
            raise ValueError(f"no rule started a timer {event.name!r}")


def _run_waiting(turn: Turn) -> None:
    """Run commands in order, as long as the state is not in motion."""
    while turn.state.waiting and not _in_motion(turn.state, turn.state.waiting[0]):
        command, *rest = turn.state.waiting
        turn.change(waiting=tuple(rest))
        _run(turn, command)


def _in_motion(state: NodeState, command: Command) -> bool:
    """Whether a command has to wait.

    It does for the peer's answer, for the peer to be fenced, for a handshake and the end of a link, and a promotion for
    the first steps of a resync.
    """
    if state.pending is not None or state.dropping:
        return True
    if state.fence is not None and state.fence.promote is not None:
        return not isinstance(command, SuspendIo)
    if state.first_write_uuid is not None and isinstance(command, Demote | Down):
        return True
    in_handshake = state.link is not None and not state.link.established
    match command:
        case Disconnect(force=True) | Down(force=True):
            return False
        case Promote():
            return in_handshake or state.replication in {
                ReplicationState.STARTING_SYNC_T,
                ReplicationState.WF_BITMAP_T,
                ReplicationState.WF_SYNC_UUID,
                ReplicationState.BEHIND,
            }
        case _:
            return in_handshake


def _run(turn: Turn, command: Command) -> None:  # one line per command
    match command:
        case Promote():
            roles.on_promote(turn, command)
        case Demote():
            roles.on_demote(turn, command)
        case Connect():
            connections.on_connect(turn, command)
        case Disconnect():
            connections.on_disconnect(turn, command)
        case Invalidate():
            invalidate.on_invalidate(turn, command)
        case Verify():
            online_verify.on_verify(turn, command)
        case Outdate():
            disk.on_outdate(turn, command)
        case NewCurrentUuid():
            new_current_uuid.on_new_current_uuid(turn, command)
        case PauseSync():
            resync.on_pause_sync(turn, command)
        case Detach():
            disk.on_detach(turn, command)
        case SuspendIo():
            suspension.on_suspend_io(turn, command)
        case Resize():
            resize.on_resize(turn, command)
        case Down():
            connections.on_down(turn, command)
        case _:
            assert_never(command)
