"""A backing disk that fails on command: nbdkit's error filter over a file, made a file again by nbdfuse.

While the file `FLAG.read` exists every read fails, while `FLAG.write` does every write, while `FLAG.sync` does every
fsync; the block whose first byte is named in `FLAG.block` cannot be read until it is written. Stopped, the disk answers
nothing at all. The disk is a context manager; what it starts it ends, by its own process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

NEEDS = ("nbdkit", "nbdfuse", "fusermount3")
FAULTS = """\
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int fd)
{
    if (access(getenv("SYNC_FLAG"), F_OK) != 0)
        return (int)syscall(SYS_fdatasync, fd);
    errno = EIO;
    return -1;
}

static int touches_bad_block(size_t count, off_t offset)
{
    long long bad = -1;
    FILE *flag = fopen(getenv("BLOCK_FLAG"), "r");
    if (flag == NULL)
        return 0;
    if (fscanf(flag, "%lld", &bad) != 1)
        bad = -1;
    fclose(flag);
    return bad >= offset && bad < (long long)(offset + count);
}

ssize_t pread64(int fd, void *buffer, size_t count, off_t offset)
{
    if (!touches_bad_block(count, offset))
        return syscall(SYS_pread64, fd, buffer, count, offset);
    errno = EIO;
    return -1;
}

ssize_t pwrite64(int fd, const void *buffer, size_t count, off_t offset)
{
    ssize_t put = syscall(SYS_pwrite64, fd, buffer, count, offset);
    if (put > 0 && touches_bad_block(put, offset))
        unlink(getenv("BLOCK_FLAG"));
    return put;
}

ssize_t pread(int fd, void *buffer, size_t count, off_t offset)
{
    return pread64(fd, buffer, count, offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t count, off_t offset)
{
    return pwrite64(fd, buffer, count, offset);
}
"""


def missing() -> str:
    """Return why there can be no such disk here, or nothing."""
    absent = [name for name in NEEDS if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    return "" if Path("/dev/fuse").exists() else "needs /dev/fuse"


class FailingDisk:
    """`file` is the disk to give to a node; `store` holds its bytes."""

    def __init__(self, store: Path, error: str = "EIO") -> None:
        """`error`: what a read or write fails with, by its name."""
        self.store = store
        self.file = store.with_suffix(".failing")
        self._error = error
        self._flags = {kind: store.with_suffix(f".{kind}") for kind in ("read", "write", "sync", "block")}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.file.touch()
        plugin = ["file", str(self.store)]
        faults = [
            f"error={self._error}",
            "error-pread-rate=1",
            f"error-pread-file={self._flags['read']}",
            "error-pwrite-rate=1",
            f"error-pwrite-file={self._flags['write']}",
        ]
        flags = [f"SYNC_FLAG={self._flags['sync']}", f"BLOCK_FLAG={self._flags['block']}"]
        preloaded = ["env", f"LD_PRELOAD={self._faults_library()}", *flags]
        server = [*preloaded, "nbdkit", "-s", "--exit-with-parent", "--filter=error", *plugin, *faults]
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

    def _faults_library(self) -> Path:
        """Compile what makes the server's fsync, and a block of it, fail."""
        source, library = self.store.with_suffix(".faults.c"), self.store.with_suffix(".faults.so")
        source.write_text(FAULTS, encoding="ascii")
        compiler = os.environ.get("CC", "gcc")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        return library

    def fail_reads(self) -> None:
        """From now on every read fails."""
        self._flags["read"].touch()

    def fail_writes(self) -> None:
        """From now on every write fails."""
        self._flags["write"].touch()

    def fail_syncs(self) -> None:
        """From now on every fsync fails; the data arrive all the same."""
        self._flags["sync"].touch()

    def fail_block(self, offset_bytes: int) -> None:
        """From now on this byte cannot be read, until it is written."""
        self._flags["block"].write_text(str(offset_bytes), encoding="ascii")

    @property
    def has_bad_block(self) -> bool:
        """Whether that is so still."""
        return self._flags["block"].exists()

    def hang(self) -> None:
        """From now on nothing ends."""
        self._signal(signal.SIGSTOP)

    def heal(self) -> None:
        """Nothing fails any more, and what hung goes on."""
        for flag in self._flags.values():
            flag.unlink(missing_ok=True)
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
