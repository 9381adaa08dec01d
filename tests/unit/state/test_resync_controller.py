"""The resync controller against a simulated pipe: what comes in, how much stands in it, how soon it is full."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest

from pydrbd.state.resync_controller import (
    SECTORS_PER_KIB,
    STEP_MS,
    STEPS_PER_S,
    YIELD_RATE_KIB_S,
    YIELD_SECTORS,
    Controller,
    Limits,
    Pace,
    Sample,
    begin,
    step,
)

MIB = 1024
"""In KiB."""


@dataclass
class Pipe:
    """Blocks go in at the ordered rate, wait for their turn at the narrowest place, and come out a delay later.

    Time passes in milliseconds, the controller is asked every 100.
    """

    width_kib_s: int
    delay_ms: int
    in_flight: float = 0.0
    standing: float = 0.0
    """In front of the narrowest place."""
    budget: float = 0.0
    under_way: deque[tuple[int, float]] = field(default_factory=deque)
    now_ms: int = 0
    fullest: float = 0.0

    def pass_step(self, pace: Pace) -> int:
        """Let a step pass; return what came in."""
        came_in = 0.0
        for _ in range(STEP_MS):
            self.now_ms += 1
            self.budget = min(self.budget, 0) + pace.rate_kib_s * SECTORS_PER_KIB / 1000
            while self.budget > 0 and self.in_flight < pace.in_flight_sectors:
                block = max(pace.in_flight_sectors // 4, YIELD_SECTORS)
                self.in_flight += block
                self.standing += block
                self.budget -= block
            passes = min(self.standing, self.width_kib_s * SECTORS_PER_KIB / 1000)
            self.standing -= passes
            self.under_way.append((self.now_ms + self.delay_ms, passes))
            while self.under_way and self.under_way[0][0] <= self.now_ms:
                arrives = self.under_way.popleft()[1]
                self.in_flight -= arrives
                came_in += arrives
            self.fullest = max(self.fullest, self.in_flight)
        return int(came_in)


@dataclass
class Run:
    """A resync through a pipe."""

    limits: Limits
    pipe: Pipe
    application_requests: int = 0
    controller: Controller = field(init=False)
    pace: Pace = field(init=False)
    came_in: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller, self.pace = begin(self.limits)

    def steps(self, count: int) -> list[int]:
        for _ in range(count):
            came_in = self.pipe.pass_step(self.pace)
            self.came_in.append(came_in)
            sample = Sample(came_in, int(self.pipe.in_flight), self.application_requests)
            self.controller, self.pace = step(self.controller, sample)
        return self.came_in[-count:]

    def rate_kib_s(self, seconds: int) -> float:
        return sum(self.steps(seconds * STEPS_PER_S)) / SECTORS_PER_KIB / seconds


@pytest.mark.parametrize("width_mib_s", [1, 10, 100, 400])
@pytest.mark.parametrize("delay_ms", [1, 5])
def test_the_pipe_is_in_full_use_after_a_second(width_mib_s: int, delay_ms: int) -> None:
    run = Run(Limits(), Pipe(width_mib_s * MIB, delay_ms))
    run.steps(10)
    # What c-fill-target keeps busy: 2 MiB, of which each MiB is under way for `delay_ms`.
    possible_mib_s = min(width_mib_s, 0.7 * 2 / (delay_ms / 1000))
    assert run.rate_kib_s(5) >= 0.9 * possible_mib_s * MIB


def test_a_narrow_pipe_never_holds_much_more_than_the_target() -> None:
    limits = Limits(fill_target_sectors=1024)
    run = Run(limits, Pipe(2 * MIB, 5))
    run.steps(300)
    assert run.pipe.fullest <= 2.5 * limits.fill_target_sectors
    held: list[float] = []
    for _ in range(100):
        run.steps(1)
        held.append(run.pipe.in_flight)
    assert 0.4 * limits.fill_target_sectors <= sum(held) / len(held) <= 1.6 * limits.fill_target_sectors


def test_without_a_fill_target_the_delay_of_a_request_is_held() -> None:
    run = Run(Limits(fill_target_sectors=0, delay_target_ms=300), Pipe(5 * MIB, 5))
    run.steps(200)
    delay_ms = run.pipe.in_flight / SECTORS_PER_KIB / (5 * MIB) * 1000
    assert 100 <= delay_ms <= 700
    assert run.rate_kib_s(3) >= 0.9 * 5 * MIB


def test_the_highest_rate_is_kept() -> None:
    run = Run(Limits(max_rate_kib_s=20 * MIB), Pipe(500 * MIB, 1))
    run.steps(20)
    assert 0.9 * 20 * MIB <= run.rate_kib_s(5) <= 1.05 * 20 * MIB


def test_without_a_plan_the_rate_is_fixed() -> None:
    run = Run(Limits(plan_ahead_ms=0, resync_rate_kib_s=3 * MIB), Pipe(500 * MIB, 1))
    assert 0.95 * 3 * MIB <= run.rate_kib_s(10) <= 1.1 * 3 * MIB


def test_a_pipe_that_becomes_free_is_used_again() -> None:
    run = Run(Limits(), Pipe(1 * MIB, 1))
    run.steps(50)
    run.pipe.width_kib_s = 200 * MIB
    run.steps(30)
    assert run.rate_kib_s(2) >= 0.9 * 200 * MIB


def test_a_resync_begins_as_if_applications_were_at_work() -> None:
    run = Run(Limits(), Pipe(400 * MIB, 1), application_requests=50)
    assert run.pace == Pace(run.pace.rate_kib_s, YIELD_SECTORS)
    run.steps(5)
    assert run.pipe.fullest <= 2 * YIELD_SECTORS
    alone = Run(Limits(), Pipe(400 * MIB, 1))
    alone.steps(2)
    assert alone.pace.in_flight_sectors == Limits().max_in_flight_sectors


def test_little_is_in_flight_while_applications_are_at_work_and_much_a_second_later() -> None:
    run = Run(Limits(), Pipe(400 * MIB, 1), application_requests=50)
    run.steps(20)
    assert run.pace.in_flight_sectors == YIELD_SECTORS
    run.application_requests = 0
    run.steps(20)
    assert run.pace.in_flight_sectors == Limits().max_in_flight_sectors


def test_an_application_that_rests_for_less_than_a_second_finds_the_pipe_empty() -> None:
    run = Run(Limits(), Pipe(400 * MIB, 1))
    for _ in range(10):
        run.application_requests = 1
        run.steps(1)
        run.application_requests = 0
        run.steps(5)
        assert run.pace.in_flight_sectors == YIELD_SECTORS


def test_giving_way_is_no_slow_rate() -> None:
    run = Run(Limits(), Pipe(400 * MIB, 1), application_requests=50)
    run.steps(20)
    assert run.rate_kib_s(3) >= 20 * MIB


@pytest.mark.parametrize(("min_rate_kib_s", "highest_kib_s"), [(4 * MIB, YIELD_RATE_KIB_S), (200 * MIB, 200 * MIB)])
def test_giving_way_leaves_time_between_blocks(min_rate_kib_s: int, highest_kib_s: int) -> None:
    run = Run(Limits(min_rate_kib_s=min_rate_kib_s), Pipe(800 * MIB, 0), application_requests=50)
    run.steps(20)
    assert run.pace.rate_kib_s <= highest_kib_s
    assert run.rate_kib_s(3) <= 1.05 * highest_kib_s
    run.application_requests = 0
    run.steps(20)
    assert run.rate_kib_s(3) >= 0.9 * 800 * MIB


def test_what_is_never_exceeded_is_not_exceeded_by_giving_way() -> None:
    run = Run(Limits(min_rate_kib_s=200 * MIB, max_rate_kib_s=30 * MIB), Pipe(800 * MIB, 0), application_requests=50)
    run.steps(20)
    assert run.pace.rate_kib_s == 30 * MIB


def test_more_is_let_into_flight_until_the_lowest_rate_is_reached() -> None:
    slow_disk = Pipe(400 * MIB, 40)
    run = Run(Limits(min_rate_kib_s=8 * MIB), slow_disk, application_requests=50)
    run.steps(30)
    assert run.rate_kib_s(5) >= 0.8 * 8 * MIB
    assert YIELD_SECTORS < run.pace.in_flight_sectors <= 8 * YIELD_SECTORS


def test_applications_are_not_given_way_to_if_the_lowest_rate_is_zero() -> None:
    run = Run(Limits(min_rate_kib_s=0), Pipe(100 * MIB, 1), application_requests=50)
    run.steps(20)
    assert run.rate_kib_s(3) >= 0.9 * 100 * MIB


def test_a_resync_that_stood_still_goes_on() -> None:
    run = Run(Limits(), Pipe(0, 1))
    run.steps(100)
    run.pipe.width_kib_s = 50 * MIB
    run.steps(20)
    assert run.rate_kib_s(2) >= 0.9 * 50 * MIB
