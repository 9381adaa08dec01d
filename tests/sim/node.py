"""One machine: the product's daemon, with the real engine and the real rules, on simulated disks and a simulated link.

The daemon is the product's own class; what touches the host (sockets, files, handlers, the admin socket) is replaced,
its effects and their order are not.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from pydrbd import config
from pydrbd.config.description import ResourceView
from pydrbd.core.binding import Binding
from pydrbd.core.engine import Options
from pydrbd.model import effects, events
from pydrbd.model.refusals import Refusal
from pydrbd.node import daemon as product
from pydrbd.node.attachment import Attachment
from pydrbd.node.backing.late import LateCalls
from pydrbd.node.daemon import Daemon, Places
from pydrbd.node.link.connector import Link
from pydrbd.node.link.peer_link import INTERNAL_TOKEN, PeerLink
from pydrbd.wire import Agreed
from sim.disks import DiskSet
from sim.world import CURRENT, PowerCutError, World

NAMES = ("castor", "pollux")
POOL_BYTES = 32 << 20
REQUESTS = 128
TEXT = """
resource r0 {{
  net {{ protocol C; {net} }}
  disk {{ {disk} }}
  device /dev/drbd0; disk /dev/sim; {meta};
  on castor {{ address 10.0.0.1:7788; }}
  on pollux {{ address 10.0.0.2:7788; }}
}}
"""


@cache
def view_of(name: str, *, al_extents: int, internal: bool, net: str = "", disk: str = "") -> ResourceView:
    """Return a resource as a node sees it. `al_extents` may be smaller than a file may say."""
    meta = "meta-disk internal" if internal else "flexible-meta-disk /dev/simmd"
    resource = config.parse(TEXT.format(net=net, disk=disk, meta=meta), "sim", lambda *_: []).resource("r0")
    view = resource.for_node(name)
    volume = view.local.volumes[0]
    small = replace(volume, options=replace(volume.options, al_extents=al_extents))
    return replace(view, local=replace(view.local, volumes=(small,)))


class _Library:
    """The compiled world as the product's binding sees it: `core_engine_new` makes an engine of this machine."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.lib, name)

    def core_engine_new(self, options: Any, out: Any) -> int:
        done: int = self._world.lib.sim_engine_new(self._world.handle, self._number, options, out)
        return done

    def core_engine_start(self, _: Any) -> int:
        return 0

    def core_engine_stop(self, _: Any) -> int:
        return 0

    def core_engine_free(self, _: Any) -> None:
        self._world.lib.sim_engine_free(self._world.handle, self._number)


class SimSocket:
    """One end of a stream that the link hands over."""

    def __init__(self, world: World, fd: int) -> None:
        self._world = world
        self.fd = fd

    def detach(self) -> int:
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        if self.fd >= 0:
            self._world.lib.sim_stream_close(self._world.handle, self.detach())


class SimLink(PeerLink):
    """Finds the peer where the wire joins the two."""

    node: "SimNode"

    def reserve(self) -> None:
        pass

    async def _connect(self) -> Link:
        return await self.node.wire.meet(self.node)


class InlineCalls(LateCalls):
    """No threads: simulated disks answer at once, or never."""

    async def run(self, body: Callable[[], Any], _: str) -> Any:
        return body()


class SimExport:
    """There while Primary; clients are handed in by the application."""

    path = Path("/sim/socket")

    def __init__(self, *_: Any) -> None:
        self.is_open = False

    def open(self, _: object = None) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


class SimDevice(product.KernelDevice):  # type: ignore[name-defined]
    """The kernel's device: there is no kernel."""

    async def appear(self, _: int, block_bytes: int = 512) -> None:
        pass

    async def vanish(self) -> None:
        pass


class SimHandlers:
    def __init__(self, *_: Any) -> None:
        self.started: list[str] = []

    def start(self, name: str) -> None:
        self.started.append(name)


class SimVerbs(product.Verbs):  # type: ignore[name-defined]
    """Answers to commands that a test gave."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waiting: dict[int, asyncio.Future[Refusal | None]] = {}

    async def on_answer(self, effect: effects.Answer) -> None:
        waiting = self.waiting.pop(effect.token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(effect.refusal)


class SimNode:
    """A machine that can lose its power, and what runs on it while it has it."""

    def __init__(self, world: World, number: int, view: ResourceView, disks: DiskSet, wire: "Wire") -> None:
        self.world = world
        self.number = number
        self.name = NAMES[number]
        self.view = view
        self.disks = disks
        self.wire = wire
        self.alive = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.daemon: Any = None
        self.token = 0
        self.boots = 0
        self.power_cut = asyncio.Event()
        self.workload: Any = None
        """The requests that were under way when it died."""
        self.clients: list[Any] = []
        """Applications on this machine: they go with it."""
        world.machines.append(self)
        wire.nodes.append(self)

    # --- life --------------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Power (if there is none), process, disk, link. Returns when the daemon is up; PowerCutError if cut before."""
        self.power_on()
        self.power_cut.clear()
        self.alive = True
        self.boots += 1
        self.world.say(f"{self.name}: boots")
        try:
            await self._in_machine(self._start())
        except asyncio.CancelledError:
            if self.alive:
                raise
            raise PowerCutError from None

    def power_on(self) -> None:
        """Give it its power back; nothing runs yet."""
        if self.world.lib.sim_is_dead(self.world.handle, self.number):
            self.world.lib.sim_power_on(self.world.handle, self.number)

    async def _in_machine(self, coroutine: Any) -> Any:
        token = CURRENT.set(self)
        try:
            task = asyncio.ensure_future(coroutine)
        finally:
            CURRENT.reset(token)
        return await task

    async def _start(self) -> None:
        self.daemon = self._new_daemon()
        self.daemon._engine.start(self.daemon._on_fact)
        self.on_facts = self.daemon._engine._drain
        performing = asyncio.ensure_future(self.daemon._performer.run())
        performing.add_done_callback(self._performer_ended)
        await self.daemon._settle(await self.daemon._disk.attach(), performing)
        assert self.state.has_disk, f"{self.name}: the disk was refused: {self.daemon._last_error}"
        await self.daemon._settle(events.Connect(INTERNAL_TOKEN), performing)

    def _new_daemon(self) -> Any:
        world = self.world
        library = _Library(world, self.number)

        def attachment(view: ResourceView, engine: Any, state_dir: Path) -> Attachment:
            disk = Attachment(view, engine, state_dir, self.disks.open, world.new_uuid)
            disk._place = self.disks.place
            disk._late = InlineCalls(0)
            return disk

        def link(*args: Any) -> SimLink:
            made = SimLink(*args)
            made.node = self
            return made

        with mock.patch.multiple(
            product,
            PeerLink=link,
            Attachment=attachment,
            ExportSocket=SimExport,
            Handlers=SimHandlers,
            KernelDevice=SimDevice,
            Chronicle=mock.Mock(),  # keeps books for people; nothing here reads them
            GenerationBooks=mock.Mock(),
            Verbs=SimVerbs,
            AdminSocket=SimExport,
            new_uuid=world.new_uuid,
            step=self._step,
            _engine_options=lambda **_: Options(requests=REQUESTS, pool_bytes=POOL_BYTES),
        ):
            return Daemon(self.view, Places(Path("/sim"), Path("/sim"), Path("/sim")), Binding(world.ffi, library))

    def _step(self, state: Any, event: Any, now_ms: int) -> Any:
        """Ask the rules; the trace hears of it."""
        after, todo = _rules(state, event, now_ms)
        if self.world.tracing:
            self.world.say(f"{self.name}: {event!r}")
            for effect in todo:
                self.world.say(f"{self.name}:   -> {effect!r}")
        return after, todo

    def _performer_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or not self.alive:
            return
        error = task.exception()
        if isinstance(error, PowerCutError):
            return
        self.world.failure = self.world.failure or error

    def on_facts(self) -> None:
        """Replaced at each boot."""

    def on_power_cut(self) -> None:
        """The power has failed: nothing that ran here goes on."""
        self._end()
        self.power_cut.set()

    def kill(self) -> None:
        """Kill the process, as kill -9 does: the kernel keeps what was written, and closes the sockets."""
        self.world.say(f"{self.name}: is killed")
        self._end()
        self.disks.settle()

    async def restart(self) -> None:
        """Replace the program of a Primary, as `pydrbd restart` does: its clients keep their connections."""
        self.world.say(f"{self.name}: is restarted")
        parked = await self.unless_cut(self._in_machine(self.daemon._engine.export_park()))
        assert parked
        self.daemon._hand_over.under_way = True
        assert await self.command(events.Down, force=True) is None
        for each in parked:
            self.world.lib.sim_stream_keep(self.world.handle, each.fd, 1)
        for task in list(self.tasks):
            task.cancel()
        self.wire.leave(self)
        self.daemon._engine._engine = None
        self.world.lib.sim_engine_free(self.world.handle, self.number)
        self.disks.settle()
        await self.boot()
        # It waits a moment for its peer, as `kernel.take_over` does.
        with contextlib.suppress(TimeoutError):
            await self.until(lambda state: state.established, 1.0)
        assert await self.command(events.Promote, new_uuid=self.world.new_uuid()) is None
        for each in parked:
            self.world.lib.sim_stream_keep(self.world.handle, each.fd, 0)
            self.daemon._engine.export_adopt(each)

    def cut_power(self) -> None:
        """Cut it now."""
        self.world.lib.sim_cut_now(self.world.handle, self.number)
        self.on_power_cut()

    def _end(self) -> None:
        self.alive = False
        for client in self.clients:
            client.close()
        self.clients.clear()
        for task in list(self.tasks):
            task.cancel()
        self.wire.leave(self)
        if self.daemon is not None:
            self.daemon._engine._engine = None
        self.world.lib.sim_engine_free(self.world.handle, self.number)

    # --- what a person or a test asks --------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        return self.daemon._performer.state

    @property
    def counters(self) -> Any:
        return self.daemon._engine.counters()

    @property
    def bits_set(self) -> int:
        bits: int = self.counters.out_of_sync_bits
        return bits

    async def command(self, make: Callable[..., Any], **fields: Any) -> Refusal | None:
        """Give the rules a command; return the refusal, None for done. PowerCutError if the machine dies meanwhile."""
        self.token += 1
        answer: asyncio.Future[Refusal | None] = self.world.loop.create_future()
        self.daemon._verbs.waiting[self.token] = answer
        self.daemon._post(make(self.token, **fields))
        return await self.unless_cut(answer)

    async def unless_cut(self, future: Any) -> Any:
        """Return the future's result, or raise PowerCutError if the power fails before."""
        wanted = asyncio.ensure_future(future)
        cut = asyncio.ensure_future(self.power_cut.wait())
        try:
            await asyncio.wait({wanted, cut}, return_when=asyncio.FIRST_COMPLETED)
            if cut.done():
                raise PowerCutError
            return wanted.result()
        finally:
            cut.cancel()
            wanted.cancel()

    async def until(self, condition: Callable[[Any], bool], timeout_s: float = 120.0) -> None:
        """Return when the rules' state fulfils a condition; raise TimeoutError after so long in the world's time."""
        async with asyncio.timeout(timeout_s):
            while self.has_power and not condition(self.state):
                await self.unless_cut(self.daemon._performer._next_change())
        if not self.has_power:
            raise PowerCutError  # what the rules thought last never became true

    @property
    def has_power(self) -> bool:
        return self.alive and not self.world.lib.sim_is_dead(self.world.handle, self.number)


_rules = product.step


class Wire:
    """What joins the two machines. Two nodes that look for each other find each other while it is whole."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.whole = True
        self.silent = False
        """A cut that nobody was told of may still be unnoticed."""
        self.nodes: list[SimNode] = []
        self.waiting: dict[int, asyncio.Future[Link]] = {}
        self.streams: list[tuple[int, int]] = []
        """The ends of the connection in force: data and meta, (castor's, pollux's)."""

    def peer_of(self, node: SimNode) -> SimNode:
        return self.nodes[1 - node.number]

    async def meet(self, node: SimNode) -> Link:
        place: asyncio.Future[Link] = self.world.loop.create_future()
        self.waiting[node.number] = place
        self._try()
        try:
            return await place
        finally:
            if self.waiting.get(node.number) is place:
                del self.waiting[node.number]

    def leave(self, node: SimNode) -> None:
        """The machine died."""
        self.waiting.pop(node.number, None)

    def _try(self) -> None:
        if self.whole and len(self.waiting) == 2:
            self.world.loop.call_later(0.002, self._join)

    def _join(self) -> None:
        if not self.whole or len(self.waiting) < 2 or any(place.done() for place in self.waiting.values()):
            return
        self.streams = [self._stream(), self._stream()]
        resolver = self.world.random.randrange(2)
        for number, place in list(self.waiting.items()):
            data, meta = (SimSocket(self.world, ends[number]) for ends in self.streams)
            place.set_result(Link(data, meta, Agreed(), number == resolver))  # type: ignore[arg-type]
        self.waiting.clear()

    def _stream(self) -> tuple[int, int]:
        ends = self.world.ffi.new("int32_t[2]")
        assert self.world.lib.sim_stream_new(self.world.handle, 0, 1, ends) == 0
        return ends[0], ends[1]

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, *, tell: bool = True, directions: tuple[int, ...] = (0, 1)) -> None:
        """Cut the link, each direction somewhere in what is under way; nobody is told unless `tell`."""
        self.whole = False
        lib, world = self.world.lib, self.world.handle
        for ends in self.streams:
            for direction in directions:
                if not lib.sim_stream_exists(world, ends[direction]):
                    continue
                under_way = lib.sim_stream_under_way(world, ends[direction])
                lib.sim_stream_cut(world, ends[direction], self.world.random.randint(0, under_way))
        if tell:
            self.reset()
        else:
            self.silent = True

    def reset(self) -> None:
        """Both ends of the connection in force hear that it is gone."""
        for ends in self.streams:
            for end in ends:
                if self.world.lib.sim_stream_exists(self.world.handle, end):
                    self.world.lib.sim_stream_tell(self.world.handle, end)

    def heal(self) -> None:
        self.whole = True
        self._try()
