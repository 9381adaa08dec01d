"""A call that a disk may never let return, carried out beside the event loop and waited for no longer than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from pydrbd.node.backing_disk import DiskIoError


class LateCalls:
    """Calls about one disk. What was given up may still be under way: `when_over` says when it is not."""

    def __init__(self, timeout_s: float) -> None:
        """`timeout_s`: 0 waits for ever, and calls in the caller's own thread."""
        self._timeout_s = timeout_s
        self._under_way: asyncio.Future[None] | None = None

    async def run(self, body: Callable[[], None], what: str) -> None:
        """Call, and raise what it raises; `DiskIoError`, naming `what`, when it does not return in time."""
        if not self._timeout_s:
            body()
            return
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        threading.Thread(target=_call, args=(body, over), daemon=True).start()
        self._under_way = over
        try:
            await asyncio.wait_for(asyncio.shield(over), self._timeout_s)
        except TimeoutError:
            raise DiskIoError(f"{what} did not end within the disk-timeout") from None
        finally:
            if over.done():
                self._under_way = None

    def when_over(self, body: Callable[[], None]) -> None:
        """Call `body` now, or when the call under way has returned at last and its descriptor may be closed."""
        if self._under_way is None:
            body()
        else:
            self._under_way.add_done_callback(lambda _: body())


def _call(body: Callable[[], None], over: asyncio.Future[None]) -> None:
    error: BaseException | None = None
    try:
        body()
    except BaseException as raised:  # noqa: BLE001 - it is raised again where it is waited for
        error = raised
    with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
        over.get_loop().call_soon_threadsafe(_tell, over, error)


def _tell(over: asyncio.Future[None], error: BaseException | None) -> None:
    if over.cancelled():
        return
    if error is None:
        over.set_result(None)
    else:
        over.set_exception(error)
        over.exception()  # looked at, should nobody wait any more
