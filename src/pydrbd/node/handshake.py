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
from dataclasses import dataclass
from enum import IntEnum

MAGIC_H80 = 0x83740267
MAGIC_H100 = 0x8620EC20
H80 = struct.Struct(">IHH")
"""magic, command, length of the payload (`struct p_header80`)."""
H100 = struct.Struct(">IHHII")
"""magic, volume, command, length of the payload, padding (`struct p_header100`)."""
FEATURES = struct.Struct(">III60x")
"""lowest version, feature flags, highest version (`struct p_connection_features`)."""

VERSION_MIN = 100
VERSION_MAX = 101
FEATURE_TRIM = 1
FEATURE_WZEROES = 8
OUR_FEATURES = FEATURE_TRIM | FEATURE_WZEROES


class Command(IntEnum):
    """The commands of the handshake (8.4 `drbd_protocol.h`)."""

    AUTH_CHALLENGE = 0x10
    AUTH_RESPONSE = 0x11
    INITIAL_META = 0xFFF1
    INITIAL_DATA = 0xFFF2
    CONNECTION_FEATURES = 0xFFFE


class HandshakeError(Exception):
    """The attempt failed; another one may succeed. The text is one sentence."""


class IncompatibleError(HandshakeError):
    """Another attempt cannot succeed until somebody changes something: the connection goes StandAlone."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides can do."""

    version: int
    features: int


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
    return H80.pack(MAGIC_H80, command, 0)


async def receive_first_packet(sock: socket.socket) -> Command:
    """Read the packet that names a socket. Raises `HandshakeError` for anything else."""
    magic, command, length = H80.unpack(await receive_exactly(sock, H80.size))
    if magic != MAGIC_H80 or command not in (Command.INITIAL_DATA, Command.INITIAL_META) or length != 0:
        raise HandshakeError("the first bytes are not DRBD's")
    return Command(command)


async def agree(sock: socket.socket) -> Agreement:
    """Exchange `CONNECTION_FEATURES` on the data socket. Raises `HandshakeError`, `IncompatibleError`."""
    ours = FEATURES.pack(VERSION_MIN, OUR_FEATURES, VERSION_MAX)
    await send(sock, H80.pack(MAGIC_H80, Command.CONNECTION_FEATURES, len(ours)) + ours)
    magic, command, length = H80.unpack(await receive_exactly(sock, H80.size))
    if magic != MAGIC_H80:
        raise HandshakeError("the peer sent garbage in place of its protocol versions")
    if command != Command.CONNECTION_FEATURES or length != FEATURES.size:
        raise IncompatibleError(
            f"the peer sent packet {command:#x} of {length} bytes in place of its protocol versions"
        )
    lowest, features, highest = FEATURES.unpack(await receive_exactly(sock, length))
    # DRBD before 8.3.0 left the field of the highest version zero.
    highest = highest or lowest
    if lowest > VERSION_MAX or highest < VERSION_MIN:
        raise IncompatibleError(
            f"the peer speaks DRBD protocol {lowest} to {highest}, this node {VERSION_MIN} to {VERSION_MAX}"
        )
    return Agreement(min(highest, VERSION_MAX), features & OUR_FEATURES)
