"""The admin socket: one JSON object per line in, one per line out, independent of the data path.

A request is ``{"verb": "primary", "arguments": {"force": true}}``; the reply ``{"exit": 11, "sentence": "...",
"text": ""}`` with DRBD's exit code. Only the socket's owner can open it (mode 0600). Lines and clients are limited,
and every verb has a deadline, so that whoever asks hears something. Knows no verb: `answer` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydrbd.node.export_socket import bind_private

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 1 << 16
CLIENTS_MAX = 64
LAST_WORDS_S = 0.5
"""The answer to `down` must still go out when the daemon ends."""

EXIT_OK = 0
EXIT_USAGE = 1
EXIT_OTHER = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for."""

    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: DRBD's exit code, one sentence if it is not 0, text and data for the user."""

    exit: int = EXIT_OK
    sentence: str = ""
    text: str = ""
    data: Any = None


class UnreadableRequestError(ValueError):
    """A line that is no request."""


def read_request(line: bytes) -> Request:
    """Parse one line. Raises `UnreadableRequestError`."""
    try:
        value = json.loads(line)
        verb, arguments = value["verb"], value.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableRequestError("the request is not a JSON object with a verb") from error
    if not isinstance(verb, str) or not isinstance(arguments, dict):
        raise UnreadableRequestError("the verb must be a string and its arguments an object")
    return Request(verb, arguments)


Answer = Callable[[Request], Awaitable[Reply | None]]
"""None: the next program in this process answers (`AdminSocket.asker`)."""


class AdminSocket:
    """Serves requests until closed. Clients wait on each other for nothing."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self.path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._kept: socket.socket | None = None
        self.asker = -1
        """The connection of who is to be answered by the next program, the reader's."""

    async def open(self, inherited: socket.socket | None = None) -> None:
        """Listen, or go on with an inherited socket. Raises `OSError`."""
        sock = inherited or bind_private(self.path)
        self._kept = sock.dup()
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=LINE_BYTES_MAX)

    def keep(self) -> int:
        """Let the socket outlive `close`; return its descriptor, where clients wait from then on. -1: not open."""
        kept, self._kept = self._kept, None
        return -1 if kept is None else kept.detach()

    async def close(self) -> None:
        """Let no new client in, give those who are being answered a moment, and hang up."""
        if self._kept is not None:
            self.path.unlink(missing_ok=True)
            self._kept.close()
        if self._server is not None:
            self._server.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=LAST_WORDS_S)
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= CLIENTS_MAX:
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._clients.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                await _write(writer, Reply(EXIT_USAGE, "the request is too long"))
                return
            if not line.endswith(b"\n"):
                return
            answering = asyncio.ensure_future(self._reply_to(line, writer))
            self._answering.add(answering)
            answering.add_done_callback(self._answering.discard)
            await answering

    async def _reply_to(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        reply: Reply | None
        try:
            reply = await self._answer(read_request(line))
        except UnreadableRequestError as error:
            reply = Reply(EXIT_USAGE, str(error))
        except Exception:
            # A fault of ours. Whoever asked must hear something all the same.
            log.exception("a request failed: %r", line)
            reply = Reply(EXIT_OTHER, "the daemon failed at this request; see its log")
        if reply is None:
            self.asker = os.dup(writer.get_extra_info("socket").fileno())
        else:
            await _write(writer, reply)


async def _write(writer: asyncio.StreamWriter, reply: Reply) -> None:
    writer.write(json.dumps(asdict(reply)).encode() + b"\n")
    await writer.drain()
