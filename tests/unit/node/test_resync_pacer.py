"""The pacer reads the counters, orders what the controller says, and stops with the resync."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

from fakes.loop import run
from helpers.configurations import R0, SEED
from pydrbd.config import parse
from pydrbd.core.engine import Counters
from pydrbd.node.resync_pacer import ResyncPacer, limits_of
from pydrbd.state.resync_controller import YIELD_SECTORS, Limits


class Bench:
    """A pacer, its counters and its orders."""

    def __init__(self) -> None:
        self.counters = Counters(resync_sectors=777, application_requests=50)
        self.orders: list[tuple[int, int]] = []
        self.running = True
        self.pacer = ResyncPacer(
            Limits(),
            lambda: self.counters,
            lambda rate, window: self.orders.append((rate, window)),
            lambda: self.running,
        )


def test_the_first_order_comes_before_the_resync_and_others_only_for_a_change():
    async def main() -> Bench:
        bench = Bench()
        bench.pacer.begin()
        assert len(bench.orders) == 1
        for _ in range(20):
            bench.pacer.tick()
        bench.pacer.stop()
        return bench

    bench = run(main())
    assert all(before != after for before, after in pairwise(bench.orders))
    assert len(bench.orders) < 10


def test_a_request_of_an_application_is_given_way_to():
    async def main() -> Bench:
        bench = Bench()
        bench.pacer.begin()
        bench.counters = replace(bench.counters, resync_sectors=9000, application_requests=51)
        bench.pacer.tick()
        bench.pacer.stop()
        return bench

    assert run(main()).orders[-1][1] == YIELD_SECTORS


def test_it_ends_with_the_resync_and_begins_again_with_the_next():
    async def main() -> None:
        bench = Bench()
        bench.pacer.begin()
        first = bench.pacer._task
        bench.running = False
        assert first is not None
        await asyncio.wait_for(first, 2)
        bench.running = True
        bench.pacer.begin()
        assert bench.pacer._task is not first
        bench.pacer.stop()

    run(main())


def test_every_option_of_the_speed_reaches_the_controller_in_both_dialects() -> None:
    disk = "c-plan-ahead 0; c-delay-target 5; c-fill-target 100K; c-max-rate 80M; c-min-rate 2M; resync-rate 30M;"
    sections = f"disk {{ {disk} }} net {{ max-buffers 8000; }}"
    modern = parse(R0.replace("{\n", "{\n" + sections + "\n", 1)).resource("r0").for_node("castor")
    assert limits_of(modern) == Limits(
        resync_rate_kib_s=30 << 10,
        plan_ahead_ms=0,
        fill_target_sectors=200,
        delay_target_ms=500,
        max_rate_kib_s=80 << 10,
        min_rate_kib_s=2 << 10,
        max_in_flight_sectors=32000,
    )
    net = "\n  net {\n  sync-max = 8M\n  sync-min = 500\n  }\n  on castor"
    old = parse(SEED.replace("\n  on castor", net)).resource("drbd0").for_node("castor")
    assert limits_of(old) == replace(Limits(), resync_rate_kib_s=8192, max_rate_kib_s=8192, min_rate_kib_s=500)
