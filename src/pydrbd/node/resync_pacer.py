"""Tells the engine how fast to resync, every 100 ms while a resync runs: counters in, an order out.

What to order is the controller's to say (`pydrbd.state.resync_controller`); this keeps its time and its sums. As source
only the amount in flight counts: how many blocks are read and sent at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pydrbd.config.description import ResourceView
from pydrbd.core.engine import Counters
from pydrbd.state.resync_controller import STEP_MS, Controller, Limits, Pace, Sample, begin, step

SECTORS_PER_PAGE = 8


def limits_of(view: ResourceView) -> Limits:
    """Return what the configuration says about the speed of a resync."""
    disk = view.local.volumes[0].options
    return Limits(
        resync_rate_kib_s=disk.resync_rate_kib_per_s,
        plan_ahead_ms=disk.c_plan_ahead_ms,
        fill_target_sectors=disk.c_fill_target_sectors,
        delay_target_ms=disk.c_delay_target_ms,
        max_rate_kib_s=disk.c_max_rate_kib_per_s,
        min_rate_kib_s=disk.c_min_rate_kib_per_s,
        max_in_flight_sectors=view.resource.net.max_buffers_pages * SECTORS_PER_PAGE // 2,
    )


class ResyncPacer:
    """One resource's. `order` is `Engine.resync_rate`; `is_running` says whether a resync is under way."""

    def __init__(
        self,
        limits: Limits,
        counters: Callable[[], Counters],
        order: Callable[[int, int], None],
        is_running: Callable[[], bool],
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._order = order
        self._is_running = is_running
        self._controller: Controller | None = None
        self._seen = Counters()
        self._ordered: Pace | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Order the pace of the first step, before the resync starts; go on by itself until it has ended."""
        self._controller, pace = begin(self._limits)
        self._seen = self._counters()
        self._ordered = None
        self._give(pace)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._keep_pace())

    def tick(self) -> None:
        """Look at the last step and order the pace of the next."""
        if self._controller is None:
            return
        now, before = self._counters(), self._seen
        self._seen = now
        sample = Sample(
            # The engine counts anew when a resync starts.
            came_in_sectors=max(now.resync_sectors - before.resync_sectors, 0),
            in_flight_sectors=now.resync_in_flight_sectors,
            application_requests=now.application_requests - before.application_requests,
        )
        self._controller, pace = step(self._controller, sample)
        self._give(pace)

    def adjust(self, limits: Limits) -> None:
        """Go by other limits: at once if a resync runs, as if it began now."""
        self._limits = limits
        if self._controller is not None and self._is_running():
            self._controller, pace = begin(limits)
            self._give(pace)

    def stop(self) -> None:
        """Give no more orders."""
        if self._task is not None:
            self._task.cancel()

    async def _keep_pace(self) -> None:
        while self._is_running():
            await asyncio.sleep(STEP_MS / 1000)
            self.tick()

    def _give(self, pace: Pace) -> None:
        if pace != self._ordered:
            self._order(pace.rate_kib_s, pace.in_flight_sectors)
            self._ordered = pace
