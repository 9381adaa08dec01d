"""The kernel device of the resource: there while it is Primary, and while the daemon is being replaced.

Everything that may block in the kernel runs in a thread of its own (`device.kind`). What must hold: the export is open
before the device is made and until it is gone, for its last pages go through it. A device that a killed daemon left is
taken over if it is whole, else cleared away before a new one is made. Failing to make one does not undo a promotion:
the NBD socket is there in any case, and `problem` says what is missing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydrbd.config.description import ResourceView
from pydrbd.core.engine import Parked
from pydrbd.core.ublk import ublk_command
from pydrbd.device import freeze, links, nbd, openers
from pydrbd.device.choice import by_name, choose, kinds
from pydrbd.device.kind import (
    BLOCK_BYTES,
    Attached,
    DeviceBusyError,
    DeviceError,
    Kind,
    Made,
    Queue,
    Watch,
    Wish,
    has_hung_up,
)
from pydrbd.device.openers import Opener
from pydrbd.device.state_file import StateFile
from pydrbd.node.export_socket import ExportSocket
from pydrbd.node.handover.inheritance import Inheritance

log = logging.getLogger(__name__)

BUSY_S = 2.0
"""So long a mere look (udev, blkid) may hold the device open before it is taken away all the same."""
POLL_S = 0.1
LOOK_S = 5.0
"""How often we look who has it open, unasked: /proc is read for it."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Server:
    """The engine, as a device sees it. Every way takes the descriptor over.

    `socket`: the second argument says that it is in transmission. `queue`: of ublk, with its depth; returns when the
    queue is served, raises `OSError`. `adopt`: a socket of the program that we succeed.
    """

    socket: Callable[[int, bool], None]
    queue: Callable[[int, int], Awaitable[None]]
    adopt: Callable[[Parked], None]


class KernelDevice:
    """One volume's device."""

    def __init__(self, view: ResourceView, run: Path, server: Server, on_openers: Callable[[], None]) -> None:
        self._view = view
        self._volume = view.local.volumes[0]
        self._run = run
        self._engine = server
        self._on_openers = on_openers
        self.server = ExportSocket(run / "device.sock", self._on_connection, lambda: 0)
        self._inherited = Inheritance()
        self._watch: Watch | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._state_file = StateFile(run)
        self._kinds = kinds(ublk_command)
        self._thread = ThreadPoolExecutor(1, "device")
        self._identifier = ""
        self._connections = 0
        self._wanted = False
        self._looked = 0.0
        self.attached: Attached | None = None
        self.openers: list[Opener] = []
        self.problem = ""
        """Why there is no device, in one sentence, if there should be one."""
        self.by_force = False
        """The next `vanish` has been told that it may take the device from who has it open."""

    def identify(self, device_uuid: int | None) -> None:
        """Say which disk this is, before anything else; None: it is not known, for the disk is missing.

        A device that the last daemon left keeps its name then, and one that was made without a disk keeps it for good.
        """
        unknown = f"pydrbd:{self._view.resource.name}:{0:016x}"
        leftover = self.leftover()
        if leftover is not None and (device_uuid is None or leftover.identifier == unknown):
            self._identifier = leftover.identifier
        else:
            self._identifier = f"pydrbd:{self._view.resource.name}:{device_uuid or 0:016x}"

    def inherit(self, inherited: Inheritance) -> None:
        """Say what there is of the program that we succeed, before anything else."""
        self._inherited = inherited

    def leftover(self) -> Attached | None:
        """Return the device that the last daemon left when it ended."""
        return self._state_file.load()

    def get_ready(self) -> None:
        """Begin to load what a take-over will need. Who waits for the device need not wait for that after the peer."""
        leftover = self.leftover()
        if leftover is not None and leftover.kind == nbd.NbdDevice.name:
            self._thread.submit(nbd.load_control)

    def remove_dead_names(self) -> None:
        """Remove the links that a daemon left whose device has gone with the last boot, or otherwise."""
        for name in links.remove_dead(self._names()):
            log.info("%s led to a device that is gone: removed", name)

    async def appear(self, size_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        """Make the device, or take the leftover one over. Raises nothing: see `problem`."""
        self.problem, self.by_force, self._connections, self._wanted = "", False, 0, True
        try:
            kind = await self._do(lambda: choose(self._view.resource.attach, self._kinds))
            if kind.name == "none" and self.leftover() is None:
                return
            # Not before it is known that there will be a device: a socket that nobody serves confuses whoever looks.
            self.server.open(self._inherited.take_listener("device", str(self.server.path)))
            wish = replace(self._wish(size_bytes), block_bytes=block_bytes)
            served = self._go_on_with_sockets()
            made = await self._do(lambda: self._make(kind, wish, served=served))
            if made is not None and made.queue is not None:
                await self._start(kind, wish, made.queue)
        except (DeviceError, OSError) as error:
            self.problem = str(error)
            log.error("there is no device: %s; the NBD socket %s serves", error, self._run / "nbd.sock")
            await self.server.close()
            return
        if made is None:
            await self.server.close()
            return
        self._adopt(made)
        await self._start_watching(kind, made.device)

    async def vanish(self) -> None:
        """Take the device away. Who has it open, after a while or by force, gets errors. Raises nothing."""
        self._wanted = False
        await self._stop_watching()
        device = self.attached
        if device is None:
            return
        wish = self._wish(device.size_bytes)
        try:
            await self._do(lambda: self._take_away(wish, device, force=self.by_force))
        except (DeviceError, OSError) as error:
            log.error("%s is not gone whole: %s", device.path, error)
        else:
            log.info("%s is gone", device.path)
        links.remove(self._names(), device.path)
        self._state_file.remove()
        await self.server.close()
        self.attached = None
        self._set_openers([])

    async def grow(self, size_bytes: int) -> None:
        """Give the device another size while it is in use. Raises nothing: what it cannot do is a warning."""
        device = self.attached
        if device is None:
            return
        kind, wish = by_name(device.kind, self._kinds), self._wish(size_bytes)
        try:
            if kind is not None:
                await self._do(lambda: kind.grow(wish, device))
        except (DeviceError, OSError) as error:
            log.warning("%s", error)
            return
        if device is self.attached:
            self.attached = replace(device, size_bytes=size_bytes)
            self._state_file.save(self.attached)
            log.info("%s has %d KiB now", device.path, size_bytes // 1024)

    async def abandon(self) -> None:
        """Clear away what the last daemon left and we may not serve: its users get errors."""
        device = self.leftover()
        if device is None:
            return
        kind, wish = by_name(device.kind, self._kinds), self._wish(device.size_bytes)
        if kind is not None:
            try:
                await self._do(lambda: kind.clear(wish))
            except (DeviceError, OSError) as error:
                log.error("%s is not gone whole: %s", device.path, error)
        links.remove(self._names(), device.path)
        self._state_file.remove()

    async def look(self) -> None:
        """Find out who has it open now."""
        device = self.attached
        if device is None:
            return
        # In a thread of its own: the other one may be waiting in the kernel.
        found = await asyncio.to_thread(openers.openers_of, device.path)
        self._looked = asyncio.get_running_loop().time()
        if device is self.attached:
            self._set_openers(found)

    async def look_now_and_then(self) -> None:
        """Look, if that was long ago."""
        if asyncio.get_running_loop().time() - self._looked > LOOK_S:
            await self.look()

    async def close(self) -> None:
        """Let go of everything here, as a crash would: the device stays for the next daemon."""
        await self._stop_watching()
        await self.server.close()
        self._thread.shutdown(wait=False)

    def as_data(self) -> dict[str, Any] | None:
        """Return what status shows; None: this node is not Primary."""
        if self.attached is None:
            return {"kind": "none", "problem": self.problem} if self._wanted else None
        return {
            "kind": self.attached.kind,
            "path": self.attached.path,
            "names": [str(name) for name in links.leading_to(self._names(), self.attached.path)],
            "size": self.attached.size_bytes // 1024,
            "openers": [str(opener) for opener in self.openers],
            "reconnects": max(0, self._connections - 1),
        }

    # --- the kernel loses its connection ------------------------------------------------------------------------------

    async def _start_watching(self, kind: Kind, device: Attached) -> None:
        """Be told when the kernel has lost the device's socket, which it does not get back by itself."""
        watch = self._watch = await self._do(lambda: kind.watch(device))
        if watch is not None:
            asyncio.get_running_loop().add_reader(watch.fileno(), self._on_told, watch)

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()
        if self._reconnecting is not None:
            await asyncio.gather(self._reconnecting, return_exceptions=True)
            self._reconnecting = None

    def _on_told(self, watch: Watch) -> None:
        device = self.attached
        try:
            told = watch.was_told()
        except OSError as error:
            log.error("a lost connection of the device will not be noticed any more: %s", error)
            asyncio.get_running_loop().remove_reader(watch.fileno())
            return
        if told and device is not None and (self._reconnecting is None or self._reconnecting.done()):
            self._reconnecting = asyncio.ensure_future(self._reconnect(device))

    async def _reconnect(self, device: Attached) -> None:
        """Give the device another socket; its users wait meanwhile. Raises nothing."""
        log.warning("the kernel has lost the connection of %s", device.path)
        kind, wish = by_name(device.kind, self._kinds), self._wish(device.size_bytes)
        try:
            made = await self._do(lambda: kind.take_over(wish, device, served=False)) if kind is not None else None
        except (DeviceError, OSError) as error:
            log.error("%s", error)
            return
        if made is None or made.served_fd is None:
            log.error("%s is not ours any more", device.path)
            return
        self._connections += 1
        self._engine.socket(made.served_fd, True)
        log.warning("%s has another connection", device.path)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _do(self, body: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, body)

    def _wish(self, size_bytes: int) -> Wish:
        return Wish(self._view.resource.name, self._identifier, size_bytes, self._volume.minor, self._run)

    def _names(self) -> tuple[Path, ...]:
        return links.names_of(self._view.resource.name, self._volume.device)

    def _go_on_with_sockets(self) -> bool:
        """Serve the device's sockets that the last program handed over; say whether there are any, and alive."""
        alive = False
        for parked in self._inherited.take_clients(device=True):
            self._connections += 1
            alive |= not has_hung_up(parked.fd)
            self._engine.adopt(parked)
        return alive

    def _on_connection(self, fd: int) -> None:
        self._connections += 1
        self._engine.socket(fd, False)

    def _make(self, kind: Kind, wish: Wish, *, served: bool) -> Made | None:
        leftover = self.leftover()
        if leftover is not None:
            old = by_name(leftover.kind, self._kinds)
            same = old is not None and old.name == kind.name
            if old is not None and same and (made := old.take_over(wish, leftover, served=served)) is not None:
                log.info("%s is taken over from the last daemon", leftover.path)
                return made
            log.warning("%s of the last daemon is not what is wanted now; it goes", leftover.path)
            if old is not None:
                old.clear(wish)
            self._state_file.remove()
        return None if kind.name == "none" else kind.attach(wish)

    async def _start(self, kind: Kind, wish: Wish, queue: Queue) -> None:
        try:
            try:
                await self._engine.queue(queue.fd, queue.depth)
            except OSError as error:
                needs = "it needs io_uring" if error.errno == errno.EOPNOTSUPP else error.strerror
                raise DeviceError(f"the queue of the device is not served: {needs}") from error
            await self._do(queue.start)
        except (DeviceError, OSError):
            await self._do(lambda: kind.clear(wish))
            raise

    def _adopt(self, made: Made) -> None:
        device = made.device
        self._state_file.save(device)
        if made.served_fd is not None:
            self._connections += 1
            self._engine.socket(made.served_fd, True)
        for trouble in links.make(self._names(), device.path):
            log.warning("%s", trouble)
        self.attached = device
        log.info("%s, %d KiB, is the device (attach %s)", device.path, device.size_bytes // 1024, device.kind)

    def _take_away(self, wish: Wish, device: Attached, *, force: bool) -> None:
        kind = by_name(device.kind, self._kinds)
        if kind is None:
            return
        deadline = time.monotonic() + BUSY_S
        while not force:
            try:
                kind.detach(wish, device, force=False)
            except DeviceBusyError as error:
                force = time.monotonic() > deadline
                if force:
                    log.warning("%s; it goes all the same", error)
                time.sleep(POLL_S)
            else:
                return
        places = [opener.mounted_on for opener in openers.openers_of(device.path) if opener.mounted_on]
        frozen = freeze.freeze(places)
        try:
            kind.detach(wish, device, force=True)
        finally:
            freeze.thaw(frozen)

    def _set_openers(self, found: list[Opener]) -> None:
        if found != self.openers:
            self.openers = found
            if self.attached is not None:
                who = ", ".join(str(opener) for opener in found) or "nobody"
                log.info("%s is held open by %s", self.attached.path, who)
            self._on_openers()
