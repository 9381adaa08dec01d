"""The NBD socket of the resource: there while it is Primary, mode 0600; accepted sockets are handed to the engine.

Knows nothing of NBD. A socket file left by a killed daemon is replaced: the caller holds the resource's lock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

CLIENTS_MAX = 64
BACKLOG = 16
RETRY_S = 0.5


def bind_private(path: Path) -> socket.socket:
    """Return a listening UNIX socket, mode 0600 from its first moment. Raises `OSError` that names the path."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot make the socket {path}: {reason}") from error
    finally:
        os.umask(mask)
    return sock


class ExportSocket:
    """Accepts clients while open."""

    def __init__(self, path: Path, hand_over: Callable[[int], None], clients: Callable[[], int]) -> None:
        """`hand_over` takes a descriptor for good; `clients` says how many the engine has now."""
        self.path = path
        self._hand_over = hand_over
        self._clients = clients
        self._listener: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients can come in."""
        return self._listener is not None

    def open(self) -> None:
        """Let the socket appear. Twice is fine. Raises `OSError`."""
        if self._listener is None:
            self._listener = bind_private(self.path)
            self._acceptor = asyncio.ensure_future(self._accept_all(self._listener))

    async def close(self) -> None:
        """Let it go; clients that are in stay in."""
        if self._listener is None or self._acceptor is None:
            return
        self.path.unlink(missing_ok=True)
        self._acceptor.cancel()
        await asyncio.gather(self._acceptor, return_exceptions=True)
        self._listener.close()
        self._listener = self._acceptor = None

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.error("cannot accept an NBD client: %s", error.strerror)
                await asyncio.sleep(RETRY_S)
                continue
            if self._clients() >= CLIENTS_MAX:
                log.warning("refused an NBD client: there are %d already", CLIENTS_MAX)
                sock.close()
                continue
            sock.setblocking(False)
            self._hand_over(sock.detach())
