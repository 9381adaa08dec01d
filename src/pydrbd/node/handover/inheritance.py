"""What a daemon hands to the program that takes its place in the same process (decision 13): descriptors, by number.

They go through `execve` in one environment variable. Whoever inherits takes piece by piece what it has a use for and
closes the rest. A description that cannot be read, one of another version above all, counts as none: then this is the
start after a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from pydrbd.core.engine import Parked

log = logging.getLogger(__name__)

VARIABLE = "PYDRBD_INHERITED"
VERSION = 1


@dataclass(slots=True)
class Inheritance:
    """All of it; what has been taken is gone from here. -1: no such descriptor."""

    was_primary: bool = False
    had_peer: bool = False
    lock: int = -1
    """The locked pid file: the resource is never without its lock."""
    asker: int = -1
    """The connection of who asked for the restart: he is answered when we are up."""
    listeners: dict[str, int] = field(default_factory=dict)
    """Listening sockets, by what comes in there: peer, admin, export, device."""
    clients: list[Parked] = field(default_factory=list)

    def take_listener(self, name: str, address: object) -> socket.socket | None:
        """Return the listening socket of this name, if it listens there; the caller's from now on."""
        fd = self.listeners.pop(name, -1)
        if fd < 0:
            return None
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        if sock.getsockname() == address:
            return sock
        sock.close()
        return None

    def take_clients(self, *, device: bool) -> list[Parked]:
        """Return the sockets of clients, or those of our own kernel device; the caller's from now on."""
        taken = [client for client in self.clients if client.device is device]
        self.clients = [client for client in self.clients if client.device is not device]
        return taken

    def close(self) -> None:
        """Close what nobody has taken, but lock and asker."""
        for fd in [*self.listeners.values(), *(client.fd for client in self.clients)]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.listeners.clear()
        self.clients.clear()

    def store(self) -> dict[str, str]:
        """Return the environment variable for the next program, to which every descriptor stays open from now on."""
        for fd in self.descriptors():
            os.set_inheritable(fd, True)
        clients = [[each.fd, each.structured, each.device, each.rest.hex()] for each in self.clients]
        text = {
            "version": VERSION,
            "was_primary": self.was_primary,
            "had_peer": self.had_peer,
            "lock": self.lock,
            "asker": self.asker,
            "listeners": self.listeners,
            "clients": clients,
        }
        return {VARIABLE: json.dumps(text)}

    def descriptors(self) -> Iterator[int]:
        """Yield every one."""
        yield from (fd for fd in (self.lock, self.asker) if fd >= 0)
        yield from self.listeners.values()
        yield from (client.fd for client in self.clients)


def load(environment: MutableMapping[str, str]) -> Inheritance | None:
    """Take the variable out of the environment; None: there is none, or none that we understand."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        made = _read(json.loads(text))
        for fd in made.descriptors():
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    except (ValueError, TypeError, KeyError, OSError) as error:
        log.warning("what the last program handed over is not understood (%s); starting as after a crash", error)
        return None
    return made


def _read(fields: dict[str, Any]) -> Inheritance:
    if fields["version"] != VERSION:
        raise ValueError(f"version {fields['version']}")
    return Inheritance(
        was_primary=bool(fields["was_primary"]),
        had_peer=bool(fields["had_peer"]),
        lock=int(fields["lock"]),
        asker=int(fields["asker"]),
        listeners={str(name): int(fd) for name, fd in fields["listeners"].items()},
        clients=[
            Parked(int(fd), bool(structured), bool(device), bytes.fromhex(rest))
            for fd, structured, device, rest in fields["clients"]
        ],
    )
