"""What Linux's md says of the backing disk, if that is an md set: a degraded one is a thing to see in `status`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SYS = Path("/sys")


def md_of(disk: Path, sys: Path = SYS) -> dict[str, Any] | None:
    """Return level, disks, how many are missing, and what md does now; None: it is no md set, or a file."""
    place = md_place(disk, sys)
    return None if place is None else md_state(place)


def md_place(disk: Path, sys: Path = SYS) -> Path | None:
    """Return where md tells of the set; None: it is none. `disk` may be a link, or a partition of a set.

    To be asked while the disk answers: where it is a file on a filesystem that hangs, this hangs too.
    """
    try:
        number = disk.stat().st_rdev
        folder = (sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}").resolve()
    except OSError:
        return None
    for place in (folder / "md", folder.parent / "md"):
        if number and place.is_dir():
            return place
    return None


def md_state(place: Path) -> dict[str, Any]:
    """Return what `md_of` does, of the set that `md_place` has found."""
    return {
        "level": _text(place / "level"),
        "disks": _number(place / "raid_disks"),
        "degraded": _number(place / "degraded"),
        "array-state": _text(place / "array_state"),
        "sync-action": _text(place / "sync_action"),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return 0
