"""nbd-file: a stand-alone NBD server over one file, by the same engine that serves a resource.

Foreign tools can start it themselves by socket activation (``nbdinfo [ pydrbd nbd-file FILE ]``): then it ends when
its last client has gone. On a socket of its own it ends by SIGTERM or SIGINT. Nothing is replicated.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import click
import uvloop

from pydrbd.cli.admin_client import VerbError
from pydrbd.core.engine import Disk, Engine, Io, Options
from pydrbd.core.facts import Fact, FactType
from pydrbd.model.effects import Gate, Reads, Replication
from pydrbd.node.backing_disk import BackingDisk
from pydrbd.node.export_socket import bind_private
from pydrbd.ondisk.errors import OnDiskError

FIRST_PASSED_FD = 3
SECTOR_BYTES = 512
LAST_CLIENT_GRACE_S = 0.2
"""A tool that opens its connections one after another has not gone between two of them."""
EXIT_OTHER = 20
_IO_WAYS = {"uring": Io.URING, "threads": Io.THREADS}


def passed_socket() -> socket.socket | None:
    """Return the listening socket that the one who started us has passed (sd_listen_fds), if it is for us."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    if os.environ.get("LISTEN_FDS") != "1":
        raise VerbError(f"socket activation with {os.environ.get('LISTEN_FDS')} sockets; it must be one", EXIT_OTHER)
    os.set_inheritable(FIRST_PASSED_FD, False)
    sock = socket.socket(fileno=FIRST_PASSED_FD)
    sock.setblocking(False)
    return sock


class FileServer:
    """Serves one file until told to stop."""

    def __init__(self, disk: BackingDisk, listener: socket.socket, *, read_only: bool, until_last_client: bool) -> None:
        self._disk = disk
        self._listener = listener
        self._read_only = read_only
        self._until_last_client = until_last_client
        self._engine = Engine(Options(io=_IO_WAYS.get(os.environ.get("PYDRBD_IO", ""), Io.AUTO)))
        self._stop = asyncio.Event()
        self._accepted = 0

    async def run(self) -> None:
        """Serve. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._engine.start(self._on_fact)
        try:
            size_sectors = self._disk.size_bytes // SECTOR_BYTES
            await self._engine.attach(Disk(data_fd=self._disk.duplicate(), md_fd=-1, size_sectors=size_sectors))
            self._engine.replicate(Replication.NONE.value, 3)
            self._engine.reads(Reads.LOCAL.value)
            self._engine.gate(Gate.OPEN.value)
            await self._engine.export_open("", read_only=self._read_only)
            acceptor = asyncio.ensure_future(self._accept_all())
            await self._stop.wait()
            acceptor.cancel()
            await asyncio.gather(acceptor, return_exceptions=True)
            await self._engine.export_close()
        finally:
            self._engine.stop()

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            sock.setblocking(False)
            self._accepted += 1
            self._engine.export_client(sock.detach())

    def _on_fact(self, fact: Fact) -> None:
        if fact.type is FactType.CLIENTS and fact.a == 0 and fact.b > 0 and self._until_last_client:
            asyncio.get_running_loop().call_later(LAST_CLIENT_GRACE_S, self._stop_if_idle, self._accepted)
        elif fact.type is FactType.DISK_FAILED:
            click.echo(f"the file failed at sector {fact.a}: {os.strerror(-fact.result)}", err=True)

    def _stop_if_idle(self, accepted: int) -> None:
        if accepted == self._accepted and self._engine.counters().clients == 0:
            self._stop.set()


@click.command("nbd-file")
@click.option("--socket", "path", type=click.Path(path_type=Path), help="UNIX socket to make, mode 0600.")
@click.option("-r", "--read-only", is_flag=True)
@click.argument("file", type=click.Path(path_type=Path))
def nbd_file(file: Path, path: Path | None, read_only: bool) -> None:
    """Serve FILE by NBD, without replication."""
    passed = passed_socket()
    if (path is None) == (passed is None):
        raise click.UsageError("give either --socket PATH or a socket by socket activation (LISTEN_FDS)")
    try:
        disk = BackingDisk.open(file, exclusive=not read_only, writable=not read_only)
    except OnDiskError as error:
        raise VerbError(error.sentence, error.exit_code) from error
    if disk.size_bytes % SECTOR_BYTES:
        click.echo(
            f"{file}: its last {disk.size_bytes % SECTOR_BYTES} bytes are no whole sector and not served", err=True
        )

    async def serve(listener: socket.socket) -> None:
        await FileServer(disk, listener, read_only=read_only, until_last_client=passed is not None).run()

    try:
        with (
            passed or bind_private(path or Path()) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(serve(listener))
    except OSError as error:
        raise VerbError(f"{file}: {error.strerror or error}", EXIT_OTHER) from error
    finally:
        disk.close()
        if path is not None:
            path.unlink(missing_ok=True)


COMMANDS: list[click.Command] = [nbd_file]
