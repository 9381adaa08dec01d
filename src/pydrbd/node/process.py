"""The daemon as a process: alone for its resource, in the background, and honest about its start.

The pid file is the lock: whoever holds its `flock` is the resource's daemon. After a kill the kernel has let go of
the lock, so a stale file is recognised by that and replaced. The one who started the daemon learns through a pipe
whether it is up, or in one sentence with an exit code why not.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

EXIT_INVALID = 10
EXIT_OTHER = 20
EXIT_WITHOUT_DISK = 16
"""The daemon is up, without its disk."""
EXIT_LEFT = 75
"""The daemon made room for its successor, which systemd starts (RestartForceExitStatus)."""

_MESSAGE_BYTES_MAX = 1 << 16


class StartError(Exception):
    """The daemon cannot start. One sentence for the user, and DRBD's exit code."""

    def __init__(self, sentence: str, exit_code: int = EXIT_OTHER) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code


@dataclass(slots=True)
class PidFile:
    """The lock of a resource on this node. Held until `release`, or until the process is gone."""

    path: Path
    fd: int

    @classmethod
    def acquire(cls, path: Path, resource: str) -> PidFile:
        """Lock the file and write our pid. Raises `StartError` if another daemon holds it."""
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise StartError(f"cannot open {path}: {error.strerror}", EXIT_OTHER) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.read(fd, 32).decode(errors="replace").strip()
                os.close(fd)
                raise StartError(f"{resource} is already up: its daemon has pid {pid}", EXIT_INVALID) from None
            if _is_still(fd, path):
                break
            os.close(fd)  # the one who held it has just removed it
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        return cls(path, fd)

    @classmethod
    def inherit(cls, path: Path, resource: str, fd: int) -> PidFile:
        """Go on with the lock of the program before us in this process, or take it anew if there is none."""
        if fd >= 0 and _is_still(fd, path):
            return cls(path, fd)
        if fd >= 0:
            os.close(fd)
        return cls.acquire(path, resource)

    def release(self) -> None:
        """Remove the file, then let go: nobody can lock a name that is about to vanish and keep it."""
        self.path.unlink(missing_ok=True)
        os.close(self.fd)


def _is_still(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def is_supervised() -> bool:
    """Say whether systemd started us and will start our successor."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


class Readiness:
    """The end of the pipe in the daemon: says once that it is up, or why it is not."""

    def __init__(self, fd: int | None) -> None:
        """`fd` is the pipe to the process that waits; None in the foreground, where errors go to stderr.

        After a planned restart it is the connection of who asked for that; what is said is a reply of the admin socket.
        """
        self._fd = fd

    def up(self, without_disk: str = "") -> None:
        """Say that the daemon is up, to systemd as well if that is who started us (sd_notify).

        `without_disk`: the sentence, if it is up without its disk.
        """
        self._say(EXIT_WITHOUT_DISK if without_disk else 0, without_disk)
        address = os.environ.get("NOTIFY_SOCKET", "")
        if address:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                # A leading @ means the abstract namespace.
                notify.connect("\0" + address[1:] if address.startswith("@") else address)
                notify.send(f"READY=1\nMAINPID={os.getpid()}".encode())

    def failed(self, error: StartError) -> None:
        """Say why it is not."""
        if self._fd is None:
            sys.stderr.write(f"{error.sentence}\n")
        self._say(error.exit_code, error.sentence)

    def _say(self, exit_code: int, sentence: str) -> None:
        if self._fd is None:
            return
        message = {"exit": exit_code, "sentence": sentence, "text": "", "data": None}
        # Who no longer waits has nothing to be told.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            os.write(self._fd, json.dumps(message).encode() + b"\n")
        os.close(self._fd)
        self._fd = None


def go_to_background() -> Readiness:
    """Fork twice; return in the daemon. The first process waits for its word, prints an error and exits."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        os.close(writer)
        _report_and_exit(reader)
    os.close(reader)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    with Path(os.devnull).open("r+b") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
    return Readiness(writer)


def _report_and_exit(reader: int) -> NoReturn:
    data = b""
    while chunk := os.read(reader, _MESSAGE_BYTES_MAX):
        data += chunk
    # No word at all: it died before it could say anything.
    message = json.loads(data or '{"exit": 20, "sentence": "the daemon died at its start; see its log"}')
    if message["sentence"]:
        sys.stderr.write(f"{message['sentence']}\n")
        sys.stderr.flush()
    os._exit(int(message["exit"]))
