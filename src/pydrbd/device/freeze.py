"""Freezing what is mounted on a device before it is taken away by force, so that its filesystem is whole on the disk.

A frozen filesystem is thawed afterwards: its processes then get errors, which is what the user asked for, instead of
hanging for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
"""linux/fs.h: _IOWR('X', 119, int) and 120"""
PATIENCE_S = 5.0


def freeze(places: list[str], patience_s: float = PATIENCE_S) -> list[int]:
    """Freeze the filesystems at these mount points; return descriptors for `thaw`.

    What cannot be frozen is left alone, and one whose last writes do not end within `patience_s` is not waited for.
    """
    frozen: list[int] = []

    def body() -> None:
        for place in places:
            with contextlib.suppress(OSError):
                fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(fd, FIFREEZE, 0)
                except OSError:
                    os.close(fd)
                    raise
                frozen.append(fd)

    worker = threading.Thread(target=body, daemon=True)
    worker.start()
    worker.join(patience_s)
    return list(frozen)


def thaw(frozen: list[int]) -> None:
    """Thaw what `freeze` froze."""
    for fd in frozen:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, FITHAW, 0)
        os.close(fd)
