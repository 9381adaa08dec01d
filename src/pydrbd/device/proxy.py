"""The two programs between the daemon and a loop device: nbdkit, which outlives the daemon, and nbdfuse.

    loop device - <mount>/nbd - nbdfuse - proxy.sock - nbdkit, filter retry - device.sock - the daemon

nbdfuse dies when its server does; nbdkit's retry filter keeps the connection to it, and asks the daemon again, once a
second, for as long as it takes. Neither is a child of the daemon: they are found again by the socket in their command
lines, whoever started them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydrbd.device.kind import DeviceError

PROC = Path("/proc")
PROGRAMS = ("nbdkit", "nbdfuse", "fusermount3", "losetup", "setsid")
RETRIES = 1_000_000_000
"""About 30 years: it is for the operator to give up, not for a proxy."""
START_S = 10.0
END_S = 5.0
_POLL_S = 0.01


def missing() -> str | None:
    """Return what this host lacks."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(device, os.R_OK | os.W_OK):
            return f"{device} is not there or not ours to open"
    return None if os.geteuid() == 0 else "only root can make a loop device"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Both programs of one resource. `server` is the daemon's socket."""

    run: Path
    server: Path

    @property
    def socket(self) -> Path:
        """Where nbdkit listens."""
        return self.run / "proxy.sock"

    @property
    def mount_point(self) -> Path:
        """Where nbdfuse mounts its one file."""
        return self.run / "fuse"

    @property
    def file(self) -> Path:
        """The device, as a file."""
        return self.mount_point / "nbd"

    def start(self, size_bytes: int) -> None:
        """Start both; return when the file is there with its size. Raise `DeviceError`; what was started stays."""
        self.socket.unlink(missing_ok=True)
        self.mount_point.mkdir(mode=0o700, exist_ok=True)
        words = ["nbdkit", "--unix", str(self.socket), "--filter=retry", "nbd", f"socket={self.server}"]
        # It goes to the background by itself, once it listens.
        _run([*words, f"retries={RETRIES}", "retry-delay=1", "retry-exponential=no"], "nbdkit")
        # One connection: the retry filter does one request at a time anyway, and each would notice the daemon's death,
        # and wait its second, by itself.
        _run(["setsid", "--fork", "nbdfuse", "--connections=1", str(self.file), "--unix", str(self.socket)], "nbdfuse")
        if not _becomes_true(lambda: self._has_size(size_bytes), START_S):
            raise DeviceError(f"nbdfuse did not make {self.file} of {size_bytes} bytes within {START_S:.0f} s")

    def is_whole(self) -> bool:
        """Say whether both run and the file is mounted."""
        running = {name for name, _ in self._processes()}
        return running == {"nbdkit", "nbdfuse"} and self._is_mounted()

    def stop(self) -> None:
        """Unmount the file and end both, by force where they do not go. Raise `DeviceError` if that fails."""
        if self._is_mounted():
            _unmount(self.mount_point, lazy=False)
        self._signal(signal.SIGTERM)
        if not _becomes_true(lambda: not self._processes(), END_S):
            self._signal(signal.SIGKILL)
        if self._is_mounted():
            _unmount(self.mount_point, lazy=True)
        if not _becomes_true(lambda: not self._processes() and not self._is_mounted(), END_S):
            raise DeviceError(f"nbdkit or nbdfuse of {self.run} does not end")
        self.socket.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.mount_point.rmdir()

    def kill(self) -> None:
        """End both at once; the file gives errors from now on."""
        self._signal(signal.SIGKILL)
        _becomes_true(lambda: not self._processes(), END_S)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _has_size(self, size_bytes: int) -> bool:
        try:
            return self.file.stat().st_size == size_bytes
        except OSError:
            return False

    def _is_mounted(self) -> bool:
        lines = (PROC / "self/mountinfo").read_text(errors="surrogateescape").splitlines()
        places = (line.split()[4].encode().decode("unicode_escape") for line in lines)
        return str(self.mount_point) in places

    def _processes(self) -> list[tuple[str, int]]:
        """Return (program, pid) of what runs for this resource."""
        found = []
        for entry in PROC.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
            except OSError:
                continue
            program = Path(words[0]).name
            if program in {"nbdkit", "nbdfuse"} and str(self.socket) in words:
                found.append((program, int(entry.name)))
        return found

    def _signal(self, number: signal.Signals) -> None:
        for _, pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _run(command: list[str], what: str) -> None:
    """Run what returns at once. Its output, if it fails, is in the error."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            code = process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise DeviceError(f"{what} did not start within {START_S:.0f} s") from None
    if code:
        raise DeviceError(f"{what} failed with exit code {code}")


def _unmount(mount_point: Path, *, lazy: bool) -> None:
    options = ["-u", "-z"] if lazy else ["-u"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["fusermount3", *options, str(mount_point)],  # noqa: S607
            capture_output=True,
            timeout=END_S,
            check=False,
        )


def _becomes_true(condition: Callable[[], bool], deadline_s: float) -> bool:
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
