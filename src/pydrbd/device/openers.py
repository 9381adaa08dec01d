"""Who has a block device open: mounts in every mount namespace, drivers stacked on it, processes. Opens no device.

Read from /proc and /sys. An empty list means that nobody was found, not that nobody is there: only an exclusive
opening tells that (`claim`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydrbd.device.kind import DeviceBusyError, DeviceError

PROC = Path("/proc")
SYS = Path("/sys")


@dataclass(frozen=True, slots=True)
class Opener:
    """One who has the device open, `how` in words. `pid` 0: no process. `mounted_on`: where, if that is how."""

    pid: int
    how: str
    mounted_on: str = ""

    def __str__(self) -> str:
        return self.how


def openers_of(path: str, proc: Path = PROC, sys: Path = SYS) -> list[Opener]:
    """Return who has the device open, mounts first. A device that is not there has no openers."""
    try:
        status = Path(path).stat()
    except OSError:
        return []
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    processes = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return (
        list(_mounts(number, processes, proc)) + list(_stacked(number, sys)) + list(_processes(status, processes, proc))
    )


def claim(path: str) -> int:
    """Open the device exclusively: nobody can mount it while this is open. Raise `DeviceBusyError`, `DeviceError`."""
    try:
        return os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise DeviceError(f"{path} cannot be opened: {error.strerror}") from error
        found = ", ".join(str(opener) for opener in openers_of(path))
        raise DeviceBusyError(
            f"{path} is held open: {found or 'mounted, or used by a driver, where we cannot see'}"
        ) from None


def _mounts(number: str, processes: list[int], proc: Path) -> Iterator[Opener]:
    """Yield every place where the device is mounted, once for all namespaces that have it there."""
    namespaces: set[str] = set()
    places: set[str] = set()
    for pid in processes:
        try:
            namespace = str((proc / str(pid) / "ns/mnt").readlink())
            if namespace in namespaces:
                continue
            lines = (proc / str(pid) / "mountinfo").read_text(errors="surrogateescape").splitlines()
        except OSError:
            continue
        namespaces.add(namespace)
        for line in lines:
            words = line.split()
            if len(words) > 4 and words[2] == number:
                places.add(words[4].encode().decode("unicode_escape"))
    yield from (Opener(0, f"mounted on {place}", place) for place in sorted(places))


def _stacked(number: str, sys: Path) -> Iterator[Opener]:
    try:
        holders = sorted((sys / "dev/block" / number / "holders").iterdir())
    except OSError:
        return
    for holder in holders:
        try:
            name = (holder / "dm/name").read_text().strip()
        except OSError:
            name = holder.name
        yield Opener(0, f"part of {name}")


def _processes(device: os.stat_result, processes: list[int], proc: Path) -> Iterator[Opener]:
    for pid in processes:
        if pid == os.getpid():
            continue
        try:
            descriptors = list((proc / str(pid) / "fd").iterdir())
        except OSError:
            continue
        if any(_is_on(descriptor, device) for descriptor in descriptors):
            yield Opener(pid, f"{_name(proc, pid)} (pid {pid})")


def _is_on(descriptor: Path, device: os.stat_result) -> bool:
    """Say whether a descriptor is the device. The link is read first: stat of a dead network's file may hang."""
    try:
        if not str(descriptor.readlink()).startswith("/dev/"):
            return False
        status = descriptor.stat()
    except OSError:
        return False
    return stat.S_ISBLK(status.st_mode) and status.st_rdev == device.st_rdev


def _name(proc: Path, pid: int) -> str:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return "a process"
