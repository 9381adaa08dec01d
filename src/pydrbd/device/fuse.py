"""The kind `fuse`: a loop device with direct I/O over libnbd's nbdfuse, for hosts without nbd and ublk. Needs root.

A daemon that dies leaves loop device, nbdfuse and nbdkit behind; requests wait in nbdkit until the next daemon serves
`Wish.server` again. Every piece can be found from the run directory alone, so that a daemon killed in the middle of
making or removing the device leaves nothing that `clear` does not find.
"""

from __future__ import annotations

from pydrbd.device import loop, openers, proxy
from pydrbd.device.kind import Attached, DeviceError, Made, Wish
from pydrbd.device.proxy import Proxy


class FuseDevice:
    """See `Kind`."""

    name = "fuse"

    def missing(self) -> str | None:
        """Return what this host lacks."""
        return proxy.missing()

    def attach(self, wish: Wish) -> Made:
        """Make the device; `Wish.server` is being served."""
        self.clear(wish)
        programs = _proxy(wish)
        try:
            programs.start(wish.size_bytes)
            path = loop.make(programs.file, wish.block_bytes)
        except DeviceError:
            self.clear(wish)
            raise
        return Made(Attached(self.name, path, wish.size_bytes, wish.identifier))

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        """Find everything still there: nbdkit comes to `Wish.server` by itself."""
        del served  # nbdkit's connection; without one it makes another
        programs = _proxy(wish)
        same = device.identifier == wish.identifier and device.size_bytes == wish.size_bytes
        if same and programs.is_whole() and device.path in loop.of_file(programs.file):
            return Made(device)
        return None

    def watch(self, device: Attached) -> None:
        """Return None: nbdkit makes another connection by itself."""

    def grow(self, wish: Wish, device: Attached) -> None:
        """Refuse: nbdfuse's file has the size that it began with, and a loop device has the size of its file."""
        raise DeviceError(
            f"{device.path} keeps its size until {wish.resource} is demoted and promoted again: "
            "nbdfuse asks for it but once"
        )

    def detach(self, wish: Wish, device: Attached, *, force: bool) -> None:
        """Take the device away, loop device first: its pages still go out through the programs."""
        if force:
            self.clear(wish)
            return
        programs = _proxy(wish)
        if device.path in loop.of_file(programs.file):
            loop.release(device.path, programs.file, openers.claim(device.path))
        programs.stop()

    def clear(self, wish: Wish) -> None:
        """Remove every piece. Who still has the loop device open gets errors from it until he closes it."""
        programs = _proxy(wish)
        # First: with nobody to serve them, the last pages of the loop device would wait for ever.
        programs.kill()
        for path in loop.of_file(programs.file):
            loop.release(path, programs.file, wait_s=0.0 if openers.openers_of(path) else loop.GONE_S)
        programs.stop()


def _proxy(wish: Wish) -> Proxy:
    return Proxy(wish.run, wish.server)
