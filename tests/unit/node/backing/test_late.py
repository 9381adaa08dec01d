"""Calls to a disk that may never return: waited for as long as allowed, and their descriptors left alone meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fakes.loop import run
from pydrbd.node.backing.late import LateCalls
from pydrbd.node.backing_disk import DiskIoError


def test_without_a_timeout_the_call_is_made_here():
    threads: list[int] = []
    run(LateCalls(0).run(lambda: threads.append(threading.get_ident()), "a write"))
    assert threads == [threading.get_ident()]


def test_what_the_call_raises_is_raised():
    def fail() -> None:
        raise DiskIoError("bad block")

    with pytest.raises(DiskIoError, match="bad block"):
        run(LateCalls(5).run(fail, "a write"))


def test_a_call_that_hangs_is_given_up_and_closed_behind_only_when_it_returns():
    async def main() -> None:
        goes_on = threading.Event()
        closed: list[bool] = []
        calls = LateCalls(0.05)
        with pytest.raises(DiskIoError, match="a write did not end within the disk-timeout"):
            await calls.run(lambda: goes_on.wait(10) and None, "a write")
        calls.when_over(lambda: closed.append(True))
        await asyncio.sleep(0.05)
        assert not closed
        goes_on.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if closed:
                break
        assert closed

    run(main())


def test_when_nothing_is_under_way_it_is_closed_at_once():
    async def main() -> None:
        closed: list[bool] = []
        calls = LateCalls(5)
        await calls.run(lambda: None, "a write")
        calls.when_over(lambda: closed.append(True))
        assert closed

    run(main())
