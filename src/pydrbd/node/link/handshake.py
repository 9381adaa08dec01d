"""The first packets on a pair of sockets, up to where the engine takes over (DRBD 8.4).

Each socket begins with a packet that names it (`INITIAL_DATA`, `INITIAL_META`); then both sides send
`CONNECTION_FEATURES` on the data socket and choose the protocol version; then, if a secret is configured, they
authenticate each other. Everything is read in exact lengths, so that no byte of the engine's stream is swallowed, and
every length is checked before memory is spent on it. Deadlines are the caller's.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from pydrbd.model.commands import Command
from pydrbd.model.packets import ConnectionFeatures
from pydrbd.wire import PROTOCOL_MAX, PROTOCOL_MIN, Agreed, WireError, frame, pack, unpack
from pydrbd.wire.framing import MAGIC_H80, MAGIC_H100

H80 = struct.Struct(">IHH")
"""magic, command, length of the payload (`struct p_header80`)."""
H100 = struct.Struct(">IHHII")
"""magic, volume, command, length of the payload, padding (`struct p_header100`)."""
FEATURES_BYTES = 72
"""`struct p_connection_features`."""


class HandshakeError(Exception):
    """The attempt failed; another one may succeed. The text is one sentence."""


class IncompatibleError(HandshakeError):
    """Another attempt cannot succeed until somebody changes something: the connection goes StandAlone."""


async def receive_exactly(sock: socket.socket, length_bytes: int) -> bytes:
    """Read exactly so many bytes of a non-blocking socket. Raises `HandshakeError` when the peer closes before."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < length_bytes:
        try:
            chunk = await loop.sock_recv(sock, length_bytes - len(data))
        except OSError as error:
            raise HandshakeError(f"the connection broke in the handshake ({error.strerror})") from error
        if not chunk:
            raise HandshakeError("the peer closed the connection in the handshake")
        data += chunk
    return bytes(data)


async def send(sock: socket.socket, data: bytes) -> None:
    """Send everything. Raises `HandshakeError`."""
    try:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    except OSError as error:
        raise HandshakeError(f"the connection broke in the handshake ({error.strerror})") from error


def first_packet(command: Command) -> bytes:
    """Return the packet that names a socket."""
    return frame(command, b"")


async def receive_first_packet(sock: socket.socket) -> Command:
    """Read the packet that names a socket. Raises `HandshakeError` for anything else."""
    magic, command, length = H80.unpack(await receive_exactly(sock, H80.size))
    if magic != MAGIC_H80 or command not in (Command.INITIAL_DATA, Command.INITIAL_META) or length != 0:
        raise HandshakeError("the first bytes are not DRBD's")
    return Command(command)


async def receive_packet(sock: socket.socket, header: struct.Struct) -> tuple[int, int]:
    """Read an `H80` or `H100` header; return (command, length of the payload). Raises `HandshakeError` for garbage."""
    fields = header.unpack(await receive_exactly(sock, header.size))
    if fields[0] != (MAGIC_H80 if header is H80 else MAGIC_H100):
        raise HandshakeError("the peer sent garbage in the handshake")
    return (fields[1], fields[2]) if header is H80 else (fields[2], fields[3])


async def agree(sock: socket.socket) -> Agreed:
    """Exchange `CONNECTION_FEATURES` on the data socket. Raises `HandshakeError`, `IncompatibleError`."""
    ours = Agreed()
    features = ConnectionFeatures(PROTOCOL_MIN, ours.features, PROTOCOL_MAX)
    await send(sock, frame(Command.CONNECTION_FEATURES, pack(features, ours)))
    command, length = await receive_packet(sock, H80)
    if command != Command.CONNECTION_FEATURES or length != FEATURES_BYTES:
        raise IncompatibleError(
            f"the peer sent packet {command:#x} of {length} bytes in place of its protocol versions"
        )
    try:
        theirs = unpack(command, await receive_exactly(sock, length), PROTOCOL_MAX, ours.features)
    except WireError as error:
        raise IncompatibleError(str(error)) from error
    if not isinstance(theirs, ConnectionFeatures):
        raise IncompatibleError("the peer did not say its protocol versions")
    if theirs.version_min > PROTOCOL_MAX or theirs.version_max < PROTOCOL_MIN:
        raise IncompatibleError(
            f"the peer speaks DRBD protocol {theirs.version_min} to {theirs.version_max}, "
            f"this node {PROTOCOL_MIN} to {PROTOCOL_MAX}"
        )
    return Agreed(min(theirs.version_max, PROTOCOL_MAX), theirs.features & ours.features)
