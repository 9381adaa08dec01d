"""No block device: the NBD socket is all there is, and enough for QEMU, nbdcopy and whoever speaks NBD."""

from __future__ import annotations

from pydrbd.device.kind import Attached, DeviceError, Made, Wish


class NoDevice:
    """The kind `none`. It is never asked for a device."""

    name = "none"

    def missing(self) -> str | None:
        """Return None: every host can do without."""
        return None

    def attach(self, wish: Wish) -> Made:
        """Refuse."""
        raise DeviceError(f"{wish.resource} is configured without a device (attach none)")

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        """Return None: there is nothing to take over."""
        del wish, device, served
        return None

    def watch(self, device: Attached) -> None:
        """Return None: there is no device."""

    def grow(self, wish: Wish, device: Attached) -> None:
        """Do nothing."""

    def detach(self, wish: Wish, device: Attached, *, force: bool) -> None:
        """Do nothing."""

    def clear(self, wish: Wish) -> None:
        """Do nothing."""
