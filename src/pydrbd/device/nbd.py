"""The kind `nbd`: the kernel's nbd client on one end of a socketpair, the engine on the other. Needs root.

What must hold, all of it measured on Linux 6.1 and 6.12:

- One socket, no request time-out: with more, or with one, the kernel drops a server that takes its time.
- A long time-out for dead connections: when the daemon dies, requests wait for the next daemon's RECONFIGURE.
- `io_timeout` of the queue is short: a request that was sent and not answered is sent again only when that runs out.
- RECONFIGURE never says a size and a socket together, and says the identifier that CONNECT said.
- The queue is set up before anybody can have a request in it: since 6.11 the kernel waits, at each setting, until none
  is in flight, and what udev reads the moment the device appears is in flight until the caller serves it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Protocol, Self

from pydrbd.device import openers
from pydrbd.device.kind import Attached, DeviceError, Made, Watch, Wish, has_hung_up

log = logging.getLogger(__name__)

MODULE = "nbd"
SYS = Path("/sys")
DEAD_CONNECTION_TIMEOUT_S = 86_400
QUEUE = {"io_timeout": "2000", "max_sectors_kb": "4096", "scheduler": "none"}
"""Milliseconds until an unanswered request is sent again on a new socket; KiB of one request; no reordering here."""
PATIENCE_S = 5.0
BUSY_S = 1.0
"""So long udev may look at a device before it counts as taken."""
_POLL_S = 0.05


HAS_FLAGS = 1
READ_ONLY = 2
SEND_FLUSH = 4
SEND_FUA = 8
ROTATIONAL = 16
SEND_TRIM = 32
SEND_WRITE_ZEROES = 64
"""linux/nbd.h, and NBD's transmission flags."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What CONNECT says. `index` None: the first free device."""

    index: int | None
    size_bytes: int
    block_bytes: int
    server_flags: int
    dead_connection_timeout_s: int
    identifier: str


class Control(Protocol):
    """What `NbdControl` can do."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def connect(self, settings: Settings, fd: int) -> int:
        """Return the index of the device."""

    def reconfigure(self, index: int, identifier: str, fd: int) -> None:
        """Give the device a new socket."""

    def resize(self, index: int, identifier: str, size_bytes: int) -> None:
        """Give the device another size."""

    def disconnect(self, index: int) -> None:
        """Take the device down."""


def load_control() -> None:
    """Import what `open_control` needs, which takes a fifth of a second: while something else is waited for."""
    importlib.import_module("pydrbd.device.nbd_netlink")


def open_control() -> Control:
    """Return the driver's control socket. Raises `OSError`."""
    # Only now: who needs no device need not pay a fifth of a second and 20 MB for it.
    from pydrbd.device.nbd_netlink import NbdControl  # noqa: PLC0415

    return NbdControl()


def open_dead_link(index: int) -> Watch:
    """Return what hears that the device of this index has lost its socket. Raises `OSError`."""
    from pydrbd.device.nbd_dead_link import DeadLink, listen  # noqa: PLC0415 - as above

    return DeadLink(index, listen())


class NbdDevice:
    """See `Kind`."""

    name = "nbd"

    def __init__(
        self,
        control: Callable[[], Control] = open_control,
        sys: Path = SYS,
        dead_link: Callable[[int], Watch] = open_dead_link,
    ) -> None:
        self._control = control
        self._sys = sys
        self._dead_link = dead_link

    def missing(self) -> str | None:
        """Return what this host lacks; load the driver if it is there to be loaded."""
        if os.geteuid() != 0:
            return "only root can connect /dev/nbd"
        if not (self._sys / "module/nbd").is_dir():
            _load_module()
        return None if (self._sys / "module/nbd").is_dir() else "the kernel has no nbd driver"

    def attach(self, wish: Wish) -> Made:
        """Connect the device that the configured name asks for, or the first free one."""
        self.clear(wish)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs, self._open() as control:
                index = self._connect(control, wish, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        device = Attached(self.name, f"/dev/nbd{index}", wish.size_bytes, wish.identifier)
        return Made(device, _nonblocking(ours))

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        """Give the device that waits a new socket; one that is served has not noticed anything."""
        index = _index(device)
        if device.identifier != wish.identifier or self._backend(index) != wish.identifier:
            return None
        if served:
            return Made(device)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with theirs, self._open() as control:
                    control.reconfigure(index, wish.identifier, theirs.fileno())
            except OSError as error:
                ours.close()
                raise DeviceError(f"{device.path} cannot be taken over: {error}") from error
            if not has_hung_up(ours.fileno()):
                return Made(device, _nonblocking(ours))
            # Ours is closed, and the kernel has no use for it: it has not noticed yet that the old socket is dead.
            ours.close()
            if time.monotonic() > deadline:
                raise DeviceError(f"{device.path} cannot be taken over: the kernel still holds the old connection")
            time.sleep(_POLL_S)

    def watch(self, device: Attached) -> Watch | None:
        """Listen to the driver."""
        try:
            return self._dead_link(_index(device))
        except OSError as error:
            log.warning("a lost connection of %s will not be noticed: %s", device.path, error)
            return None

    def grow(self, wish: Wish, device: Attached) -> None:
        """Tell the kernel the size, and nothing else: it waits for the requests under way, which are served meanwhile.

        In one message with a socket it would wait for requests that need that socket, for ever.
        """
        index = _index(device)
        if self._backend(index) != wish.identifier:
            raise DeviceError(f"{device.path} is not ours any more")
        try:
            with self._open() as control:
                control.resize(index, wish.identifier, wish.size_bytes)
        except OSError as error:
            raise DeviceError(f"{device.path} cannot be resized: {error}") from error

    def detach(self, wish: Wish, device: Attached, *, force: bool) -> None:
        """Disconnect; by force also from under a mounted filesystem."""
        index = _index(device)
        if self._backend(index) != wish.identifier:
            return
        claimed_fd = -1 if force else openers.claim(device.path)
        try:
            if claimed_fd >= 0:
                os.fsync(claimed_fd)
            with self._open() as control:
                control.disconnect(index)
        except OSError as error:
            raise DeviceError(f"{device.path} cannot be disconnected: {error}") from error
        finally:
            if claimed_fd >= 0:
                os.close(claimed_fd)

    def clear(self, wish: Wish) -> None:
        """Disconnect every device that has our identifier."""
        for entry in self._sys.glob("block/nbd*/backend"):
            if self._read(entry) == wish.identifier:
                index = int(entry.parent.name.removeprefix("nbd"))
                with contextlib.suppress(OSError), self._open() as control:
                    control.disconnect(index)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _open(self) -> Control:
        try:
            return self._control()
        except OSError as error:
            raise DeviceError(f"the kernel's nbd driver does not answer: {error}") from error

    def _connect(self, control: Control, wish: Wish, fd: int) -> int:
        """Connect; return the index. One that is busy is asked for again, then another is taken."""
        deadline = time.monotonic() + BUSY_S
        busy: set[int] = set()
        index = self._first_free(busy) if wish.minor is None else wish.minor
        while True:
            tuned = self._tune(index)
            try:
                made = control.connect(_settings(wish, index), fd)
            except OSError as error:
                if error.errno != errno.EBUSY or index is None:
                    raise DeviceError(f"the kernel does not connect an nbd device: {error}") from error
            else:
                if not tuned:  # CONNECT has made it; the thread waits in the kernel until the caller serves
                    Thread(target=self._write_queue, args=(made,), daemon=True).start()
                return made
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
            else:
                index = self._first_free(busy := busy | {index})

    def _first_free(self, busy: set[int]) -> int | None:
        """Return the lowest index that nobody has connected; None: there is none but what CONNECT will make."""
        entries = [entry for entry in self._sys.glob("block/nbd*") if not (entry / "pid").exists()]
        return min({int(entry.name.removeprefix("nbd")) for entry in entries} - busy, default=None)

    def _tune(self, index: int | None) -> bool:
        """Set the queue of an unconnected device up; say whether that was done. What a kernel lacks it lacks."""
        queue = self._sys / f"block/nbd{index}/queue"
        if index is None or not queue.is_dir() or (queue.parent / "pid").exists():
            return False
        self._write_queue(index)
        return True

    def _write_queue(self, index: int) -> None:
        for name, value in QUEUE.items():
            with contextlib.suppress(OSError):
                (self._sys / f"block/nbd{index}/queue" / name).write_text(value)

    def _backend(self, index: int) -> str:
        return self._read(self._sys / f"block/nbd{index}/backend")

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError:
            return ""


def _settings(wish: Wish, index: int | None) -> Settings:
    flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES
    return Settings(index, wish.size_bytes, wish.block_bytes, flags, DEAD_CONNECTION_TIMEOUT_S, wish.identifier)


def _index(device: Attached) -> int:
    return int(device.path.removeprefix("/dev/nbd"))


def _nonblocking(sock: socket.socket) -> int:
    sock.setblocking(False)
    return sock.detach()


def _load_module() -> None:
    modules = Path("/lib/modules") / os.uname().release
    if modules.is_dir() and shutil.which("modprobe"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["modprobe", "-q", MODULE], timeout=PATIENCE_S, check=False)  # noqa: S607
