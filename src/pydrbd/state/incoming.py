"""What a control packet means, one line per packet."""

from __future__ import annotations

from pydrbd.model.commands import Socket
from pydrbd.model.events import Invalidate, PacketReceived
from pydrbd.model.packets import (
    ConnectionChangeReply,
    ConnectionChangeRequest,
    DelayProbe,
    Malformed,
    Protocol,
    ProtocolUpdate,
    Received,
    Sizes,
    Skipped,
    State,
    StateChangeReply,
    StateChangeRequest,
    SyncParam,
    SyncUuid,
    Uuids,
)
from pydrbd.state import peer_state, resync
from pydrbd.state.changes import remote_requests, replies, requests, resize, resync_order
from pydrbd.state.handshake import exchange
from pydrbd.state.turn import DEBUG, Turn


def stops_reading(packet: Received) -> bool:
    """Whether the engine has stopped reading for this packet: the meta socket is never stopped."""
    return packet.socket is Socket.DATA


def on_packet(turn: Turn, event: PacketReceived) -> None:
    """Follow one packet; nothing that comes on a link which we are closing means anything any more."""
    packet: Received = event.packet
    if turn.state.link is None or turn.state.dropping:
        turn.say(f"Ignored {type(packet).__name__} on a closed connection", "late-packet", DEBUG)
        return
    if not isinstance(packet, SyncUuid):
        resync_order.look(turn, event.waits_for)
    _follow(turn, packet, event)
    if turn.state.established:
        # What we had asked for is answered, perhaps; before, nobody could be told for whom we wait.
        resync_order.look(turn, event.waits_for)


def _follow(turn: Turn, packet: Received, event: PacketReceived) -> None:
    match packet:
        case Protocol():
            exchange.on_protocol(turn, packet)
        case SyncParam():
            exchange.on_sync_param(turn, packet)
        case Sizes() if turn.link.established:
            resize.on_sizes(turn, packet, event)
        case Sizes():
            exchange.on_sizes(turn, packet)
        case Uuids():
            peer_state.on_uuids(turn, packet)
        case State() if turn.link.established:
            peer_state.on_state(turn, packet, event.bits_set, event.new_uuid)
        case State():
            exchange.on_state(turn, packet)
        case SyncUuid():
            _on_sync_uuid(turn, packet, event)
        case StateChangeRequest():
            remote_requests.on_state_change_request(turn, packet, event.new_uuid)
        case ConnectionChangeRequest():
            remote_requests.on_connection_change_request(turn, packet)
        case StateChangeReply() | ConnectionChangeReply():
            replies.on_reply(turn, packet, event.new_uuid)
        case ProtocolUpdate() | DelayProbe() | Skipped():
            turn.say(f"Passed over {type(packet).__name__}", "packet-skipped", DEBUG)
        case Malformed(sentence=sentence):
            turn.drop_broken(sentence, "malformed-packet")
        case _:
            turn.drop_broken(f"A packet {packet.command.name} has no place here", "packet-unexpected")


def _on_sync_uuid(turn: Turn, packet: SyncUuid, event: PacketReceived) -> None:
    """Begin as target; at once at rest, if another resource comes first, which the source then has to know.

    After `invalidate` the source's SYNC_UUID may overtake its consent, which comes on the other socket.
    """
    pending = turn.state.pending
    if pending is not None and isinstance(pending.command, Invalidate) and not pending.command.peer:
        requests.take(turn)
        replies.grant(turn, pending, event.new_uuid)
    has_changed = resync_order.note(turn, event.waits_for)
    resync.on_sync_uuid(turn, packet, event.bits_set)
    if has_changed and turn.state.established:
        turn.send_state()
