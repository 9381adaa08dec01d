"""How fast a resync may go: a pure function of what came in, what is in flight, and whether applications are at work.

Called every `STEP_MS`. Two numbers come out: a rate, and how much may be in flight at once. As in DRBD (facts 2.12)
the amount in flight is held at `c-fill-target`, or at what comes in during `c-delay-target`; corrections are spread
over `c-plan-ahead`; `c-max-rate` is never exceeded, and `resync-rate` is where it begins, or the fixed rate if
`c-plan-ahead` is 0. While the pipe is clearly not full the rate doubles, so that a resync is at full speed after a few
steps.

While applications are at work little is in flight, so that none of their requests waits behind much of the resync, and
the rate is at most `YIELD_RATE_KIB_S`: between two blocks both nodes have time for a write. Where `c-min-rate` is more
than that, it is the rate; if less is made than `c-min-rate`, more is let into flight until it is. Knows no clock and no
engine; rates are KiB/s, amounts are sectors of 512 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

STEP_MS = 100
BUSY_STEPS = 10
"""Applications count as at work for so many steps after their last request: the next one must find the pipe empty."""
LISTEN_STEPS = 2
"""At first nobody knows yet whether applications are at work: for so long they are taken to be."""
YIELD_SECTORS = 128
"""In flight while applications are at work: one block of 64 KiB."""
YIELD_RATE_KIB_S = 100 * 1024
"""At most, while applications are at work: what DRBD 8.4 never exceeds by default."""
SECTORS_PER_KIB = 2
STEPS_PER_S = 1000 // STEP_MS


@dataclass(frozen=True, slots=True)
class Limits:
    """The options. `max_rate_kib_s` 0 is no limit; `min_rate_kib_s` 0: applications are not given way to."""

    resync_rate_kib_s: int = 250
    plan_ahead_ms: int = 2000
    fill_target_sectors: int = 4096
    delay_target_ms: int = 1000
    max_rate_kib_s: int = 1 << 20
    min_rate_kib_s: int = 4096
    max_in_flight_sectors: int = 8192
    """Half of `max-buffers`: the rest is for what applications write."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen during the last step."""

    came_in_sectors: int = 0
    in_flight_sectors: int = 0
    application_requests: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """What the engine shall do. A rate of 0 is no limit."""

    rate_kib_s: int
    in_flight_sectors: int


@dataclass(frozen=True, slots=True)
class Controller:
    """What is remembered from step to step."""

    limits: Limits
    plan: tuple[int, ...] = ()
    """Corrections for the steps to come, in sectors; the first is due next."""
    quiet_steps: int = BUSY_STEPS
    """Steps since an application asked for something."""
    yield_sectors: int = YIELD_SECTORS


def begin(limits: Limits) -> tuple[Controller, Pace]:
    """Start a resync: carefully, so that a write that is under way does not wait behind a full pipe."""
    steps = max(limits.plan_ahead_ms // STEP_MS, 1)
    controller = Controller(limits, plan=(0,) * steps, quiet_steps=BUSY_STEPS - LISTEN_STEPS)
    ask = max(_per_step(limits.resync_rate_kib_s), limits.fill_target_sectors)
    pace = _pace(limits, ask, _wanted(limits, ask)) if limits.plan_ahead_ms else _fixed(limits)
    return controller, _restrained(limits, pace, YIELD_SECTORS) if _gives_way(controller) else pace


def step(controller: Controller, sample: Sample) -> tuple[Controller, Pace]:
    """Return the pace of the next step."""
    limits = controller.limits
    if limits.plan_ahead_ms:
        controller, pace = _planned(controller, sample)
    else:
        pace = _fixed(limits)
    return _give_way(controller, sample, pace)


def _planned(controller: Controller, sample: Sample) -> tuple[Controller, Pace]:
    limits, plan = controller.limits, controller.plan
    wanted = _wanted(limits, sample.came_in_sectors)
    if 4 * sample.in_flight_sectors < 3 * wanted and not _gives_way(controller):
        ask = max(2 * sample.came_in_sectors, wanted)
        return replace(controller, plan=(0,) * len(plan)), _pace(limits, ask, wanted)
    correction = wanted - sample.in_flight_sectors - sum(plan)
    each = int(correction / len(plan))
    due = plan[0] + each
    plan = (*(planned + each for planned in plan[1:]), 0)
    return replace(controller, plan=plan), _pace(limits, sample.came_in_sectors + due, wanted)


def _wanted(limits: Limits, came_in_sectors: int) -> int:
    """How much should be in flight."""
    wanted = limits.fill_target_sectors or came_in_sectors * limits.delay_target_ms // STEP_MS
    return min(max(wanted, YIELD_SECTORS), limits.max_in_flight_sectors)


def _pace(limits: Limits, ask_sectors: int, wanted: int) -> Pace:
    # Never so slow that it stands still: it could not see any more that the pipe has become free.
    rate = max(ask_sectors, YIELD_SECTORS) * STEPS_PER_S // SECTORS_PER_KIB
    rate = min(rate, limits.max_rate_kib_s) if limits.max_rate_kib_s else rate
    return Pace(rate, min(2 * wanted, limits.max_in_flight_sectors))


def _fixed(limits: Limits) -> Pace:
    """Return the pace of a fixed rate: a second's worth may be in flight."""
    window = max(limits.resync_rate_kib_s * SECTORS_PER_KIB, YIELD_SECTORS)
    return Pace(limits.resync_rate_kib_s, min(window, limits.max_in_flight_sectors))


def _gives_way(controller: Controller) -> bool:
    return controller.quiet_steps < BUSY_STEPS and controller.limits.min_rate_kib_s > 0


def _give_way(controller: Controller, sample: Sample, pace: Pace) -> tuple[Controller, Pace]:
    limits = controller.limits
    quiet_steps = 0 if sample.application_requests else min(controller.quiet_steps + 1, BUSY_STEPS)
    gave_way = _gives_way(controller)
    controller = replace(controller, quiet_steps=quiet_steps)
    if not _gives_way(controller):
        return replace(controller, yield_sectors=YIELD_SECTORS), pace
    allowed = controller.yield_sectors
    floor = _per_step(min(limits.min_rate_kib_s, pace.rate_kib_s))
    if gave_way and sample.came_in_sectors < floor:
        allowed *= 2
    elif sample.came_in_sectors > 2 * floor:
        allowed //= 2
    allowed = min(max(allowed, YIELD_SECTORS), pace.in_flight_sectors)
    return replace(controller, yield_sectors=allowed), _restrained(limits, pace, allowed)


def _restrained(limits: Limits, pace: Pace, in_flight_sectors: int) -> Pace:
    lowest = min(limits.min_rate_kib_s, limits.max_rate_kib_s or limits.min_rate_kib_s)
    return Pace(max(min(pace.rate_kib_s, YIELD_RATE_KIB_S), lowest), in_flight_sectors)


def _per_step(rate_kib_s: int) -> int:
    """Return a rate in sectors per step."""
    return rate_kib_s * SECTORS_PER_KIB // STEPS_PER_S
