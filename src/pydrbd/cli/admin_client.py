"""The other end of a daemon's admin socket: one question, one answer, errors as one sentence with DRBD's exit code."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from pydrbd.cli.context import Context

EXIT_NOT_UP = 10
EXIT_OTHER = 20
ANSWER_DEADLINE_S = 150.0
"""Longer than every deadline of the daemon's own: only one that hangs is given up on."""
END_DEADLINE_S = 10.0


class VerbError(Exception):
    """A verb failed. One sentence for the user, and the exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.exit_code = exit_code


class NotUpError(VerbError):
    """The resource has no daemon on this node."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"{resource}: not up on this node; `pydrbd up {resource}` starts it", EXIT_NOT_UP)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a daemon said."""

    text: str
    data: Any


def ask(
    context: Context,
    resource: str,
    verb: str,
    arguments: dict[str, object] | None = None,
    *,
    until_end: bool = False,
) -> Answer:
    """Ask the daemon of a resource. Raises `VerbError`; `NotUpError` if there is no daemon.

    `until_end`: return only when the daemon has gone.
    """
    path = context.control_socket(resource)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotUpError(resource) from None
        except OSError as error:
            raise VerbError(
                f"{resource}: cannot reach the daemon at {path}: {error.strerror or error}", EXIT_OTHER
            ) from error
        # Who waits for a state says himself how long.
        sock.settimeout(None if "timeout_s" in (arguments or {}) else ANSWER_DEADLINE_S)
        answer = _converse(sock, resource, {"verb": verb, "arguments": arguments or {}})
        if answer["exit"]:
            raise VerbError(answer["sentence"], answer["exit"])
        if until_end:
            _wait_for_hang_up(sock)
            wait_for_end(context, resource)
    return Answer(answer["text"], answer["data"])


def _converse(sock: socket.socket, resource: str, request: dict[str, object]) -> dict[str, Any]:
    data = bytearray()
    try:
        sock.sendall(json.dumps(request).encode() + b"\n")
        while not data.endswith(b"\n"):
            chunk = sock.recv(1 << 16)
            if not chunk:
                raise VerbError(f"{resource}: the daemon ended before it answered; see its log", EXIT_OTHER)
            data += chunk
    except TimeoutError:
        raise VerbError(f"{resource}: the daemon does not answer", EXIT_OTHER) from None
    except OSError as error:
        raise VerbError(f"{resource}: the daemon hung up: {error.strerror or error}", EXIT_OTHER) from error
    answer: dict[str, Any] = json.loads(data)
    return answer


def _wait_for_hang_up(sock: socket.socket) -> None:
    sock.settimeout(END_DEADLINE_S)
    try:
        while sock.recv(1 << 16):
            pass
    except OSError:
        pass


def wait_for_end(context: Context, resource: str) -> None:
    """Wait until the daemon has let go of its pid file, so that another one can start at once. Raises `VerbError`."""
    deadline = time.monotonic() + END_DEADLINE_S
    while context.pid_file(resource).exists():
        if time.monotonic() > deadline:
            raise VerbError(
                f"{resource}: the daemon is down but has not ended after {END_DEADLINE_S:.0f} s", EXIT_OTHER
            )
        time.sleep(0.01)
