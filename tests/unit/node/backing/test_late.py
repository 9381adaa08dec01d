"""Calls to a disk that may never return: waited for as long as allowed, and their descriptors left alone meanwhile."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fakes.loop import run
from pydrbd.node.backing.late import LateCalls
from pydrbd.node.backing_disk import DiskIoError


class Hanging:
    """A disk: every call to it returns when it is let go."""

    def __init__(self) -> None:
        self._goes_on = threading.Event()

    def call(self) -> None:
        assert self._goes_on.wait(10)

    def go_on(self) -> None:
        self._goes_on.set()


async def eventually(happened: list[str]) -> None:
    for _ in range(500):
        if happened:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


def test_what_the_call_returns_is_returned_and_what_it_raises_is_raised():
    def fail() -> None:
        raise DiskIoError("bad block")

    for timeout_s in (0, 5):
        assert run(LateCalls(timeout_s).run(lambda: 7, "a read")) == 7
        with pytest.raises(DiskIoError, match="bad block"):
            run(LateCalls(timeout_s).run(fail, "a write"))


def test_the_loop_goes_on_while_a_call_hangs():
    async def main() -> None:
        disk, calls = Hanging(), LateCalls(0)
        waiting = asyncio.ensure_future(calls.run(disk.call, "a write"))
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        assert not calls.hangs, "it is waited for"
        disk.go_on()
        await asyncio.wait_for(waiting, 5)

    run(main())


def test_a_call_that_hangs_is_given_up_and_closed_behind_only_when_it_returns():
    async def main() -> None:
        disk, closed, calls = Hanging(), list[str](), LateCalls(0.05)
        with pytest.raises(DiskIoError, match="a write did not end within the disk-timeout"):
            await calls.run(disk.call, "a write")
        calls.when_over(lambda: closed.append("closed"))
        await asyncio.sleep(0.05)
        assert calls.hangs
        assert not closed
        disk.go_on()
        await eventually(closed)
        assert not calls.hangs

    run(main())


def test_a_call_is_given_up_by_word():
    async def main() -> None:
        disk, calls = Hanging(), LateCalls(0)
        waiting = asyncio.ensure_future(calls.run(disk.call, "a write"))
        await asyncio.sleep(0.01)
        calls.give_up()
        with pytest.raises(DiskIoError, match="a write was given up"):
            await waiting
        assert calls.hangs
        disk.go_on()

    run(main())


def test_nothing_is_closed_before_the_last_of_several_calls_has_returned():
    async def main() -> None:
        first, second, closed, calls = Hanging(), Hanging(), list[str](), LateCalls(0.02)
        for disk in (first, second):
            with pytest.raises(DiskIoError):
                await calls.run(disk.call, "a write")
        await calls.run(lambda: None, "one that ends")
        calls.when_over(lambda: closed.append("closed"))
        second.go_on()
        await asyncio.sleep(0.1)
        assert calls.hangs
        assert not closed
        first.go_on()
        await eventually(closed)
        assert closed == ["closed"]
        assert not calls.hangs

    run(main())


def test_when_nothing_is_under_way_it_is_closed_at_once():
    async def main() -> None:
        closed: list[str] = []
        calls = LateCalls(5)
        await calls.run(lambda: None, "a write")
        calls.when_over(lambda: closed.append("closed"))
        assert closed

    run(main())
