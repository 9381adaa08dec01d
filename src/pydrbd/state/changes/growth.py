"""The device becomes larger, in an order that a power cut at any point survives.

    SetSize        the engine has a larger bitmap, what is new is marked in it; nobody writes there yet
    WriteBitmap    the bits are on disk, behind the end of the device that the superblock still tells
    (superblock)   the new size is in force, and with it the bits
    ResizeExport   applications may use what is new

Cut before the superblock, the device has its old size and nothing was written behind it. Cut after it, what is new is
marked. A peer is told between the last two, so that it has grown before it is sent a write for what is new.
"""

from __future__ import annotations

from pydrbd.model.effects import ResizeExport, SetSize, WriteBitmap
from pydrbd.model.packets import Sizes
from pydrbd.model.states import Role
from pydrbd.state.turn import Turn


def grow(turn: Turn, sectors: int, *, mark: bool, tell: Sizes | None = None) -> None:
    """Take a larger size into use, durably. `mark`: what is new is out of sync. `tell` goes to the peer in between."""
    before = turn.state.size_sectors
    turn.add(SetSize(sectors, out_of_sync_from=before if mark else None), WriteBitmap())
    turn.say(f"The device has {sectors} sectors now (was {before})", "device-grew")
    turn.change(size_sectors=sectors)
    turn.settle()
    if tell is not None:
        turn.send(tell)
    if turn.state.role is Role.PRIMARY:
        turn.add(ResizeExport(sectors))
