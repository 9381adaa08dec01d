"""The host as the scripts see it: programs to run, what is mounted, time, and where sentences go."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MOUNTINFO = Path("/proc/self/mountinfo")


class Host(Protocol):
    """What a script may do besides asking pydrbd. The tests have a fake."""

    def is_mounted(self, device: str) -> bool:
        """Say whether the block device, by whatever name, is mounted here."""

    def run(self, *words: str) -> int:
        """Run a program, its output to our stderr; return its exit code, negative for a signal, 127: not found."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def now(self) -> float:
        """Return the seconds of a clock that never jumps."""

    def say(self, line: str) -> None:
        """Print a line that whoever calls the script reads, and may look for words in."""

    def warn(self, line: str) -> None:
        """Print a line for people: heartbeat puts it into its log."""


@dataclass(slots=True)
class LiveHost:
    """The real one. `fstab` is given to mount in the place of /etc/fstab."""

    fstab: Path | None = None
    mountinfo: Path = field(default=MOUNTINFO)

    def is_mounted(self, device: str) -> bool:
        """See `Host`. Numbers are compared: the kernel shows another name than the link that was mounted."""
        try:
            number = Path(device).stat().st_rdev
        except OSError:
            return False
        wanted = f"{os.major(number)}:{os.minor(number)}"
        lines = self.mountinfo.read_text(errors="surrogateescape").splitlines()
        return any(line.split()[2] == wanted for line in lines)

    def run(self, *words: str) -> int:
        """See `Host`."""
        if self.fstab is not None and words[0] == "mount":
            words = ("mount", "--fstab", str(self.fstab), *words[1:])
        try:
            return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode
        except OSError as error:
            self.warn(f"{words[0]}: {error.strerror}")
            return 127

    def sleep(self, seconds: float) -> None:
        """See `Host`."""
        time.sleep(seconds)

    def now(self) -> float:
        """See `Host`."""
        return time.monotonic()

    def say(self, line: str) -> None:
        """See `Host`."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    def warn(self, line: str) -> None:
        """See `Host`."""
        sys.stderr.write(f"{line}\n")


def words_of(command: str) -> list[str]:
    """Split a command of the configuration as a shell would."""
    return shlex.split(command)
