"""Events in, rules asked, effects done: strictly one after another, from one queue.

What must hold:

- An effect is finished before the next begins; an event's effects are finished before the next event is looked at. So
  the order in which the rules wrote them is the order in which they become true.
- When a `PersistMetadata` (or writing the bitmap) fails, the rest of its list is dropped and `MetadataFailed`, which
  carries it, is the next event, before all that wait.
- One exception: closing the export waits for writes that are held until the rules have dealt with the loss of the peer,
  a failed disk, a first write, the word of a handler, or `resume-io`. Such an event is dealt with inside; what is left
  of the outer list then skips every order that a newer list has overtaken, a superblock above all.

It knows how to queue, not how to do: each kind of effect has a doer in the table that it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydrbd.model import effects, events
from pydrbd.model.effects import Effect
from pydrbd.model.events import Event
from pydrbd.ondisk.errors import OnDiskError

log = logging.getLogger(__name__)

Doer = Callable[[Any], Awaitable[None]]
Preparer = Callable[[Event], Awaitable[Event]]
Step = Callable[[Any, Event, int], tuple[Any, Sequence[Effect]]]

SLOW_S = 10.0
"""An effect that takes longer is named in the log, and again each time that it has taken as long again."""
_METADATA = (
    effects.PersistMetadata,
    effects.SetSize,
    effects.WriteBitmap,
    effects.SetAllBits,
    effects.ClearAllBits,
)
_OVERTAKEN = (
    effects.PersistMetadata,
    effects.SetReplication,
    effects.SetReads,
    effects.SetGate,
    effects.SetAccept,
    effects.SetResyncing,
    effects.StartListening,
    effects.StopListening,
)
"""Orders of which the newest counts."""
_HOLDING = (
    events.PeerLost,
    events.FirstWriteHeld,
    events.DiskFailed,
    events.PeerDiskFailed,
    events.HandlerEnded,
    events.SuspendIo,
)
"""Events until which the engine holds writes."""
_OF_A_CONNECTION = (events.PacketReceived, events.BitmapReceived)


class Performer:
    """Carries the rules' orders out."""

    def __init__(
        self,
        state: Any,  # noqa: ANN401
        step: Step,
        doers: Mapping[type, Doer],
        prepare: Preparer | None = None,
    ) -> None:
        """`doers` has a coroutine function for every class of effect.

        `prepare` completes an event just before the rules get it; what it raises is a failure of the metadata.
        """
        self._prepare = prepare
        self.state = state
        self._step = step
        self._doers = doers
        self._queue: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        """Set while an event that holds writes waits in the queue."""
        self._watchers: set[asyncio.Event] = set()
        self._busy = 0
        self._list_number = 0
        self._newest: dict[type, int] = {}

    def post(self, event: Event) -> None:
        """Put an event behind those that wait."""
        self._queue.append(event)
        self._arrived.set()
        self._note_urgent()

    async def run(self) -> None:
        """Deal with events for ever. What a doer raises, other than `OSError` and the room's own errors, ends it."""
        while True:
            await self._arrived.wait()
            if not self._queue:
                self._arrived.clear()
                continue
            event = self._queue.popleft()
            self._note_urgent()
            await self._deal_with(event)

    async def settle(self) -> None:
        """Return when no event waits and none is dealt with; for the daemon's start and for tests."""
        while self._queue or self._busy:
            await self._next_change()

    async def wait_until(self, condition: Callable[[Any], bool]) -> None:
        """Return once `condition(state)` holds; it is asked after every event."""
        while not condition(self.state):
            await self._next_change()

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _next_change(self) -> None:
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            await changed.wait()
        finally:
            self._watchers.discard(changed)

    async def _deal_with(self, event: Event) -> None:
        self._busy += 1
        try:
            if self._prepare is not None:
                event = await self._prepared(event, self._prepare)
            now_ms = int(asyncio.get_running_loop().time() * 1000)
            self.state, todo = self._step(self.state, event, now_ms)
            log.debug("%r: %r", event, todo)
            self._list_number += 1
            await self._perform(todo, self._list_number)
        finally:
            self._busy -= 1
            for watcher in self._watchers:
                watcher.set()

    async def _prepared(self, event: Event, prepare: Preparer) -> Event:
        try:
            return await prepare(event)
        except (OSError, OnDiskError) as error:
            log.error("the disk could not be prepared: %s", error)
            self._queue.appendleft(events.MetadataFailed(str(error)))
            self._arrived.set()
            return event

    async def _perform(self, todo: Sequence[Effect], number: int) -> None:
        for position, effect in enumerate(todo):
            kind = type(effect)
            if kind in _OVERTAKEN and self._newest.get(kind, 0) > number:
                log.debug("overtaken by a newer order: %r", effect)
                continue
            self._newest[kind] = number
            try:
                if isinstance(effect, effects.CloseExport):
                    await self._close_export(effect)
                else:
                    await self._do(effect)
            except (OSError, OnDiskError) as error:
                if isinstance(effect, _METADATA):
                    log.error("%s failed: %s", kind.__name__, error)
                    failed = events.MetadataFailed(str(error), dropped=tuple(todo[position + 1 :]))
                    self._queue.appendleft(failed)
                    self._arrived.set()
                    return
                log.error("%s failed: %s", kind.__name__, error)

    async def _do(self, effect: Effect) -> None:
        doing = asyncio.ensure_future(self._doers[type(effect)](effect))
        try:
            while not doing.done():
                done, _ = await asyncio.wait({doing}, timeout=SLOW_S)
                if not done:
                    log.warning("%s has not finished yet", type(effect).__name__)
            doing.result()
        finally:
            doing.cancel()

    async def _close_export(self, effect: effects.CloseExport) -> None:
        """Close the export; deal inside with what holds its last writes, for they must end first."""
        closing = asyncio.ensure_future(self._do(effect))
        try:
            while not closing.done():
                urgent = asyncio.ensure_future(self._urgent.wait())
                await asyncio.wait({closing, urgent}, return_when=asyncio.FIRST_COMPLETED)
                urgent.cancel()
                if not closing.done():
                    await self._deal_with(self._take_urgent())
            closing.result()
        finally:
            closing.cancel()

    def _take_urgent(self) -> Event:
        """Take the first event that holds writes out of the queue.

        Packets of a connection that is lost go with it: they mean nothing any more.
        """
        position, urgent = next(
            (index, event) for index, event in enumerate(self._queue) if isinstance(event, _HOLDING)
        )
        before, after = list(self._queue)[:position], list(self._queue)[position + 1 :]
        if isinstance(urgent, events.PeerLost):
            before = [event for event in before if not isinstance(event, _OF_A_CONNECTION)]
        self._queue = deque(before + after)
        self._note_urgent()
        return urgent

    def _note_urgent(self) -> None:
        if any(isinstance(event, _HOLDING) for event in self._queue):
            self._urgent.set()
        else:
            self._urgent.clear()
