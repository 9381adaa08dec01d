"""The device's other names: the one of the configuration (`/dev/nb0`) and `/dev/drbd/by-res/RESOURCE`, as links.

Only what is a link is ever replaced, and only a link to our device is removed: a real `/dev/drbd0` of the kernel's
DRBD, or a link that somebody else has put there meanwhile, stays.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from pydrbd.device import loop

KERNEL_DEVICE = re.compile("/dev/(nbd|ublkb|loop)[0-9]+")
BY_RESOURCE = Path("/dev/drbd/by-res")


def names_of(resource: str, configured: str, folder: Path | None = None) -> tuple[Path, ...]:
    """Return the names that a resource's device has besides its own."""
    return (Path(configured), (folder or BY_RESOURCE) / resource)


def make(names: tuple[Path, ...], device: str) -> list[str]:
    """Let every name lead to the device. Return one sentence for each that cannot."""
    troubles = []
    for name in names:
        try:
            trouble = _make_one(name, device)
        except OSError as error:
            trouble = f"{name} cannot be made a link to {device}: {error.strerror}"
        if trouble:
            troubles.append(trouble)
    return troubles


def _make_one(name: Path, device: str) -> str | None:
    if str(name) == device:
        return None
    if os.path.lexists(name) and not name.is_symlink():
        return f"{name} is there already and no link; the device is {device}"
    name.parent.mkdir(parents=True, exist_ok=True)
    fresh = name.with_name(f".{name.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(device)
    fresh.replace(name)
    return None


def leading_to(names: tuple[Path, ...], device: str) -> tuple[Path, ...]:
    """Return the names that are links to the device."""
    return tuple(name for name in names if _leads_to(name, device))


def _leads_to(name: Path, device: str) -> bool:
    try:
        return str(name.readlink()) == device
    except OSError:
        return False


def remove_dead(names: tuple[Path, ...], sys_block: Path = loop.SYS_BLOCK) -> list[str]:
    """Remove the names that lead to a device of ours which is not there any more; return them.

    A daemon that was killed leaves them, and the kernel's DRBD cannot make its `/dev/drbd0` where such a link is.
    """
    dead = []
    for name in names:
        try:
            target = str(name.readlink())
        except OSError:
            continue
        if KERNEL_DEVICE.fullmatch(target) and loop.size_bytes(target, sys_block) == 0:
            remove((name,), target)
            dead.append(str(name))
    return dead


def remove(names: tuple[Path, ...], device: str) -> None:
    """Remove the names that lead to the device; others stay."""
    for name in leading_to(names, device):
        with contextlib.suppress(OSError):
            name.unlink()
