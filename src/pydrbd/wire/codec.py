"""Control packet <-> payload, for every packet that Python deals with. The hot packets are the data plane's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from pydrbd.model.commands import Command
from pydrbd.model.packets import (
    AuthChallenge,
    AuthResponse,
    ConnectionChangeReply,
    ConnectionChangeRequest,
    ConnectionFeatures,
    DelayProbe,
    InitialData,
    InitialMeta,
    Malformed,
    Packet,
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
from pydrbd.wire import device, handshake, parameters, states
from pydrbd.wire.errors import WireError
from pydrbd.wire.names import is_optional, name_of

PROTOCOL_MIN = 100
PROTOCOL_MAX = 101
FEATURE_TRIM = 1
FEATURE_THIN_RESYNC = 2
FEATURE_WSAME = 4
"""Both sides exchange the tail of SIZES. Announce it with `write_same_capable` 0 and no WSAME packet will come."""
FEATURE_WZEROES = 8


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both sides can speak."""

    version: int = PROTOCOL_MAX
    features: int = FEATURE_TRIM | FEATURE_THIN_RESYNC | FEATURE_WSAME | FEATURE_WZEROES


def pack(packet: Packet, agreed: Agreed) -> bytes:  # one line per packet
    """Return the payload of a packet. Raises `WireError` for a name that does not fit."""
    match packet:
        case Protocol():
            return parameters.pack_protocol(packet)
        case ProtocolUpdate():
            return parameters.pack_protocol_update(packet)
        case SyncParam():
            return parameters.pack_sync_param(packet)
        case Sizes():
            return device.pack_sizes(packet, with_limits=bool(agreed.features & FEATURE_WSAME))
        case Uuids():
            return device.pack_uuids(packet)
        case SyncUuid():
            return device.pack_sync_uuid(packet)
        case State():
            return states.pack_state(packet)
        case StateChangeRequest() | ConnectionChangeRequest():
            return states.pack_change_request(packet)
        case StateChangeReply() | ConnectionChangeReply():
            return states.pack_change_reply(packet)
        case DelayProbe():
            return device.pack_delay_probe(packet)
        case ConnectionFeatures():
            return handshake.pack_features(packet)
        case InitialData() | InitialMeta():
            return b""
        case AuthChallenge():
            return packet.challenge
        case AuthResponse():
            return packet.response
        case _:
            assert_never(packet)


_UNPACK: dict[int, Callable[[bytes], Packet]] = {
    Command.PROTOCOL: parameters.unpack_protocol,
    Command.PROTOCOL_UPDATE: parameters.unpack_protocol_update,
    Command.SYNC_PARAM89: parameters.unpack_sync_param,
    Command.UUIDS: device.unpack_uuids,
    Command.SYNC_UUID: device.unpack_sync_uuid,
    Command.STATE: states.unpack_state,
    Command.STATE_CHG_REQ: states.unpack_state_change_request,
    Command.STATE_CHG_REPLY: states.unpack_state_change_reply,
    Command.CONN_ST_CHG_REQ: states.unpack_connection_change_request,
    Command.CONN_ST_CHG_REPLY: states.unpack_connection_change_reply,
    Command.DELAY_PROBE: device.unpack_delay_probe,
    Command.CONNECTION_FEATURES: handshake.unpack_features,
    Command.INITIAL_DATA: handshake.unpack_initial_data,
    Command.INITIAL_META: handshake.unpack_initial_meta,
    Command.AUTH_CHALLENGE: handshake.unpack_challenge,
    Command.AUTH_RESPONSE: handshake.unpack_response,
}


def unpack(command: int, payload: bytes, agreed_version: int, features: int) -> Packet:
    """Return the packet of a number and its payload (header stripped).

    Raises `WireError` for everything that is not one.
    """
    if agreed_version < PROTOCOL_MIN and command < Command.INITIAL_META:
        raise WireError(f"protocol {agreed_version} is older than {PROTOCOL_MIN}")
    if command == Command.SIZES:
        return device.unpack_sizes(payload, with_limits=bool(features & FEATURE_WSAME))
    decoder = _UNPACK.get(command)
    if decoder is None:
        raise WireError(f"a packet {name_of(command)} is not a control packet")
    return decoder(payload)


def decode(command: int, payload: bytes, agreed_version: int, features: int) -> Received:
    """As `unpack`, but what is wrong becomes `Malformed`, and what is optional and unknown becomes `Skipped`."""
    if is_optional(command):
        return Skipped(command)
    try:
        return unpack(command, payload, agreed_version, features)
    except WireError as error:
        return Malformed(str(error))
