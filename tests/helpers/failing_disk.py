"""A backing disk that fails on command: nbdkit's error filter over a file, made a file again by nbdfuse.

While the file `FLAG.read` exists every read fails, while `FLAG.write` does every write. The disk is a context manager;
what it starts it ends, by its own process id.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

NEEDS = ("nbdkit", "nbdfuse", "fusermount3")


def missing() -> str:
    """Return why there can be no such disk here, or nothing."""
    absent = [name for name in NEEDS if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    return "" if Path("/dev/fuse").exists() else "needs /dev/fuse"


class FailingDisk:
    """`file` is the disk to give to a node; `store` holds its bytes."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.file = store.with_suffix(".failing")
        self._read_flag = store.with_suffix(".read")
        self._write_flag = store.with_suffix(".write")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.file.touch()
        plugin = ["file", str(self.store)]
        faults = [
            "error-pread-rate=1",
            f"error-pread-file={self._read_flag}",
            "error-pwrite-rate=1",
            f"error-pwrite-file={self._write_flag}",
        ]
        server = ["nbdkit", "-s", "--exit-with-parent", "--filter=error", *plugin, *faults]
        self._process = subprocess.Popen(
            ["nbdfuse", str(self.file), "--command", *server], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while self.file.stat().st_size != self.store.stat().st_size:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("nbdfuse did not make the disk")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()
        subprocess.run(["fusermount3", "-u", "-z", str(self.file)], check=False, capture_output=True)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait()

    def fail_reads(self) -> None:
        """From now on every read fails."""
        self._read_flag.touch()

    def fail_writes(self) -> None:
        """From now on every write fails."""
        self._write_flag.touch()

    def heal(self) -> None:
        """Nothing fails any more."""
        for flag in (self._read_flag, self._write_flag):
            flag.unlink(missing_ok=True)
