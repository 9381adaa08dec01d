"""The pacer reads the counters, orders what the controller says, and stops with the resync."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fakes.loop import run
from pydrbd.core.engine import Counters
from pydrbd.node.resync_pacer import ResyncPacer
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
        for _ in range(3):
            bench.pacer.tick()
        bench.pacer.stop()
        return bench

    bench = run(main())
    assert len(bench.orders) == len(set(bench.orders)) == 1


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
