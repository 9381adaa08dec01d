"""The daemon of one resource: engine, disk, link, export, admin socket and rules, put together; its start and its end.

Start, in this order: the port is bound (an address in use is known before anything is touched), the engine starts,
the disk is attached, the rules hear of it and connect, the admin socket appears. The end begins with the rules'
`Exit`, or at once when the start fails. Being killed at any moment is as good an end as any other: what counts is on
disk.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydrbd import config
from pydrbd.config.description import ResourceView
from pydrbd.core.binding import Binding
from pydrbd.core.engine import Engine, Io, Options
from pydrbd.core.facts import Fact, FactType, Translator
from pydrbd.model import effects, events
from pydrbd.model.packets import Malformed, Sizes
from pydrbd.model.states import Role
from pydrbd.node.admin.adjusting import Adjusting
from pydrbd.node.admin.admin_socket import AdminSocket, Reply, Request
from pydrbd.node.admin.overview import Overview
from pydrbd.node.admin.status import PACED_STATES
from pydrbd.node.admin.verbs import COMMANDS, Verbs
from pydrbd.node.attachment import Attachment, new_uuid
from pydrbd.node.backing.disk_removal import DiskRemoval
from pydrbd.node.backing.late_disk import LateDisk
from pydrbd.node.chronicle.decisions import Chronicle
from pydrbd.node.chronicle.generation_books import GenerationBooks, books_path
from pydrbd.node.export_socket import ExportSocket
from pydrbd.node.handlers import Handlers
from pydrbd.node.handover.hand_over import HandOver
from pydrbd.node.handover.inheritance import Inheritance
from pydrbd.node.kernel import memory
from pydrbd.node.kernel.kernel_device import KernelDevice, Server
from pydrbd.node.kernel.take_over import take_over
from pydrbd.node.link.peer_link import INTERNAL_TOKEN, PeerLink
from pydrbd.node.performer import Performer
from pydrbd.node.process import EXIT_INVALID, Readiness, StartError
from pydrbd.node.resync_order import ResyncOrder
from pydrbd.node.resync_pacer import ResyncPacer, limits_of
from pydrbd.node.rules import fresh_state, terms, wire_protocol
from pydrbd.state.disk import in_use
from pydrbd.state.machine import step

log = logging.getLogger(__name__)

POOL_BYTES = 64 << 20
REQUESTS = 1024
SECTOR_BYTES = 512
TAKE_OVER_S = 5.0
"""Whoever waits for our start waits so long for the device of a killed daemon, too."""
IO_WAYS = {"": Io.AUTO, "auto": Io.AUTO, "uring": Io.URING, "threads": Io.THREADS}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the daemon's files are. `run` is the resource's own folder of the run directory."""

    configuration: Path
    run: Path
    state: Path


class Daemon:
    """One resource on this node."""

    def __init__(
        self,
        view: ResourceView,
        places: Places,
        binding: Binding | None = None,
        *,
        may_have_device: bool = False,
        inherited: Inheritance | None = None,
    ) -> None:
        """`may_have_device`: this host will write through us, and `memory.protect` was called.

        `inherited`: of the program that we succeed; what we have no use for is closed.
        """
        self._may_have_device = may_have_device
        self._inherited = inherited or Inheritance()
        self._goes_on = self._inherited.was_primary
        """The first to use our export have begun with the last program's."""
        self._view = view
        self._places = places
        self._engine = Engine(_engine_options(may_have_device=may_have_device), binding)
        self._link = PeerLink(self._engine, terms(view), view.resource.net, self._post)
        self._disk = Attachment(view, self._engine, places.state)
        self._late_disk = LateDisk(view.resource.name, self._disk.awaited)
        self._removal = DiskRemoval(self._on_disk_removed)
        self._export = ExportSocket(places.run / "nbd.sock", self._engine.export_client, self._clients)
        server = Server(self._serve_device, self._engine.export_ublk, self._engine.export_adopt)
        self._device = KernelDevice(view, places.run, server, self._on_openers)
        self._handlers = Handlers(view, places.configuration, self._on_handler_ended)
        self._translator = Translator(self._link.decode, new_uuid, self._bits_set)
        self._performer = Performer(fresh_state(view), step, self._doers(), self._prepare)
        self._pacer = ResyncPacer(limits_of(view), self._engine.counters, self._engine.resync_rate, self._is_resyncing)
        self._order = ResyncOrder(view, places.run, self._performer)
        self._chronicle = Chronicle(GenerationBooks.open(books_path(places.state, view.resource.name)))
        self._overview = Overview(view, self._performer, self._engine, self._device, self._chronicle, self._disk)
        self._verbs = Verbs(view.resource.name, self._performer, self._overview, self._device)
        self._hand_over = HandOver(self._performer, self._engine, self._verbs, self._device, self._export, self._leave)
        self._take_verbs()
        self._admin = AdminSocket(places.run / "control.sock", self._verbs.answer)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._exit = asyncio.Event()
        self.left = False
        """It ends with its device in place, for the next daemon."""
        self.bequest: Inheritance | None = None
        """It has ended in order, to be succeeded by the next program in this process, which gets this."""
        self.died = ""
        """Why it ends as by a kill: its engine is gone."""
        self._told = 0
        self._last_error = ""
        self._telling: set[asyncio.Task[None]] = set()

    def _take_verbs(self) -> None:
        """Answer the verbs that are more than an event for the rules."""
        adjusting = Adjusting(self._view, lambda: config.load(self._places.configuration), self._pacer, self._order)
        self._verbs.take("attach", self._on_attach)
        self._verbs.take("detach", self._on_detach)
        self._verbs.take("adjust", adjusting.adjust)
        self._verbs.take("disk-options", adjusting.disk_options)
        self._verbs.take("restart", self._hand_over.restart)

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, readiness: Readiness) -> None:
        """Start, say so, and work until the rules say `Exit`. Raises `StartError`."""
        performing = asyncio.ensure_future(self._performer.run())
        sampling = asyncio.ensure_future(self._overview.sample())
        try:
            readiness.up(await self._start(performing))
            leaving = asyncio.ensure_future(self._exit.wait())
            await asyncio.wait({leaving, performing}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            if performing.done():
                performing.result()  # it never returns: this raises what went wrong
        finally:
            performing.cancel()
            sampling.cancel()
            await asyncio.gather(performing, sampling, return_exceptions=True)
            await self._stop()

    async def _start(self, performing: asyncio.Future[None]) -> str:
        """Return how it is up without its disk, or nothing."""
        inherited = self._inherited
        try:
            self._link.reserve(inherited)
        except OSError as error:
            raise StartError(f"{self._view.resource.name}: {error.strerror}", EXIT_INVALID) from error
        self._engine.start(self._on_fact)
        self._engine.read_balancing(self._performer.state.options.read_balancing.value)
        if self._may_have_device and (trouble := memory.unlocked(POOL_BYTES)):
            log.warning("%s", trouble)
        without_disk = "" if await self._late_disk.wait_at_start() else self._late_disk.sentence()
        if without_disk:
            log.error("%s", without_disk)
            self._device.identify(None)
            self._device.inherit(inherited)
        else:
            await self._attach_at_start(performing)
        # Before the first resync: who comes after us has to see it, and it has to see who comes before.
        self._open_order()
        await self._settle(events.Connect(INTERNAL_TOKEN), performing)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        if inherited.was_primary:
            # Who asks meanwhile waits in the socket's queue, instead of hearing that we are Secondary.
            await self._take_over(performing)
        try:
            await self._admin.open(inherited.take_listener("admin", str(self._admin.path)))
        except OSError as error:
            raise StartError(f"{self._view.resource.name}: {error.strerror}") from error
        log.info("up, with %s, pid %d", self._engine.io_name, os.getpid())
        if not inherited.was_primary:
            await self._take_over(performing)
        if without_disk:
            self._beside(self._late_disk.attach(self._attach_late))
        return without_disk

    def _open_order(self) -> None:
        try:
            self._order.open()
        except OSError as error:
            raise StartError(f"{self._view.resource.name}: {error.strerror}") from error

    async def _attach_at_start(self, performing: asyncio.Future[None]) -> None:
        attached = await self._open_disk(0)
        self._device.identify(attached.device_uuid)
        self._device.inherit(self._inherited)
        await self._settle(attached, performing)
        if not self._performer.state.has_disk:
            raise StartError(f"{self._view.resource.name}: {self._last_error or 'the disk was refused'}", EXIT_INVALID)

    async def _attach_late(self) -> str:
        if self._performer.state.has_disk:
            return ""
        reply = await self._verbs.attach(self._open_disk)
        return reply.sentence if reply.exit else ""

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something behind everybody's back, until the end at most."""
        task = asyncio.ensure_future(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        return task

    async def _take_over(self, performing: asyncio.Future[None]) -> None:
        """Go on where a killed daemon was; a take-over that has to wait does so behind our back."""
        taking = self._beside(take_over(self._device, self._performer, self._verbs, self._inherited))
        await asyncio.wait({taking, performing}, timeout=TAKE_OVER_S, return_when=asyncio.FIRST_COMPLETED)

    async def _settle(self, event: events.Event, performing: asyncio.Future[None]) -> None:
        """Give the rules an event and return when all that follows is done. Raises what ended the performer."""
        self._post(event)
        settled = asyncio.ensure_future(self._performer.settle())
        await asyncio.wait({settled, performing}, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        if performing.done():
            performing.result()

    async def _stop(self) -> None:
        self._pacer.stop()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._telling:
            task.cancel()
        if self._hand_over.under_way:
            self.bequest = self._hand_over.keep(self._admin)
        await self._device.close()
        await self._export.close()
        await self._link.stop_listening()
        self._engine.stop()  # waits for the disk: whoever opens it next finds it at rest
        self._disk.close()
        self._removal.close()
        await self._admin.close()
        self._order.close()
        self._inherited.close()
        if self.bequest is not None:
            self._hand_over.finish(self.bequest, self._admin, self._link)

    def _on_signal(self, number: int) -> None:
        """Go down in order. A Primary that is held open stays: taking its device away is not ours to decide, once."""
        self._told += 1
        name = signal.Signals(number).name
        force = self._told > 1
        log.warning("%s: going down%s", name, " although held open, because told again" if force else "")
        self._beside(self._tell_down(name, force=force))

    async def _tell_down(self, name: str, *, force: bool) -> None:
        reply = await self._verbs.order(COMMANDS["down"], "down", {"force": force})
        if reply.exit:
            log.warning("%s: staying up: %s; a second one takes the device away", name, reply.sentence)

    # --- facts and state ---------------------------------------------------------------------------------------------

    def _post(self, event: events.Event) -> None:
        self._performer.post(event)

    def _on_fact(self, fact: Fact) -> None:
        if fact.type is FactType.DIED:
            self._on_engine_died(-fact.result)
            return
        try:
            event = self._translator.to_event(fact)
        except ValueError as error:
            event = events.PacketReceived(Malformed(str(error)), self._bits_set())
        if isinstance(event, events.ClientsChanged):
            event = replace(event, clients=event.clients + len(self._device.openers))
        if fact.type is FactType.DISK_FAILED:
            self._disk.failed = True
        self._post(event)

    def _on_engine_died(self, error: int) -> None:
        self.died = f"the engine has died: {os.strerror(error)}"
        log.critical("%s; the device is left to the next daemon", self.died)
        self._exit.set()

    async def _prepare(self, event: events.Event) -> events.Event:
        """Look how large the disk is before the rules hear that the device may grow, and who resyncs before we do."""
        event = self._order.completed(event)
        match event:
            case events.Resize() | events.SocketsReady():
                return replace(event, backing_sectors=await self._disk.look_again())
            case events.PacketReceived(packet=Sizes()) if self._performer.state.established:
                return replace(event, backing_sectors=await self._disk.look_again())
            case _:
                return event

    async def _on_attach(self, _: Request) -> Reply:
        return await self._verbs.attach(self._open_disk)

    async def _on_detach(self, request: Request) -> Reply:
        if request.arguments.get("force") is True:
            self._disk.give_up()  # the rules may be waiting for it
        return await self._verbs.order(COMMANDS["detach"], "detach", request.arguments)

    async def _open_disk(self, token: int) -> events.Attached:
        state = self._performer.state
        event = await self._disk.attach(token, state.size_sectors if in_use(state) else 0)
        self._overview.watch_md()  # not before: a disk that hangs would hold us
        self._removal.watch(self._disk.paths)
        return event

    def _on_disk_removed(self, path: Path) -> None:
        log.error("%s was removed", path)
        self._disk.failed = True
        self._post(events.DiskFailed("removal", 0, errno.ENODEV))

    def _on_handler_ended(self, name: str, exit_code: int) -> None:
        self._post(events.HandlerEnded(name, exit_code))

    def _clients(self) -> int:
        return self._engine.counters().clients

    def _serve_device(self, fd: int, in_transmission: bool) -> None:
        self._engine.export_device(fd, in_transmission=in_transmission)

    def _on_openers(self) -> None:
        self._post(events.ClientsChanged(self._clients() + len(self._device.openers)))

    def _leave(self) -> bool:
        """End, with the device in place for the next daemon. Not while an NBD client would lose its connection."""
        if self._device.attached is None or self._clients():
            return False
        log.warning("leaving %s to the next daemon", self._device.attached.path)
        self.left = True
        self._exit.set()
        return True

    def _is_resyncing(self) -> bool:
        return self._performer.state.replication in PACED_STATES

    def _bits_set(self) -> int:
        return self._engine.counters().out_of_sync_bits

    # --- effects -----------------------------------------------------------------------------------------------------

    def _doers(self) -> dict[type, Callable[[Any], Awaitable[None]]]:
        return self._disk_doers() | self._peer_doers() | self._own_doers()

    def _disk_doers(self) -> dict[type, Callable[[Any], Awaitable[None]]]:
        engine = self._engine
        return {
            effects.PersistMetadata: self._persist,
            effects.SetSize: self._set_size,
            effects.ResizeExport: _soon(self._resize_export),
            effects.WriteBitmap: lambda _: engine.bitmap_write(),
            effects.SetAllBits: lambda _: engine.bitmap_set(0, self._size_sectors()),
            effects.ClearAllBits: lambda _: engine.bitmap_clear(0, self._size_sectors()),
            effects.FlushDisk: lambda _: engine.flush(),
            effects.DetachDisk: self._detach_disk,
            effects.KeepDisk: _soon(lambda _: engine.keep_disk()),
            effects.SetReads: _soon(lambda effect: engine.reads(effect.source.value)),
            effects.SetGate: _soon(lambda effect: engine.gate(effect.gate.value)),
            effects.OpenExport: self._open_export,
            effects.CloseExport: self._close_export,
        }

    def _peer_doers(self) -> dict[type, Callable[[Any], Awaitable[None]]]:
        engine, link, net = self._engine, self._link, self._view.resource.net
        protocol = wire_protocol(self._view)
        return {
            effects.StartListening: lambda _: link.start_listening(),
            effects.StopListening: lambda _: link.stop_listening(),
            effects.AdoptSockets: self._adopt,
            effects.DropConnection: lambda _: link.drop(),
            effects.SendPacket: lambda effect: link.send(effect.packet),
            effects.ResumeReading: _soon(lambda _: engine.peer_resume()),
            effects.Release: lambda _: engine.release(),
            effects.SetReplication: _soon(lambda effect: engine.replicate(effect.mode.value, protocol)),
            effects.SetAccept: _soon(lambda effect: engine.peer_accept(effect.accept)),
            effects.AnnounceBitmap: lambda _: engine.bitmap_announce(),
            effects.SendBitmap: lambda _: engine.bitmap_send(use_rle=net.use_rle),
            effects.StartResync: _soon(self._start_resync),
            effects.StopResync: lambda _: engine.resync_stop(),
            effects.StartVerify: _soon(self._start_verify),
            effects.LimitVerify: _soon(lambda effect: engine.verify_until(effect.stop_sector)),
            effects.StopVerify: lambda _: engine.verify_stop(),
        }

    def _own_doers(self) -> dict[type, Callable[[Any], Awaitable[None]]]:
        return {
            effects.StartTimer: _soon(self._start_timer),
            effects.StopTimer: _soon(self._stop_timer),
            effects.SetResyncing: _soon(lambda effect: self._order.publish(resyncing=effect.resyncing)),
            effects.RunHandler: _soon(lambda effect: self._handlers.start(effect.name)),
            effects.Say: _soon(self._say),
            effects.Answer: self._verbs_answer,
            effects.Exit: _soon(lambda _: self._exit.set()),
        }

    async def _verbs_answer(self, effect: effects.Answer) -> None:
        await self._verbs.on_answer(effect)

    def _size_sectors(self) -> int:
        size: int = self._performer.state.size_sectors
        return size

    async def _adopt(self, _: effects.AdoptSockets) -> None:
        # The handshake may cost us our role (call-pri-lost-after-sb), unless somebody uses the device: as of now.
        await self._device.look()
        await self._link.adopt()

    async def _detach_disk(self, effect: effects.DetachDisk) -> None:
        clean = self._performer.state.role is not Role.PRIMARY and not effect.force
        await self._disk.detach(clean=clean, force=effect.force)

    async def _set_size(self, effect: effects.SetSize) -> None:
        await self._engine.resize(effect.sectors)
        first = effect.out_of_sync_from
        if first is not None:
            await self._engine.bitmap_set(first, effect.sectors - first)

    def _resize_export(self, effect: effects.ResizeExport) -> None:
        """Grow; the kernel device in the background, for it waits for requests, which may be waiting for us."""
        self._engine.export_resize()
        self._beside(self._device.grow(effect.sectors * SECTOR_BYTES))

    async def _open_export(self, effect: effects.OpenExport) -> None:
        block_bytes = effect.block_bytes
        if self._goes_on or self._device.leftover() is not None:
            block_bytes = SECTOR_BYTES  # the last program told them something, nobody knows what
        self._goes_on = False
        self._engine.export_block(block_bytes)
        await self._engine.export_open(self._view.resource.name, read_only=False)
        for client in self._inherited.take_clients(device=False):
            self._engine.export_adopt(client)
        self._export.open(self._inherited.take_listener("export", str(self._export.path)))
        await self._device.appear(self._size_sectors() * SECTOR_BYTES, block_bytes)

    async def _close_export(self, _: effects.CloseExport) -> None:
        if not self._hand_over.under_way:
            await self._device.vanish()
            await self._export.close()
        await self._engine.export_close()

    def _start_resync(self, effect: effects.StartResync) -> None:
        self._overview.resync_begins()
        self._pacer.begin()
        self._engine.resync_start(target=effect.target, by_checksums=effect.by_checksums)

    def _start_verify(self, effect: effects.StartVerify) -> None:
        self._overview.verify_begins(effect, self._size_sectors())
        self._pacer.begin()
        self._engine.verify_start(
            source=effect.source, start_sector=effect.start_sector, stop_sector=effect.stop_sector
        )

    async def _persist(self, effect: effects.PersistMetadata) -> None:
        await self._disk.persist(effect)
        self._chronicle.persisted(effect)

    def _say(self, effect: effects.Say) -> None:
        if effect.level >= logging.ERROR:
            self._last_error = effect.sentence
        rule = f" (rule: {effect.rule})" if effect.rule else ""
        log.log(effect.level, "%s%s", effect.sentence, rule)
        self._chronicle.said(effect, self._performer.state)

    def _start_timer(self, effect: effects.StartTimer) -> None:
        self._stop_timer(effects.StopTimer(effect.name))
        loop = asyncio.get_running_loop()
        self._timers[effect.name] = loop.call_later(effect.delay_ms / 1000, self._on_timer, effect.name)

    def _stop_timer(self, effect: effects.StopTimer) -> None:
        timer = self._timers.pop(effect.name, None)
        if timer is not None:
            timer.cancel()

    def _on_timer(self, name: str) -> None:
        self._timers.pop(name, None)
        self._post(events.TimerFired(name, self._bits_set(), self._engine.counters().unstable))


def _engine_options(*, may_have_device: bool) -> Options:
    way = os.environ.get("PYDRBD_IO", "")
    if way not in IO_WAYS:
        raise StartError(f"PYDRBD_IO is {way!r}; it can be auto, uring or threads", EXIT_INVALID)
    return Options(io=IO_WAYS[way], requests=REQUESTS, pool_bytes=POOL_BYTES, lock_memory=may_have_device)


def _soon(plain: Callable[[Any], object]) -> Callable[[Any], Awaitable[None]]:
    """Make a doer of a function that is done when it returns."""

    async def doer(effect: object) -> None:
        plain(effect)

    return doer
