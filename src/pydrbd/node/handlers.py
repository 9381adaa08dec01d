"""Handlers of the configuration, run in the background with DRBD's environment.

Their output goes to the log. What they return concerns nobody here yet: orders that depend on it have their own effect.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from pydrbd.config.description import ResourceView

log = logging.getLogger(__name__)


def environment(view: ResourceView, configuration: Path) -> dict[str, str]:
    """Return what a handler finds in its environment (drbdadm 8.4 and 9)."""
    volume = view.local.volumes[0]
    family = "ipv6" if view.peer.is_ipv6 else "ipv4"
    return {
        **os.environ,
        "DRBD_RESOURCE": view.resource.name,
        "DRBD_VOLUME": str(volume.number),
        "DRBD_MINOR": "" if volume.minor is None else str(volume.minor),
        "DRBD_LL_DISK": volume.disk,
        "DRBD_CONF": str(configuration),
        "DRBD_PEER": view.peer.name,
        "DRBD_PEERS": view.peer.name,
        "DRBD_PEER_AF": family,
        "DRBD_PEER_ADDRESS": view.peer.address,
    }


class Handlers:
    """Starts handlers and remembers those that run."""

    def __init__(self, view: ResourceView, configuration: Path) -> None:
        self._view = view
        self._configuration = configuration
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str) -> None:
        """Run the handler of this name, if one is configured."""
        command = getattr(self._view.resource.handlers, name.replace("-", "_"), None)
        if command is None:
            return
        task = asyncio.ensure_future(self._run(name, command))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, name: str, command: str) -> None:
        process = await asyncio.create_subprocess_shell(
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(self._view, self._configuration),
        )
        output, _ = await process.communicate()
        for line in output.decode(errors="replace").splitlines()[-20:]:
            log.info("handler %s: %s", name, line)
        level = logging.INFO if process.returncode == 0 else logging.WARNING
        log.log(level, "handler %s ended with exit code %s", name, process.returncode)
