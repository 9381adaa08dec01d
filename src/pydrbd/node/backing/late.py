"""Calls that a disk may never let return, carried out beside the event loop, which goes on meanwhile.

What a call was asked to do it may still do, however late: until it has returned its descriptors stay open, and nothing
is written to that disk, nor is another taken (`hangs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pydrbd.node.backing_disk import DiskIoError

Result = TypeVar("Result")


class LateCalls:
    """Calls about one disk."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: a call is waited for so long; 0: for ever, or until `give_up`."""
        self._timeout_s = timeout_s or None
        self._under_way: set[asyncio.Future[Any]] = set()
        self._abandoned: set[asyncio.Future[Any]] = set()
        """Of these, the ones that nobody waits for any more."""
        self._words: set[asyncio.Future[None]] = set()

    @property
    def hangs(self) -> bool:
        """Whether a call that was given up has not returned."""
        return bool(self._abandoned)

    async def run(self, body: Callable[[], Result], what: str) -> Result:
        """Call in a thread; return what it returns, raise what it raises.

        `DiskIoError`, naming `what`, when it does not return in time or is given up.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[Result] = loop.create_future()
        word: asyncio.Future[None] = loop.create_future()
        self._under_way.add(over)
        self._words.add(word)
        over.add_done_callback(self._forget)
        threading.Thread(target=_call, args=(body, over), daemon=True).start()
        either: set[asyncio.Future[Any]] = {over, word}
        try:
            await asyncio.wait(either, timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._words.discard(word)
            if not over.done():
                self._abandoned.add(over)
        if over.done():
            return over.result()
        raise DiskIoError(f"{what} was given up" if word.done() else f"{what} did not end within the disk-timeout")

    def give_up(self) -> None:
        """Wait for none of them any longer."""
        for word in self._words:
            if not word.done():
                word.set_result(None)

    def when_over(self, body: Callable[[], None]) -> None:
        """Call `body` now, or when every call that is under way now has returned: descriptors may be closed then."""
        pending = set(self._under_way)

        def one_less(call: asyncio.Future[Any]) -> None:
            pending.discard(call)
            if not pending:
                body()

        if not pending:
            body()
        for call in tuple(pending):
            call.add_done_callback(one_less)

    def _forget(self, call: asyncio.Future[Any]) -> None:
        self._under_way.discard(call)
        self._abandoned.discard(call)


def _call(body: Callable[[], Result], over: asyncio.Future[Result]) -> None:
    try:
        result = body()
    except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
        tell, what = _fail, (over, error)
    else:
        tell, what = _end, (over, result)  # type: ignore[assignment]
    with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
        over.get_loop().call_soon_threadsafe(tell, *what)


def _end(over: asyncio.Future[Result], result: Result) -> None:
    if not over.cancelled():
        over.set_result(result)


def _fail(over: asyncio.Future[Any], error: BaseException) -> None:
    if not over.cancelled():
        over.set_exception(error)
        over.exception()  # looked at, should nobody wait any more
