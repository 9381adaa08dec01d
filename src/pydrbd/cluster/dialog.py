"""The question that a booting node asks while it waits for its peer: go on without it? Only ``yes`` is an answer.

It is asked on the first usable terminal of stdin, /dev/tty and /dev/console, and nobody waits for the answer: who asks
looks from time to time.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

QUESTION = """\
The other node does not answer. Whoever goes on alone must be sure that the other one is not primary and has no newer
data: what is written on both sides cannot be merged.
Stop waiting and make this node primary? Type 'yes' or wait: """
AGAIN = 'Only "yes" ends the waiting: '
YES = "yes"


class Dialog(Protocol):
    """A question on a terminal."""

    def ask(self, text: str) -> None:
        """Show the text. Without a terminal nothing happens."""

    def answer(self) -> str | None:
        """Return the line that was typed since, None: none yet. Raise `EOFError` at its end (Ctrl-D)."""

    def close(self) -> None:
        """Let go of the terminal."""


class TerminalDialog:
    """See `Dialog`."""

    def __init__(self, stdin: int = 0, others: Sequence[Path] = (Path("/dev/tty"), Path("/dev/console"))) -> None:
        self._fd = _terminal(stdin, others)
        self._typed = b""

    def ask(self, text: str) -> None:
        """See `Dialog`."""
        if self._fd >= 0:
            os.write(self._fd, text.encode())

    def answer(self) -> str | None:
        """See `Dialog`."""
        if self._fd < 0 or not select.select([self._fd], [], [], 0)[0]:
            return None
        chunk = os.read(self._fd, 256)
        if not chunk:
            raise EOFError
        self._typed += chunk
        line, newline, rest = self._typed.partition(b"\n")
        if not newline:
            return None
        self._typed = rest
        return line.decode(errors="replace").strip()

    def close(self) -> None:
        """See `Dialog`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _terminal(stdin: int, others: Sequence[Path]) -> int:
    """Return a descriptor of the first that is a terminal, -1 if none is."""
    if os.isatty(stdin):
        return os.dup(stdin)
    for path in others:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            continue
        if os.isatty(fd):
            return fd
        os.close(fd)
    return -1
