"""How the daemons of one node know of each other's resyncs: a file each, and the kernel's locks on it.

`<run-dir>/RESOURCE/order` says which resource this one comes after, and its group. Two bytes of it are locked: the
first as long as the daemon lives, the second while it resyncs. Nobody waits for a lock, everybody only looks whether
there is one (`F_OFD_GETLK`), so no daemon can hold up another; and the kernel drops the locks of a daemon that dies,
however it dies. Who comes after others looks again every `LOOK_S`, and at the moment when its own resync begins.

What follows from it is the rules' to say (`pydrbd.state.changes.resync_order`, docs/adr/0012-the-order-of-resyncs.md).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydrbd.config.description import ResourceView, dependency
from pydrbd.model.events import BitmapReceived, Event, OthersResync, PacketReceived
from pydrbd.model.packets import Sizes, StateChangeReply, StateChangeRequest, SyncUuid
from pydrbd.node.performer import Performer
from pydrbd.state.changes.resync_order import Place, cycle, waits_for

log = logging.getLogger(__name__)

LOOK_S = 0.2
FILE_NAME = "order"
FILE_BYTES = 512
"""More than a name of a resource and a group can take."""
_ALIVE, _RESYNCING = 0, 1
"""The bytes of the file that are locked."""
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock` as the kernel has it where `off_t` is 64 bits wide; the last is 0 for locks of an open file."""
_BEGINNINGS = (SyncUuid, StateChangeRequest, StateChangeReply, Sizes)
"""Packets with which a resync may begin."""


def place_of(view: ResourceView) -> Place:
    """Return the place in the order that a configuration gives a resource."""
    options = view.local.volumes[0].options
    after = dependency(options.resync_after)
    return Place(after.resource if after else None, options.sync_group)


class ResyncOrder:
    """One resource's place in the order, and its view of the others'."""

    def __init__(self, view: ResourceView, folder: Path, performer: Performer) -> None:
        """`folder` is the resource's own in the run directory; its neighbours are those of the other resources."""
        self._name = view.resource.name
        self._own = place_of(view)
        self._folder = folder
        self._performer = performer
        self._fd = -1
        self._looking: asyncio.Task[None] | None = None
        self._in_cycle: frozenset[str] = frozenset()

    def open(self) -> None:
        """Take the place in the order, and keep looking if there is somebody to come after. Raises `OSError`.

        The caller holds the resource's pid file, so nobody else writes here. What is said is there before the lock
        that makes others look at it.
        """
        path = self._folder / FILE_NAME
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._say()
        _set_lock(self._fd, _ALIVE, fcntl.F_WRLCK)
        self._look_if_due()

    def would_cycle(self, view: ResourceView) -> bool:
        """Return whether the order would lead back to us from the place that a configuration gives us."""
        return self._name in cycle(self._name, dict(self._others()) | {self._name: place_of(view)})

    def adjust(self, view: ResourceView) -> None:
        """Take another place in the order, at once. Raises `OSError`."""
        self._own = place_of(view)
        self._say()
        self._look_if_due()

    def close(self) -> None:
        """Leave the order: nobody waits for us any more."""
        if self._looking is not None:
            self._looking.cancel()
        if self._fd >= 0:
            (self._folder / FILE_NAME).unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1

    def publish(self, *, resyncing: bool) -> None:
        """Let the others know. Raises `OSError`."""
        if self._fd >= 0:
            _set_lock(self._fd, _RESYNCING, fcntl.F_WRLCK if resyncing else fcntl.F_UNLCK)

    def completed(self, event: Event) -> Event:
        """Return the event with whom we wait for at this moment, if a resync may begin with it."""
        if not self._comes_after:
            return event
        match event:
            case BitmapReceived():
                return replace(event, waits_for=self.look())
            case PacketReceived() if isinstance(event.packet, _BEGINNINGS):
                return replace(event, waits_for=self.look())
            case _:
                return event

    def look(self) -> tuple[str, ...]:
        """Return the resources whose resync has to be over before ours, by name."""
        places = dict(self._others()) | {self._name: self._own}
        self._tell_of_cycle(cycle(self._name, places))
        return waits_for(self._name, places)

    @property
    def _comes_after(self) -> bool:
        return self._own.after is not None or self._own.group > 0

    def _say(self) -> None:
        """Write our place. Always as many bytes, so that who reads them meanwhile finds the old ones or the new."""
        said = json.dumps({"after": self._own.after, "group": self._own.group}).encode()
        os.pwrite(self._fd, said.ljust(FILE_BYTES), 0)

    def _look_if_due(self) -> None:
        if self._comes_after and (self._looking is None or self._looking.done()):
            self._looking = asyncio.ensure_future(self._keep_looking())

    async def _keep_looking(self) -> None:
        # One that comes after nobody any more may still have to be told so: during a handshake nobody listens.
        while self._comes_after or self._performer.state.waits_for:
            names = self.look()
            if names != self._performer.state.waits_for:
                self._performer.post(OthersResync(names))
                # One at a time, should the rules be busy with something long.
                await self._performer.settle()
            await asyncio.sleep(LOOK_S)

    def _others(self) -> Iterator[tuple[str, Place]]:
        """Yield name and place of every other resource that is up on this node."""
        for path in self._folder.parent.glob(f"*/{FILE_NAME}"):
            place = _read(path) if path.parent != self._folder else None
            if place is not None:
                yield path.parent.name, place

    def _tell_of_cycle(self, names: frozenset[str]) -> None:
        if names and names != self._in_cycle:
            log.warning(
                "the daemons of %s have read orders that make a cycle: these resyncs do not wait for each other until"
                " `pydrbd adjust` makes them read the configuration again (rule: resync-after-cycle)",
                ", ".join(sorted(names)),
            )
        self._in_cycle = names


def _read(path: Path) -> Place | None:
    """Return what a daemon says of itself; None if there is none any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not _is_locked(fd, _ALIVE):
            return None
        resyncing = _is_locked(fd, _RESYNCING)
        said = json.loads(os.read(fd, FILE_BYTES))
        return Place(None if said["after"] is None else str(said["after"]), int(said["group"]), resyncing)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s cannot be read: %s", path, error)
        return None
    finally:
        os.close(fd)


def _set_lock(fd: int, place: int, kind: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, place, 1, 0))


def _is_locked(fd: int, place: int) -> bool:
    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, place, 1, 0))
    kind: int = _LOCK.unpack(found)[0]
    return kind != fcntl.F_UNLCK
