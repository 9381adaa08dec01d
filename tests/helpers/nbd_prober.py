"""A raw NBD client that says exactly what a test wants said, right or wrong, and reads exactly what is answered.

It shares no line with the server under test; numbers are those of the NBD protocol's specification. Nothing here waits
longer than the socket's timeout, so a server that hangs fails its test.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_PEEK_EXPORT, OPT_STARTTLS, OPT_INFO, OPT_GO = range(1, 8)
OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS = range(8, 12)

ACK, SERVER, INFO = 1, 2, 3
UNSUP, POLICY, INVALID, UNKNOWN = 0x80000001, 0x80000002, 0x80000003, 0x80000006

READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS, RESIZE = range(9)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD_LEN = 1, 2, 4, 8, 16, 32

EPERM, EIO, EINVAL, ENOSPC, ENOTSUP = 1, 5, 22, 28, 95

REQUEST_MAGIC = 0x25609513
SIMPLE_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF
OPTION_REPLY_MAGIC = 0x3E889045565A9
CHUNK_NONE, CHUNK_OFFSET_DATA, CHUNK_ERROR = 0, 1, 0x8001
COOKIE = 0xFEDCBA9876543210


class DroppedError(ConnectionError):
    """The server closed the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to a request. `error` 0 is success; `kind` is None for a simple reply, else the chunk's type."""

    error: int
    data: bytes = b""
    kind: int | None = None


def info(
    name: bytes = b"", types: tuple[int, ...] = (), *, length: int | None = None, count: int | None = None
) -> bytes:
    """Return the data of INFO or GO, with the inner lengths as they are or as they are claimed."""
    head = struct.pack(">I", len(name) if length is None else length) + name
    return head + struct.pack(f">H{len(types)}H", len(types) if count is None else count, *types)


def meta_context(
    name: bytes = b"", queries: tuple[bytes, ...] = (), *, length: int | None = None, count: int | None = None
) -> bytes:
    """Return the data of LIST_META_CONTEXT or SET_META_CONTEXT."""
    head = struct.pack(">I", len(name) if length is None else length) + name
    tail = b"".join(struct.pack(">I", len(query)) + query for query in queries)
    return head + struct.pack(">I", len(queries) if count is None else count) + tail


@dataclass(slots=True)
class Prober:
    """One connection."""

    sock: socket.socket
    structured: bool = False
    size_bytes: int = 0
    flags: int = 0

    @classmethod
    def connect(cls, path: Path, *, timeout_s: float = 10) -> Self:
        """Connect, and say nothing yet."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout_s)
            sock.connect(str(path))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def greeted(cls, path: Path, flags: int = 3) -> Self:
        """Connect, check the greeting and answer it."""
        prober = cls.connect(path)
        assert prober.take(18) == b"NBDMAGICIHAVEOPT\x00\x03"
        prober.send(struct.pack(">I", flags))
        return prober

    @classmethod
    def in_transmission(cls, path: Path, *, structured: bool = False) -> Self:
        """Connect and negotiate, so that the next thing is a request."""
        prober = cls.greeted(path)
        if structured:
            prober.option(OPT_STRUCTURED_REPLY)
            assert prober.option_reply(OPT_STRUCTURED_REPLY) == (ACK, b"")
            prober.structured = True
        prober.option(OPT_GO, info())
        kind, data = prober.option_reply(OPT_GO)
        assert kind == INFO
        assert data[:2] == b"\0\0"
        prober.size_bytes, prober.flags = struct.unpack(">QH", data[2:])
        assert prober.option_reply(OPT_GO) == (ACK, b"")
        return prober

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all of it. A server that has closed already shows when it is read from."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def take(self, length: int) -> bytes:
        """Return exactly `length` bytes. Raises DroppedError, or TimeoutError when the server hangs."""
        data = bytearray()
        while len(data) < length:
            try:
                piece = self.sock.recv(length - len(data))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise DroppedError(f"after {len(data)} of {length} bytes")
            data += piece
        return bytes(data)

    def is_dropped(self) -> bool:
        """Wait for the server's next byte: True when it closes instead."""
        try:
            self.take(1)
        except DroppedError:
            return True
        return False

    def option(self, number: int, data: bytes = b"", *, length: int | None = None, magic: bytes = b"IHAVEOPT") -> None:
        """Send an option, with its length as it is or as it is claimed."""
        self.send(magic + struct.pack(">II", number, len(data) if length is None else length) + data)

    def option_reply(self, number: int) -> tuple[int, bytes]:
        """Return type and data of the next reply, which must be for this option."""
        magic, echoed, kind, length = struct.unpack(">QIII", self.take(20))
        assert (magic, echoed) == (OPTION_REPLY_MAGIC, number)
        assert length <= 2 * 4096 + 4
        return kind, self.take(length)

    def option_is_in_step(self) -> bool:
        """Send LIST: True when it is answered as ever."""
        self.option(OPT_LIST)
        kind, _ = self.option_reply(OPT_LIST)
        return kind == SERVER and self.option_reply(OPT_LIST) == (ACK, b"")

    def request(
        self,
        command: int,
        offset: int = 0,
        length: int = 0,
        *,
        flags: int = 0,
        payload: bytes = b"",
        cookie: int = COOKIE,
    ) -> None:
        """Send a request. Offsets wrap at 2^64, as an attacker's would."""
        head = struct.pack(">IHHQQI", REQUEST_MAGIC, flags, command, cookie, offset % (1 << 64), length)
        self.send(head + payload)

    def reply(self, command: int, length: int = 0, *, cookie: int = COOKIE) -> Reply:
        """Return the next answer, which must be one that this command may get."""
        magic = int.from_bytes(self.take(4))
        if magic == SIMPLE_MAGIC:
            assert not (self.structured and command == READ), "a simple reply to a READ after STRUCTURED_REPLY"
            error, echoed = struct.unpack(">IQ", self.take(12))
            assert echoed == cookie, hex(echoed)
            return Reply(error, self.take(length) if command == READ and error == 0 else b"")
        assert magic == CHUNK_MAGIC, hex(magic)
        assert self.structured, "a chunk without STRUCTURED_REPLY"
        return self._chunk(cookie)

    def _chunk(self, cookie: int) -> Reply:
        flags, kind, echoed, length = struct.unpack(">HHQI", self.take(16))
        assert (flags, echoed) == (1, cookie)
        payload = self.take(length)
        if kind == CHUNK_ERROR:
            error, text_length = struct.unpack(">IH", payload[:6])
            assert error != 0
            assert text_length == length - 6
            return Reply(error, kind=kind)
        assert (kind, length) == (CHUNK_NONE, 0) or (kind == CHUNK_OFFSET_DATA and length > 8)
        return Reply(0, payload[8:], kind)

    def ask(self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0, payload: bytes = b"") -> Reply:
        """Send a request and return its answer."""
        self.request(command, offset, length, flags=flags, payload=payload)
        return self.reply(command, length)

    def is_in_step(self) -> bool:
        """Send FLUSH: True when it is answered, and with success."""
        self.request(FLUSH, cookie=1)
        return self.reply(FLUSH, cookie=1).error == 0
