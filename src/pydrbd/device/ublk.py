"""The kind `ublk`: the kernel's userspace block device, with its user recovery. Needs root and Linux 6.7.

What must hold:

- Recovery with reissue: when the daemon dies requests wait, and those in flight are given to the next daemon.
- The device carries our mark, by which a later daemon finds it whatever it has forgotten.
- One tag of the queue is never used (`QUEUE`): the driver notices its server's death by a command that waits, so with
  every tag in use it would notice only when a request times out.
- START_DEV and END_USER_RECOVERY wait for the queue: they are said when the engine serves it (`Queue.start`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from pydrbd.device import openers
from pydrbd.device.kind import Attached, DeviceError, Made, Queue, Wish
from pydrbd.device.ublk_control import ANY, DEAD, FEATURES, UPDATE_SIZE, Info, UblkControl

MODULE = "ublk_drv"
DEV = Path("/dev")
SYS = Path("/sys")
DEPTH = 128
QUEUE = {"scheduler": "none", "nr_requests": str(DEPTH - 1), "io_timeout": "2000"}
"""In this order: only without a scheduler is the number of requests the number of tags. Milliseconds until the driver
looks after its server, should every tag be in use all the same."""
PATIENCE_S = 10.0
"""So long the driver may need to notice that the old daemon is dead."""
BUSY_S = 1.0
GONE_S = 2.0
NODE_S = 5.0
"""So long udev or the kernel may need for a node below /dev."""
_POLL_S = 0.02


class UblkDevice:
    """See `Kind`."""

    name = "ublk"

    def __init__(self, control: UblkControl, dev: Path = DEV, sys: Path = SYS) -> None:
        self._control = control
        self._dev = dev
        self._sys = sys

    def missing(self) -> str | None:
        """Return what this host lacks; load the driver if it is there to be loaded."""
        if os.geteuid() != 0:
            return "only root can make /dev/ublkb"
        if not self._control.path.exists():
            _load_module()
        if not self._control.path.exists():
            return "the kernel has no ublk driver"
        try:
            lacking = FEATURES & ~self._control.features()
        except OSError as error:
            return f"the kernel's ublk driver does not answer: {error.strerror}"
        return "the kernel's ublk driver lacks user recovery or user copy" if lacking else None

    def attach(self, wish: Wish) -> Made:
        """Make the device that the configured name asks for, or the first free one; started by the queue's `start`."""
        self.clear(wish)
        number = self._add(wish)
        try:
            self._control.set_parameters(number, wish.size_bytes, wish.block_bytes)
            fd = self._open(number)
        except OSError as error:
            self._delete(number)
            raise DeviceError(f"the kernel does not set a ublk device up: {error}") from error
        device = Attached(self.name, f"/dev/ublkb{number}", wish.size_bytes, wish.identifier)
        return Made(device, queue=Queue(fd, DEPTH, lambda: self._start(number)))

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        """Serve the device that waits."""
        del served  # there is no socket; the queue ended with its engine
        number = _number(device)
        same = device.identifier == wish.identifier and device.size_bytes == wish.size_bytes
        info = self._info(number)
        if not same or info is None or info.mark != mark_of(wish) or info.state == DEAD:
            return None
        try:
            if not self._recover(number):
                return None
            fd = self._open(number)
        except OSError as error:
            raise DeviceError(f"{device.path} cannot be taken over: {error}") from error
        return Made(device, queue=Queue(fd, DEPTH, lambda: self._go_on(number)))

    def watch(self, device: Attached) -> None:
        """Return None: there is no socket."""

    def grow(self, wish: Wish, device: Attached) -> None:
        """Tell the driver, if that can be told; it takes a size but once before Linux 6.16."""
        number = _number(device)
        info = self._info(number)
        if info is None or info.mark != mark_of(wish):
            raise DeviceError(f"{device.path} is not ours any more")
        try:
            if not self._control.features() & UPDATE_SIZE:
                raise DeviceError(
                    f"{device.path} keeps its size until {wish.resource} is demoted and promoted again: "
                    "it takes Linux 6.16 to resize a ublk device"
                )
            self._control.update_size(number, wish.size_bytes)
        except OSError as error:
            raise DeviceError(f"{device.path} cannot be resized: {error}") from error

    def detach(self, wish: Wish, device: Attached, *, force: bool) -> None:
        """Stop and remove it; by force also from under a mounted filesystem."""
        number = _number(device)
        info = self._info(number)
        if info is None or info.mark != mark_of(wish):
            return
        claimed_fd = -1 if force else openers.claim(device.path)
        try:
            if claimed_fd >= 0:
                os.fsync(claimed_fd)  # from its stop on the device fails what still comes
            self._control.stop(number)
        except OSError as error:
            raise DeviceError(f"{device.path} cannot be stopped: {error}") from error
        finally:
            if claimed_fd >= 0:
                os.close(claimed_fd)
        self._delete(number)

    def clear(self, wish: Wish) -> None:
        """Remove every device that has our mark."""
        for info in self._devices():
            if info.mark == mark_of(wish):
                self._delete(info.number)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _add(self, wish: Wish) -> int:
        """Make it; return the number. One that is taken is asked for again, then another is taken."""
        deadline = time.monotonic() + BUSY_S
        number = ANY if wish.minor is None else wish.minor
        while True:
            try:
                return self._control.add(number, DEPTH, mark_of(wish)).number
            except OSError as error:
                if error.errno != errno.EEXIST or number == ANY:
                    raise DeviceError(f"the kernel does not make a ublk device: {error}") from error
            if time.monotonic() > deadline:
                number = ANY
            else:
                time.sleep(_POLL_S)

    def _open(self, number: int) -> int:
        """Open the character device, without blocking: io_uring then copies payloads at once."""
        path = self._dev / f"ublkc{number}"
        _wait_for(path)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def _start(self, number: int) -> None:
        try:
            self._control.start(number)
        except OSError as error:
            raise DeviceError(f"the kernel does not start the ublk device: {error}") from error
        _wait_for(self._dev / f"ublkb{number}")
        for name, value in QUEUE.items():
            with contextlib.suppress(OSError):
                (self._sys / f"block/ublkb{number}/queue" / name).write_text(value)

    def _recover(self, number: int) -> bool:
        """Begin the recovery; False: the device has no way back."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._control.start_recovery(number)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return False
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            else:
                return True
            time.sleep(_POLL_S)

    def _go_on(self, number: int) -> None:
        try:
            self._control.end_recovery(number)
        except OSError as error:
            raise DeviceError(f"/dev/ublkb{number} cannot be taken over: {error}") from error

    def _delete(self, number: int) -> None:
        """Stop and forget it; wait a moment for its number, which whoever has it open keeps."""
        with contextlib.suppress(OSError):
            self._control.delete(number)
        deadline = time.monotonic() + GONE_S
        while self._info(number) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _info(self, number: int) -> Info | None:
        try:
            return self._control.info(number)
        except OSError:
            return None

    def _devices(self) -> Iterator[Info]:
        for entry in (self._sys / "class/ublk-char").glob("ublkc*"):
            info = self._info(int(entry.name.removeprefix("ublkc")))
            if info is not None:
                yield info


def mark_of(wish: Wish) -> int:
    """Return the 64 bits that say whose device it is."""
    return int.from_bytes(hashlib.blake2b(wish.identifier.encode(), digest_size=8).digest(), "little")


def _number(device: Attached) -> int:
    return int(device.path.removeprefix("/dev/ublkb"))


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + NODE_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _load_module() -> None:
    modules = Path("/lib/modules") / os.uname().release
    if modules.is_dir() and shutil.which("modprobe"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["modprobe", "-q", MODULE], timeout=NODE_S, check=False)  # noqa: S607
