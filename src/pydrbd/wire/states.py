"""STATE and the requests to change it: 8.4's 32 bits (`union drbd_state`).

From the lowest: role 2, peer role 2, connection 5, disk 4, peer disk 4, suspended 1, paused after another 1, paused
by the peer 1, paused by the user 1, suspended for want of data 1, suspended for fencing 1; the other nine are zero.

8.4 has one number for what are two words here: below 9 it is the state of the connection, 9 means that parameters are
being exchanged (`CONNECTED` with `OFF`), above 9 it is the state of replication.
"""

from __future__ import annotations

from pydrbd.model.packets import (
    Change,
    ConnectionChangeReply,
    ConnectionChangeRequest,
    State,
    StateChangeReply,
    StateChangeRequest,
)
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.wire.errors import WireError
from pydrbd.wire.fields import I32, U32, exactly

_ROLE = (0, 0x3)
_PEER_ROLE = (2, 0x3)
_CSTATE = (4, 0x1F)
_DISK = (9, 0xF)
_PEER_DISK = (13, 0xF)
_FLAGS = {
    "suspended": 17,
    "after_paused": 18,
    "peer_paused": 19,
    "user_paused": 20,
    "suspended_no_data": 21,
    "suspended_fencing": 22,
}
_FIELD_BITS = 0x1FFFF


def cstate_number(connection: ConnectionState, replication: ReplicationState) -> int:
    """Return 8.4's single number for the two words."""
    return int(replication) if replication != ReplicationState.OFF else int(connection)


def from_cstate(number: int) -> tuple[ConnectionState, ReplicationState]:
    """Return the two words for 8.4's number. Raises `WireError`."""
    if number <= ConnectionState.CONNECTED:
        return ConnectionState(number), ReplicationState.OFF
    try:
        return ConnectionState.CONNECTED, ReplicationState(number)
    except ValueError as error:
        raise WireError(f"the peer says connection state {number}, which does not exist") from error


def _role(number: int) -> Role:
    try:
        return Role(number)
    except ValueError as error:
        raise WireError(f"the peer says role {number}, which does not exist") from error


def _disk(number: int) -> DiskState:
    try:
        return DiskState(number)
    except ValueError as error:
        raise WireError(f"the peer says disk state {number}, which does not exist") from error


def _get(word: int, place: tuple[int, int]) -> int:
    return word >> place[0] & place[1]


def _put(number: int, place: tuple[int, int]) -> int:
    return (number & place[1]) << place[0]


def state_word(packet: State) -> int:
    """Return the 32 bits of a state."""
    word = (
        _put(packet.role, _ROLE)
        | _put(packet.peer_role, _PEER_ROLE)
        | _put(cstate_number(packet.connection, packet.replication), _CSTATE)
        | _put(packet.disk, _DISK)
        | _put(packet.peer_disk, _PEER_DISK)
    )
    for name, bit in _FLAGS.items():
        word |= getattr(packet, name) << bit
    return word


def pack_state(packet: State) -> bytes:
    """Return the payload of `STATE`."""
    return U32.pack(state_word(packet))


def unpack_state(payload: bytes) -> State:
    """Return `STATE`. Raises `WireError`."""
    exactly(payload, U32.size, "STATE")
    word: int = U32.unpack(payload)[0]
    connection, replication = from_cstate(_get(word, _CSTATE))
    return State(
        _role(_get(word, _ROLE)),
        _role(_get(word, _PEER_ROLE)),
        connection,
        replication,
        _disk(_get(word, _DISK)),
        _disk(_get(word, _PEER_DISK)),
        **{name: bool(word >> bit & 1) for name, bit in _FLAGS.items()},
    )


def _pack_change(change: Change) -> bytes:
    mask = value = 0
    cstate = None
    if change.connection is not None:
        cstate = cstate_number(change.connection, change.replication or ReplicationState.OFF)
    for number, place in (
        (change.role, _ROLE),
        (change.peer_role, _PEER_ROLE),
        (cstate, _CSTATE),
        (change.disk, _DISK),
        (change.peer_disk, _PEER_DISK),
    ):
        if number is not None:
            mask |= _put(place[1], place)
            value |= _put(number, place)
    return U32.pack(mask) + U32.pack(value)


def _unpack_change(payload: bytes, name: str) -> Change:
    exactly(payload, 2 * U32.size, name)
    mask, value = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:], "big")
    if mask & ~_FIELD_BITS or value & ~mask:
        raise WireError(f"a {name} packet asks for bits {mask:#x} to become {value:#x}")

    def wanted(place: tuple[int, int]) -> int | None:
        masked = _get(mask, place)
        if masked not in {0, place[1]}:
            raise WireError(f"a {name} packet asks for a part of a field (mask {mask:#x})")
        return _get(value, place) if masked else None

    role, peer_role, cstate = wanted(_ROLE), wanted(_PEER_ROLE), wanted(_CSTATE)
    disk, peer_disk = wanted(_DISK), wanted(_PEER_DISK)
    connection, replication = (None, None) if cstate is None else from_cstate(cstate)
    return Change(
        role=None if role is None else _role(role),
        peer_role=None if peer_role is None else _role(peer_role),
        connection=connection,
        replication=replication,
        disk=None if disk is None else _disk(disk),
        peer_disk=None if peer_disk is None else _disk(peer_disk),
    )


def pack_change_request(packet: StateChangeRequest | ConnectionChangeRequest) -> bytes:
    """Return the payload of `STATE_CHG_REQ` or `CONN_ST_CHG_REQ`: mask and value."""
    return _pack_change(packet.change)


def unpack_state_change_request(payload: bytes) -> StateChangeRequest:
    """Return `STATE_CHG_REQ`. Raises `WireError`."""
    return StateChangeRequest(_unpack_change(payload, "STATE_CHG_REQ"))


def unpack_connection_change_request(payload: bytes) -> ConnectionChangeRequest:
    """Return `CONN_ST_CHG_REQ`. Raises `WireError`."""
    return ConnectionChangeRequest(_unpack_change(payload, "CONN_ST_CHG_REQ"))


def pack_change_reply(packet: StateChangeReply | ConnectionChangeReply) -> bytes:
    """Return the payload of `STATE_CHG_REPLY` or `CONN_ST_CHG_REPLY`."""
    return I32.pack(packet.result)


def unpack_state_change_reply(payload: bytes) -> StateChangeReply:
    """Return `STATE_CHG_REPLY`. Raises `WireError`."""
    exactly(payload, I32.size, "STATE_CHG_REPLY")
    return StateChangeReply(I32.unpack(payload)[0])


def unpack_connection_change_reply(payload: bytes) -> ConnectionChangeReply:
    """Return `CONN_ST_CHG_REPLY`. Raises `WireError`."""
    exactly(payload, I32.size, "CONN_ST_CHG_REPLY")
    return ConnectionChangeReply(I32.unpack(payload)[0])
