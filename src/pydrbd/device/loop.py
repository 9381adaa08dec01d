"""Loop devices: made by `losetup`, found by the file behind them, taken away by ioctl.

A loop device that is open while it is taken away stays, marked, until its last user closes it; that is the kernel's
rule, and `release` says which of the two happened.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from pathlib import Path

from pydrbd.device.kind import BLOCK_BYTES, DeviceError

SYS_BLOCK = Path("/sys/block")
SECTOR_BYTES = 512
LOSETUP_S = 30.0
LOOP_CLR_FD = 0x4C01
"""linux/loop.h"""
GONE_S = 3.0
_POLL_S = 0.01


def make(file: Path, block_bytes: int = BLOCK_BYTES) -> str:
    """Make a loop device of the file, with direct I/O; return its path. Raise `DeviceError`."""
    command = ["losetup", "--find", "--show", "--direct-io=on", f"--sector-size={block_bytes}", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOSETUP_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"losetup failed: {error}") from error
    if done.returncode:
        raise DeviceError(f"losetup failed: {done.stderr.strip()}")
    return done.stdout.strip()


def of_file(file: Path, sys_block: Path = SYS_BLOCK) -> list[str]:
    """Return the loop devices behind which the file is."""
    found = []
    for entry in sys_block.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if entry.read_text(errors="surrogateescape").rstrip("\n") == str(file):
                found.append(f"/dev/{entry.parent.parent.name}")
    return sorted(found)


def size_bytes(path: str, sys_block: Path = SYS_BLOCK) -> int:
    """Return the size of a block device; 0 if there is none."""
    try:
        return int((sys_block / Path(path).name / "size").read_text()) * SECTOR_BYTES
    except (OSError, ValueError):
        return 0


def release(path: str, file: Path, claimed_fd: int | None = None, wait_s: float = GONE_S) -> bool:
    """Take the loop device off the file. `claimed_fd`, an exclusive opening of it, is closed.

    Return False if others have it open and it stays until they close it. Raise `DeviceError`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if claimed_fd is None else claimed_fd
    except OSError as error:
        raise DeviceError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.ioctl(fd, LOOP_CLR_FD)
    except OSError as error:
        raise DeviceError(f"{path} cannot be released: {error.strerror}") from error
    finally:
        os.close(fd)
    deadline = time.monotonic() + wait_s
    while path in of_file(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
