"""A small NBD client for tests: fixed newstyle, simple replies, any number of requests in flight.

It shares no line with the server under test. Numbers are those of the NBD protocol's specification.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES = range(7)
FLAG_FUA = 1
FLAG_NO_HOLE = 2

SERVER_MAGIC = b"NBDMAGICIHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698
OPT_GO = 7
REP_ACK = 1
REP_INFO = 3
REP_ERROR = 1 << 31
INFO_EXPORT = 0

REQUEST = struct.Struct(">IHHQQI")
REPLY = struct.Struct(">IIQ")
OPTION_REPLY = struct.Struct(">QIII")


class RefusedError(Exception):
    """The server answered the option GO with an error."""


class DisconnectedError(ConnectionError):
    """The server closed the connection."""


@dataclass(slots=True)
class NbdClient:
    """A connection in the transmission phase. `size_bytes` and `flags` are what the server said of its export."""

    sock: socket.socket
    size_bytes: int = 0
    flags: int = 0
    cookie: int = 0
    reads: dict[int, int] = field(default_factory=dict)

    @classmethod
    def connect(cls, path: Path, export: str = "", timeout_s: float = 20) -> NbdClient:
        """Connect to a UNIX socket and negotiate `export`. Raises OSError or RefusedError."""
        sock = socket.socket(socket.AF_UNIX)
        client = cls(sock)
        try:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
            client._negotiate(export.encode())
        except BaseException:
            sock.close()
            raise
        return client

    def _negotiate(self, export: bytes) -> None:
        magic, _handshake_flags = self._take(16), self._take(2)
        assert magic == SERVER_MAGIC, magic
        payload = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self.sock.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", OPT_GO, len(payload)) + payload)
        while True:
            reply_magic, option, kind, length = OPTION_REPLY.unpack(self._take(OPTION_REPLY.size))
            data = self._take(length)
            assert (reply_magic, option) == (OPTION_REPLY_MAGIC, OPT_GO)
            if kind & REP_ERROR:
                raise RefusedError(f"{kind:#x} {data.decode(errors='replace')}")
            if kind == REP_INFO and data[:2] == struct.pack(">H", INFO_EXPORT):
                self.size_bytes, self.flags = struct.unpack(">QH", data[2:])
            if kind == REP_ACK:
                return

    def _take(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            chunk = self.sock.recv(length - len(data))
            if not chunk:
                raise DisconnectedError(f"after {len(data)} of {length} bytes")
            data += chunk
        return bytes(data)

    def submit(self, command: int, offset: int = 0, length: int = 0, payload: bytes = b"", flags: int = 0) -> int:
        """Send a request and return its cookie; its reply comes from `receive`."""
        self.cookie += 1
        if command == READ:
            self.reads[self.cookie] = length
        header = REQUEST.pack(REQUEST_MAGIC, flags, command, self.cookie, offset, length or len(payload))
        self.sock.sendall(header + payload)
        return self.cookie

    def receive(self) -> tuple[int, int, bytes]:
        """Wait for the next reply: its cookie, its error (0: none) and a read's data."""
        magic, error, cookie = REPLY.unpack(self._take(REPLY.size))
        assert magic == REPLY_MAGIC, hex(magic)
        length = self.reads.pop(cookie, 0)
        return cookie, error, self._take(length) if length and not error else b""

    def call(self, command: int, offset: int = 0, length: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
        """Do one request and wait for it; no other may be in flight. Raises OSError with NBD's error number."""
        cookie = self.submit(command, offset, length, payload, flags)
        answered, error, data = self.receive()
        assert answered == cookie
        if error:
            raise OSError(error, f"NBD command {command} at {offset}")
        return data

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes."""
        return self.call(READ, offset, length)

    def write(self, offset: int, payload: bytes, flags: int = 0) -> None:
        """Write `payload`; on return it was acknowledged."""
        self.call(WRITE, offset, payload=payload, flags=flags)

    def flush(self) -> None:
        """Flush; on return everything acknowledged before is stable."""
        self.call(FLUSH)

    def close(self) -> None:
        """Say goodbye and close."""
        with contextlib.suppress(OSError):
            self.submit(DISC)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
