"""Who has a disk: mounts, swap, drivers stacked on it, processes. Read from /proc and /sys; opens no disk.

Each answer is the end of a sentence that begins with the disk's name. An empty list means that nothing was found, not
that nobody is there: only an exclusive opening tells that.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_PROC = Path("/proc")
_SYS = Path("/sys")


def holders_of(path: Path) -> list[str]:
    """Return who visibly uses the block device, one of its partitions, or the file."""
    status = path.stat()
    if not stat.S_ISBLK(status.st_mode):
        return _swaps({path.resolve()}) + _loop_devices(path.resolve())
    number = _number(status.st_rdev)
    found = _mounts(number) + _swaps(_block_paths(number)) + _stacked(number)
    for partition in _partitions(number):
        part = (_SYS / "class/block" / partition / "dev").read_text().strip()
        uses = _mounts(part) + _swaps({Path("/dev") / partition}) + _stacked(part)
        found += [f"its partition {partition} is {use.removeprefix('it is ')}" for use in uses]
    return found


def lock_holder(fd: int) -> str | None:
    """Return "name (pid N)" of the process that holds a lock on this open file, None if nobody is seen to."""
    status = os.fstat(fd)
    key = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in _lines(_PROC / "locks"):
        words = line.split()
        if key in words and "->" not in words:
            pid = words[words.index(key) - 1]
            if pid.isdigit() and pid != "0":
                return process(int(pid))
    return None


def opener_of(path: Path) -> str | None:
    """Return "name (pid N)" of another process that has the block device open, None if none is seen to."""
    try:
        device = path.stat().st_rdev
    except OSError:
        return None
    for entry in _PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            descriptors = list((entry / "fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                status = descriptor.stat()
            except OSError:
                continue
            if stat.S_ISBLK(status.st_mode) and status.st_rdev == device:
                return process(int(entry.name))
    return None


def process(pid: int) -> str:
    """Return "name (pid N)"."""
    words = _text(_PROC / str(pid) / "comm").strip() or "a process"
    return f"{words} (pid {pid})"


def _mounts(number: str) -> list[str]:
    found = []
    for line in _lines(_PROC / "self/mountinfo"):
        words = line.split()
        if len(words) > 4 and words[2] == number:
            where = words[4].encode().decode("unicode_escape")
            found.append(f"it is mounted on {where}")
    return found


def _swaps(paths: set[Path]) -> list[str]:
    found = []
    for line in _lines(_PROC / "swaps")[1:]:
        swap = Path(line.split()[0].encode().decode("unicode_escape"))
        if swap in paths or swap.resolve() in paths:
            found.append("it is used as swap")
    return found


def _stacked(number: str) -> list[str]:
    found = []
    holders = _SYS / "dev/block" / number / "holders"
    if holders.is_dir():
        for holder in sorted(holders.iterdir()):
            name = _text(holder / "dm/name").strip()
            found.append(f"it is part of {name or holder.name}")
    return found


def _loop_devices(path: Path) -> list[str]:
    return [
        f"it is the backing file of /dev/{loop.parent.parent.name}"
        for loop in sorted((_SYS / "block").glob("loop*/loop/backing_file"))
        if _text(loop).strip() == str(path)
    ]


def _partitions(number: str) -> list[str]:
    folder = _SYS / "dev/block" / number
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "partition").is_file())


def _block_paths(number: str) -> set[Path]:
    name = (_SYS / "dev/block" / number).resolve().name
    return {Path("/dev") / name}


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
