"""The simulated world from Python's side: its event loop, which is asyncio's with the world's time, and its waits.

Everything runs in one thread: when no callback is ready, the loop lets the world go on (`sim_run`) until an engine has
facts, a client's stream has bytes, a timer is due, or a machine loses its power. Coroutines that begin in a machine's
context belong to it and end with its power.

All chance comes from one seed. `World.trace` returns what happened, in order.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from sim.build_sim import build, load

NEVER = (1 << 64) - 1
SPIN_MAX = 200_000
TRACE_MAX = 400_000


class PowerCutError(BaseException):
    """The machine on which this ran has lost its power."""


class StuckError(AssertionError):
    """Nothing will ever happen again, or nothing but the same for ever."""


class Machine(Protocol):
    """What the loop knows of a machine: its number, its tasks, and who drains its facts."""

    number: int
    alive: bool
    tasks: dict[asyncio.Task[Any], None]

    def on_facts(self) -> None: ...

    def on_power_cut(self) -> None: ...


CURRENT: ContextVar[Machine | None] = ContextVar("machine", default=None)


@dataclass(frozen=True, slots=True)
class Chance:
    """How long things take, in nanoseconds of the world, and how unevenly."""

    disk_ns: tuple[int, int] = (20_000, 120_000)
    wire_ns: tuple[int, int] = (30_000, 60_000)
    facts_ns: int = 0
    short_transfers: bool = False


_module: Any = None


def module() -> Any:
    """Return the compiled world, built if need be."""
    global _module  # noqa: PLW0603 - a compiled module is loaded once
    if _module is None:
        _module = load(build())
    return _module


class World:
    """One run."""

    def __init__(self, seed: int, chance: Chance | None = None, *, tracing: bool = False) -> None:
        chance = chance or Chance()
        self.seed = seed
        self.random = random.Random(seed)
        self.ffi, self.lib = module().ffi, module().lib
        options = self.ffi.new(
            "struct sim_options *",
            {
                "seed": seed & NEVER,
                "disk_ns_min": chance.disk_ns[0],
                "disk_ns_max": chance.disk_ns[1],
                "wire_ns_min": chance.wire_ns[0],
                "wire_ns_max": chance.wire_ns[1],
                "facts_ns_max": chance.facts_ns,
                "short_transfers": int(chance.short_transfers),
            },
        )
        out = self.ffi.new("sim_world **")
        assert self.lib.sim_world_new(options, out) == 0
        self.handle = out[0]
        self.machines: list[Machine] = []
        self.listeners: list[Callable[[], None]] = []
        """Called whenever a stream's outer end has something."""
        self.failure: BaseException | None = None
        self.tracing = tracing
        self._lines: list[str] = []
        self._digest = hashlib.sha256()
        self.lib.sim_trace(self.handle, int(tracing))
        self.loop = WorldLoop(self)

    @property
    def now_ns(self) -> int:
        now: int = self.lib.sim_now_ns(self.handle)
        return now

    def new_uuid(self) -> int:
        """Draw an identifier as a node does."""
        return self.random.getrandbits(63) << 1 | 1 << 32

    def run(self, main: Any) -> Any:
        """Run the script of a scenario to its end, and raise what went wrong on any machine meanwhile."""
        asyncio.set_event_loop(None)
        result = self.loop.run_until_complete(main)
        if self.failure is not None:
            raise self.failure
        return result

    def close(self) -> None:
        """Free everything. Tasks that still run are ended."""
        for machine in self.machines:
            machine.alive = False
        tasks = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        for task in tasks:
            task.cancel()
        self.loop.closing = True
        with contextlib.suppress(BaseException):
            self.loop.run_until_complete(_gather(tasks))
        for machine in self.machines:
            self.lib.sim_engine_free(self.handle, machine.number)
        self.loop.close()
        self.lib.sim_world_free(self.handle)

    # --- the trace ---------------------------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Add a line of the control plane's to the trace."""
        if self.tracing:
            self._take_lines()
            self._lines.append(f"{self.now_ns / 1e9:12.6f} {line}")

    def trace(self) -> str:
        """Return everything that happened so far."""
        self._take_lines()
        return "\n".join(self._lines)

    def _take_lines(self) -> None:
        text = self.ffi.string(self.lib.sim_trace_take(self.handle)).decode()
        if text:
            self._lines.extend(text.splitlines())
            del self._lines[:-TRACE_MAX]


async def _gather(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


class WorldLoop(asyncio.BaseEventLoop):
    """asyncio in the world's time. `add_reader` watches engines' facts: the descriptor is only a name."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.closing = False
        self._selector = self
        self._clock_resolution = 1e-9
        self._readers: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._spins = 0
        self.set_task_factory(_new_task)
        self.set_exception_handler(self._on_exception)

    def time(self) -> float:
        return self.world.now_ns / 1e9

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        machine = CURRENT.get()
        if machine is not None:
            callback = _while_alive(machine, callback)
        return super().call_at(when, callback, *args, context=context)

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self._readers[fd] = (callback, args)

    def remove_reader(self, fd: int) -> bool:
        return self._readers.pop(fd, None) is not None

    def select(self, timeout: float | None) -> list[Callable[[], None]]:
        """Let the world go on until something concerns us."""
        world = self.world
        if world.failure is not None and not self.closing:
            raise world.failure
        if timeout == 0:
            self._spins += 1
            if self._spins > SPIN_MAX:
                raise StuckError("the control plane is busy for ever")
            return []
        self._spins = 0
        if self.closing:
            return []
        until = NEVER if timeout is None else world.now_ns + int(timeout * 1e9) + 1
        return self._after(world.lib.sim_run(world.handle, until))

    def _after(self, stop: int) -> list[Callable[[], None]]:
        world, lib = self.world, self.world.lib
        if stop == lib.SIM_IDLE:
            raise StuckError("nothing will ever happen again")
        if stop == lib.SIM_LIVELOCK:
            raise StuckError("an engine turns for ever")
        if stop == lib.SIM_CUT:
            return [
                one.on_power_cut for one in world.machines if one.alive and lib.sim_is_dead(world.handle, one.number)
            ]
        if stop == lib.SIM_FACTS:
            return [one.on_facts for one in world.machines if one.alive and lib.sim_has_facts(world.handle, one.number)]
        if stop == lib.SIM_READABLE:
            return list(world.listeners)
        return []

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for callback in event_list:
            self.call_soon(callback)

    def _write_to_self(self) -> None:
        pass

    def _on_exception(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.closing or isinstance(error, PowerCutError | asyncio.CancelledError):
            return
        if self.world.failure is None:
            self.world.failure = error or AssertionError(context["message"])


def _new_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, **more)
    machine = CURRENT.get()
    if machine is not None:
        machine.tasks[task] = None
        task.add_done_callback(lambda done: machine.tasks.pop(done, None))
    return task


def _while_alive(machine: Machine, callback: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any) -> None:
        if machine.alive:
            callback(*args)

    return guarded
