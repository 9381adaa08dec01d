"""Packets in a stream of bytes, for the handshake before the engine takes over, and for tools that read captures.

Three headers exist. h80 (magic, command u16, length u16) carries the first packets, up to CONNECTION_FEATURES; from
protocol 100 on h100 (magic, volume u16, command u16, length u32, padding) carries everything else. h95 is for large
packets of older protocols: it is read, never written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from pydrbd.model.commands import Command
from pydrbd.wire.errors import WireError

PAYLOAD_BYTES_MAX = 4096
"""No control packet of the handshake is longer; a longer one is refused before it is read."""
MAGIC_H80 = 0x83740267
MAGIC_H95 = 0x835A
MAGIC_H100 = 0x8620EC20
_H80 = struct.Struct(">IHH")
_H95 = struct.Struct(">HHI")
_H100 = struct.Struct(">IHHII")
_FIRST_COMMANDS = frozenset({Command.INITIAL_DATA, Command.INITIAL_META, Command.CONNECTION_FEATURES})


class Header(Enum):
    """A header's form."""

    H80 = "h80"
    H95 = "h95"
    H100 = "h100"


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet, not yet decoded."""

    header: Header
    volume: int
    command: int
    payload: bytes


def header_for(command: int) -> Header:
    """Return the header that we write for a command (protocol 100 and later)."""
    return Header.H80 if command in _FIRST_COMMANDS else Header.H100


def frame(command: int, payload: bytes, volume: int = 0) -> bytes:
    """Return a packet's bytes, header and all. Raises `WireError` for a payload that no handshake packet has."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise WireError(f"a control packet of {len(payload)} bytes is too long")
    if header_for(command) is Header.H80:
        return _H80.pack(MAGIC_H80, command, len(payload)) + payload
    return _H100.pack(MAGIC_H100, volume, command, len(payload), 0) + payload


class FrameDecoder:
    """Bytes in, packets out. It holds at most one packet's bytes; after an error it takes no more."""

    def __init__(self, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._limit = payload_bytes_max
        self._buffer = bytearray()
        self._failed = False

    @property
    def rest(self) -> bytes:
        """Return the bytes that do not make a packet yet."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, return the packets that they complete.

        Raises `WireError`; every call after that raises as well.
        """
        if self._failed:
            raise WireError("the stream has already gone wrong")
        self._buffer += data
        frames = []
        try:
            while (found := self._next()) is not None:
                frames.append(found)
        except WireError:
            self._failed = True
            raise
        return frames

    def _next(self) -> Frame | None:
        head = self._header()
        if head is None:
            return None
        header, volume, command, length, header_bytes = head
        if length > self._limit:
            raise WireError(f"a packet {command:#x} announces {length} bytes; at most {self._limit} are allowed here")
        end = header_bytes + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[header_bytes:end])
        del self._buffer[:end]
        return Frame(header, volume, command, payload)

    def _header(self) -> tuple[Header, int, int, int, int] | None:
        """Return (form, volume, command, payload length, own length), or None for too few bytes. Raises `WireError`."""
        if len(self._buffer) < _H80.size:
            return None
        magic, command, length = _H80.unpack_from(self._buffer)
        if magic == MAGIC_H80:
            return Header.H80, 0, command, length, _H80.size
        short_magic, command, length = _H95.unpack_from(self._buffer)
        if short_magic == MAGIC_H95:
            return Header.H95, 0, command, length, _H95.size
        if magic != MAGIC_H100:
            raise WireError(f"a packet begins with {magic:08x}, which is not DRBD's")
        if len(self._buffer) < _H100.size:
            return None
        _magic, volume, command, length, padding = _H100.unpack_from(self._buffer)
        if padding:
            raise WireError("the padding of a packet's header is not zero")
        return Header.H100, volume, command, length, _H100.size
