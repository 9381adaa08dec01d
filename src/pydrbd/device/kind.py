"""What every way to a block device can do, and the words for it: `Wish`, `Attached`, `Kind`, `DeviceError`.

What must hold: all of it may block in the kernel (generic netlink has one lock for the whole machine, a mount waits
for a helper), so nothing here is called from the event loop's thread. A kind keeps nothing in memory that it needs
later: after the daemon was killed, its successor works from `Wish`, `Attached` (kept in a file) and what the kernel
says. Knows no role, no rules and no engine: a served socket is a number that the caller hands on.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BLOCK_BYTES = 512
"""The smallest request, as of any DRBD device."""


class DeviceError(Exception):
    """A device could not be made, taken over or taken away. The text is one sentence for the user."""


class DeviceBusyError(DeviceError):
    """Somebody holds the device open."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted. `run` is the resource's own folder of the run directory, private to root."""

    resource: str
    identifier: str
    """Names resource and generation of the disk, the same after a restart: nobody else's device is taken over."""
    size_bytes: int
    minor: int | None
    """The number that the configured name asks for (`/dev/nb0`: 0)."""
    run: Path
    block_bytes: int = BLOCK_BYTES
    """The smallest request that is taken; a device that is there already keeps its own."""

    @property
    def server(self) -> Path:
        """The NBD socket that the daemon serves for the device alone."""
        return self.run / "device.sock"


@dataclass(frozen=True, slots=True)
class Attached:
    """A device that is there."""

    kind: str
    path: str
    size_bytes: int
    identifier: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A ublk device's one queue, for the engine: the descriptor of `/dev/ublkcN` is the caller's from now on.

    `start` is called when the engine serves the queue: it lets the first requests come. It may block and raises
    `DeviceError`.
    """

    fd: int
    depth: int
    start: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Made:
    """What `attach` and `take_over` return.

    `served_fd` is the end of a connected socket for the engine, in transmission already, the caller's from now on.
    None: the device comes in by `Wish.server`, or by its `queue`; then it is there when the queue was started.
    """

    device: Attached
    served_fd: int | None = None
    queue: Queue | None = None


def has_hung_up(fd: int) -> bool:
    """Say whether nobody holds the other end of a socket."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


class Watch(Protocol):
    """Hears when the kernel has lost the socket of a device that is still there."""

    def fileno(self) -> int:
        """Return what becomes readable when there is something to hear."""

    def was_told(self) -> bool:
        """Take what there is, without blocking; say whether the device needs another socket. Raises `OSError`."""

    def close(self) -> None:
        """Hear no more."""


class Kind(Protocol):
    """One way to a block device."""

    name: str

    def missing(self) -> str | None:
        """Return what this host lacks for it, as the end of a sentence; None: nothing."""

    def attach(self, wish: Wish) -> Made:
        """Make the device, after clearing away what a killed daemon left. Raise `DeviceError`, leaving nothing."""

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        """Serve a device that the last daemon left; None: it is not whole any more. Raise `DeviceError`.

        `served`: its socket was handed over by the last daemon and is served already.
        """

    def watch(self, device: Attached) -> Watch | None:
        """Return what tells that the device has lost its socket; None: nothing can. Then `take_over` gives another."""

    def grow(self, wish: Wish, device: Attached) -> None:
        """Let the device have `wish.size_bytes`, under who has it open. Blocks while requests are held.

        Raise `DeviceError`, also if this kind cannot.
        """

    def detach(self, wish: Wish, device: Attached, *, force: bool) -> None:
        """Take the device away. `force`: although it is open; who has it gets errors. Raise `DeviceBusyError`."""

    def clear(self, wish: Wish) -> None:
        """Remove what is left of a device, whole or not, whoever has it open. Raise `DeviceError`."""
