"""A disk that is not there when its daemon starts: waited for a while, and then the node goes on without it.

A peer with good data serves such a node as it serves one whose disk has failed; the disk is attached when it comes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from pydrbd.node.backing.disk_arrival import POLL_S, is_there, wait_for_disk
from pydrbd.node.process import EXIT_INVALID, StartError

log = logging.getLogger(__name__)

TRIES = 10
"""A disk that has just come may be looked at by others (udev, md): so often is it tried, a moment apart."""


class LateDisk:
    """What a resource's disk consists of: data, and metadata if that is a device of its own."""

    def __init__(self, resource: str, paths: Iterable[Path]) -> None:
        self._resource = resource
        self._paths = tuple(dict.fromkeys(paths))

    async def wait_at_start(self) -> bool:
        """Wait as long as PYDRBD_DISK_WAIT_S says: at boot, a minute. False: it has not come. Raises `StartError`."""
        try:
            timeout_s = float(os.environ.get("PYDRBD_DISK_WAIT_S") or 0)
        except ValueError:
            raise StartError("PYDRBD_DISK_WAIT_S is not a number of seconds", EXIT_INVALID) from None
        deadline = asyncio.get_running_loop().time() + timeout_s
        for path in self._paths:
            await wait_for_disk(path, deadline - asyncio.get_running_loop().time())
        return not self.missing

    @property
    def missing(self) -> str:
        """Return what is not there, or nothing."""
        return " and ".join(str(path) for path in self._paths if not is_there(path))

    def sentence(self) -> str:
        """Say how the node is up."""
        return f"{self._resource}: up without its disk: {self.missing} is not there; it is attached when it comes"

    async def attach(self, attach: Callable[[], Awaitable[str]]) -> None:
        """Wait for the disk for ever, then attach it. `attach` returns why it cannot be, or nothing."""
        refusal = ""
        for _ in range(TRIES):
            for path in self._paths:
                await wait_for_disk(path, math.inf)
            refusal = await attach()
            if not refusal:
                return
            log.warning("%s", refusal)
            await asyncio.sleep(POLL_S)
        log.error("%s; it is not tried again: `pydrbd attach %s`", refusal, self._resource)
