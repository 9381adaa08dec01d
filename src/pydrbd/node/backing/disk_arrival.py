"""Waiting for a backing disk that is not there yet: at boot an md set, a multipath or a USB disk comes when it comes.

udev says when a block device appears; a look every second makes up for a host without udev. A disk is there when it can
be looked at and has a size: an md set that is being assembled has a name first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

POLL_S = 1.0


def is_there(path: Path) -> bool:
    """Say whether the disk, or whatever a link like /dev/disk/by-id/... leads to, can be used. Files always can."""
    try:
        status = path.stat()
        if not stat.S_ISBLK(status.st_mode):
            return True
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return int((Path("/sys/dev/block") / number / "size").read_text()) > 0
    except (OSError, ValueError):
        return False


async def wait_for_disk(path: Path, timeout_s: float) -> bool:
    """Return once the disk is there; False if it has not come in time. `timeout_s`: may be infinite."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    if is_there(path) or timeout_s <= 0:
        return is_there(path)
    log.warning("waiting for %s%s", path, "" if math.isinf(timeout_s) else f", at most {timeout_s:.0f} s")
    changed = asyncio.Event()
    with _block_events(changed):
        while not is_there(path):
            left_s = deadline - loop.time()
            if left_s <= 0:
                return False
            changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(POLL_S, left_s))
    log.info("%s is there", path)
    return True


@contextlib.contextmanager
def _block_events(changed: asyncio.Event) -> Iterator[None]:
    """Set the event whenever udev says something of a block device."""
    try:
        import pyudev  # noqa: PLC0415 - only where a disk is missing

        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("block")
        monitor.start()
    except (ImportError, OSError) as error:
        log.debug("no udev: %s", error)
        yield
        return

    def on_event() -> None:
        while monitor.poll(timeout=0) is not None:
            changed.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(monitor.fileno(), on_event)
    try:
        yield
    finally:
        loop.remove_reader(monitor.fileno())
