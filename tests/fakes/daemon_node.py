"""A daemon over a fake engine, asked through its admin socket."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fakes.fake_core import fake_binding
from fakes.resource import create_metadata, view_of, write_configuration
from pydrbd.node.daemon import Daemon, Places
from pydrbd.node.handover.inheritance import Inheritance
from pydrbd.node.process import Readiness


class Node:
    """A daemon under test."""

    def __init__(self, directory: Path, *, metadata: bool = True, again: bool = False) -> None:
        """`again`: a node that has lived in this directory before."""
        self.configuration = directory / "drbd.conf" if again else write_configuration(directory)
        self.view = view_of(self.configuration)
        self.places = Places(self.configuration, directory / "run", directory / "state")
        self.places.run.mkdir(exist_ok=again)
        self.places.state.mkdir(exist_ok=again)
        self.metadata = create_metadata(self.view, self.places.state) if metadata else None
        binding, self.lib = fake_binding()
        self.binding = binding

    async def ask(self, verb: str, **arguments: object) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(str(self.places.run / "control.sock"))
        writer.write(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
        reply = json.loads(await reader.readline())
        writer.close()
        return dict(reply)

    async def live(
        self, body: Callable[[], Awaitable[None]], inherited: Inheritance | None = None
    ) -> Inheritance | None:
        """Run the daemon, and `body` while it is up; the daemon has to end by itself afterwards. Return its bequest.

        If `body` raises, it ends as by a crash.
        """
        daemon = Daemon(self.view, self.places, self.binding, inherited=inherited)
        reader, writer = os.pipe()
        running = asyncio.ensure_future(daemon.run(Readiness(writer)))
        word = await asyncio.get_running_loop().run_in_executor(None, os.read, reader, 1000)
        os.close(reader)
        assert json.loads(word)["exit"] == 0
        try:
            await body()
            await asyncio.wait_for(running, 5)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return daemon.bequest
