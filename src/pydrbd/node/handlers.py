"""Handlers of the configuration, run in the background with DRBD's environment, a deadline, their output in the log.

How each one ends is told to the rules: some wait for it. A handler that is not configured ends at once with 0, as
`drbdadm` lets it; one that is over its deadline is killed with all that it started, and ends with -1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from pydrbd.config.description import Host, ResourceView

log = logging.getLogger(__name__)

DEADLINE_S = 120.0
"""Longer than a cluster manager takes to shoot a node, shorter than a person waits."""
NO_EXIT_CODE = -1
LINE_BYTES_MAX = 4096
LINGER_S = 0.5


def environment(view: ResourceView, configuration: Path) -> dict[str, str]:
    """Return what a handler finds in its environment (drbdadm 8.4 and 9)."""
    volume = view.local.volumes[0]
    family = "ipv6" if view.peer.is_ipv6 else "ipv4"
    own, peers = _node_id(view, view.local), _node_id(view, view.peer)
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
        "DRBD_MY_NODE_ID": str(own),
        "DRBD_PEER_NODE_ID": str(peers),
        f"DRBD_NODE_ID_{own}": view.local.name,
        f"DRBD_NODE_ID_{peers}": view.peer.name,
    }


def _node_id(view: ResourceView, host: Host) -> int:
    return view.resource.hosts.index(host) if host.node_id is None else host.node_id


class Handlers:
    """Starts handlers and remembers those that run. `ended(name, exit_code)` is called for each that was started."""

    def __init__(
        self,
        view: ResourceView,
        configuration: Path,
        ended: Callable[[str, int], None],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._view = view
        self._configuration = configuration
        self._ended = ended
        self._deadline_s = deadline_s
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str) -> None:
        """Run the handler of this name."""
        command = getattr(self._view.resource.handlers, name.replace("-", "_"), None)
        if not command:
            self._ended(name, 0)
            return
        task = asyncio.ensure_future(self._run(name, command))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, name: str, command: str) -> None:
        exit_code = NO_EXIT_CODE
        try:
            log.info("handler %s: %s", name, command)
            exit_code = await self._run_shell(name, command)
            level = logging.INFO if exit_code == 0 else logging.WARNING
            log.log(level, "handler %s ended with exit code %s", name, exit_code)
        except OSError as error:
            log.error("handler %s cannot be started: %s", name, error.strerror)
        except TimeoutError:
            log.error("handler %s has not ended after %g s: killed", name, self._deadline_s)
        self._ended(name, exit_code)

    async def _run_shell(self, name: str, command: str) -> int:
        """Return the exit code. Raises `OSError`, `TimeoutError`."""
        reads, writes = os.pipe()
        transport, reader = await _open_pipe(reads)
        reading = asyncio.ensure_future(_log_lines(name, reader))
        try:
            process = await asyncio.create_subprocess_shell(
                command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writes,
                stderr=writes,
                env=environment(self._view, self._configuration),
                start_new_session=True,
            )
        finally:
            os.close(writes)
        try:
            return await asyncio.wait_for(process.wait(), self._deadline_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        finally:
            # What it left running in the background may hold the pipe open for ever.
            await asyncio.wait({reading}, timeout=LINGER_S)
            reading.cancel()
            transport.close()


async def _open_pipe(fd: int) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    """Return a reader of the pipe's end, which is closed with the transport."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb"))
    return transport, reader


async def _log_lines(name: str, reader: asyncio.StreamReader) -> None:
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            continue  # longer than the limit: what was read of it is gone
        if not line:
            return
        log.info("handler %s: %s", name, line.decode(errors="replace").rstrip())
