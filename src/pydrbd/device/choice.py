"""Which kind of device a resource gets: the one that its option `attach` names, or, for `auto`, what the host has.

`auto` takes the kernel's nbd if the host has it, else none: a device through FUSE costs two helper processes and a
part of the speed, so it is made only where somebody has written `attach fuse`; and a device keeps its name when the
host gets a kernel that has ublk too, so ublk is made where somebody has written `attach ublk`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydrbd.device.fuse import FuseDevice
from pydrbd.device.kind import DeviceError, Kind
from pydrbd.device.nbd import NbdDevice
from pydrbd.device.none import NoDevice
from pydrbd.device.ublk import UblkDevice
from pydrbd.device.ublk_control import Command, UblkControl

AUTO = "auto"
AUTOMATIC = ("nbd", "none")


def kinds(ublk_command: Command) -> tuple[Kind, ...]:
    """Return every kind that there is, in the order of preference. `ublk_command` carries commands to ublk's driver."""
    return (NbdDevice(), UblkDevice(UblkControl(ublk_command)), FuseDevice(), NoDevice())


def choose(attach: str, known: Sequence[Kind]) -> Kind:
    """Return the kind for the option `attach`. Raise `DeviceError` if the host lacks what it needs."""
    if attach == AUTO:
        able = (kind for kind in known if kind.name in AUTOMATIC and kind.missing() is None)
        return next(able)
    kind = by_name(attach, known)
    if kind is None:
        raise DeviceError(f"attach {attach} is not available in this version; nbd, ublk, fuse, none and auto are")
    lack = kind.missing()
    if lack is not None:
        raise DeviceError(f"attach {attach} is not possible on this host: {lack}")
    return kind


def by_name(name: str, known: Sequence[Kind]) -> Kind | None:
    """Return the kind of this name, None if there is none."""
    return next((kind for kind in known if kind.name == name), None)
