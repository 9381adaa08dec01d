"""Run a coroutine on the loop that the daemon uses, with a deadline: a test that hangs says so."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import TypeVar

import uvloop

Result = TypeVar("Result")


def run(body: Coroutine[object, object, Result], deadline_s: float = 10.0) -> Result:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(body, deadline_s))


def free_port(*addresses: str) -> int:
    """Return a port that is free on all these addresses, as far as one can know."""
    while True:
        with socket.socket() as first:
            first.bind((addresses[0], 0))
            port: int = first.getsockname()[1]
            try:
                for address in addresses[1:]:
                    with socket.socket() as other:
                        other.bind((address, port))
            except OSError:
                continue
            return port
