"""A backing disk that is taken away while it is in use: pulled out, or removed by its bus.

The kernel says so to everybody who listens (`NETLINK_KOBJECT_UEVENT`, Documentation/core-api/kobject.rst), without
udev. Who is not told, in a network namespace of his own for instance, learns it from the next request that fails.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
"""linux/netlink.h; group 2 is udev's."""
_MESSAGE_BYTES = 8192
_BURST_BYTES = 1 << 20
"""Of room: a bus that goes takes many devices along at once."""


def listen() -> socket.socket:
    """Return a socket with the kernel's messages. Raises `OSError`."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, KOBJECT_UEVENT)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BURST_BYTES)
        sock.bind((0, KERNEL_GROUP))
    except OSError:
        sock.close()
        raise
    return sock


class DiskRemoval:
    """Watches the block devices that are in use. `on_removed` gets the path, in the event loop, once per device."""

    def __init__(self, on_removed: Callable[[Path], None], listen: Callable[[], socket.socket] = listen) -> None:
        self._on_removed = on_removed
        self._listen = listen
        self._socket: socket.socket | None = None
        self._watched: dict[tuple[int, int], Path] = {}

    def watch(self, paths: Iterable[Path]) -> None:
        """Watch these from now on, and no others. What is no block device is never removed."""
        self._watched = {number: path for path in paths if (number := _number_of(path)) is not None}
        if not self._watched or self._socket is not None:
            return
        try:
            self._socket = self._listen()
        except OSError as error:
            log.debug("a disk that is removed will be noticed by the next request: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop. Twice is fine."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message, sender = self._socket.recvfrom(_MESSAGE_BYTES)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # some were lost; the next request that fails makes up for it
                    continue
                return
            if sender and sender[0] != 0:  # a process, not the kernel
                continue
            path = self._watched.pop(removed_device(message) or (-1, -1), None)
            if path is not None:
                self._on_removed(path)


def removed_device(message: bytes) -> tuple[int, int] | None:
    """Return major and minor number of the block device that is gone by this message; None: none is."""
    words = dict(word.split(b"=", 1) for word in message.split(b"\0") if b"=" in word)
    if words.get(b"ACTION") != b"remove" or words.get(b"SUBSYSTEM") != b"block":
        return None
    try:
        return int(words[b"MAJOR"]), int(words[b"MINOR"])
    except (KeyError, ValueError):
        return None


def _number_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (os.major(status.st_rdev), os.minor(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None
