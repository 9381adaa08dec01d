"""The NBD socket of the resource: there while it is Primary, mode 0600; accepted sockets are handed to the engine.

Knows nothing of NBD. A socket file left by a killed daemon is replaced: the caller holds the resource's lock. Clients
are accepted in the event loop's own callback, so that between two of its turns none is half way in: while paused, who
connects waits in the kernel's queue, where the next program finds him.
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
BACKLOG = 64
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
        self._retry: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients can come in."""
        return self._listener is not None

    def open(self, inherited: socket.socket | None = None) -> None:
        """Let the socket appear, or go on with an inherited one. Twice is fine. Raises `OSError`."""
        if self._listener is None:
            self._listener = inherited or bind_private(self.path)
            self.resume()

    def pause(self) -> None:
        """Let nobody in for now."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def resume(self) -> None:
        """Let clients in again."""
        self._retry = None
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def keep(self) -> int:
        """Be closed here, and return the listening socket's descriptor, which goes on to listen; -1: not open."""
        if self._listener is None:
            return -1
        self.pause()
        listener, self._listener = self._listener, None
        return listener.detach()

    async def close(self) -> None:
        """Let it go; clients that are in stay in."""
        if self._listener is None:
            return
        self.path.unlink(missing_ok=True)
        self.pause()
        self._listener.close()
        self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("cannot accept an NBD client: %s", error.strerror)
            self.pause()
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self.resume)
            return
        if self._clients() >= CLIENTS_MAX:
            log.warning("refused an NBD client: there are %d already", CLIENTS_MAX)
            sock.close()
            return
        sock.setblocking(False)
        self._hand_over(sock.detach())
