"""The NBD socket is there while open, for the owner alone, and hands its clients over."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from fakes.loop import run
from pydrbd.node.export_socket import CLIENTS_MAX, ExportSocket, bind_private


def client(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(2)
    sock.connect(str(path))
    return sock


def test_it_appears_and_goes_and_takes_the_place_of_a_stale_one(tmp_path: Path):
    async def body() -> None:
        path = tmp_path / "nbd.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        taken: list[int] = []
        export = ExportSocket(path, taken.append, lambda: 0)
        export.open()
        export.open()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with client(path):
            await asyncio.sleep(0.02)
            assert len(taken) == 1
            assert not os.get_blocking(taken[0])
        await export.close()
        await export.close()
        assert not path.exists()
        os.close(taken[0])

    run(body())


def test_clients_beyond_the_limit_are_turned_away(tmp_path: Path):
    async def body() -> None:
        export = ExportSocket(tmp_path / "nbd.sock", lambda _: None, lambda: CLIENTS_MAX)
        export.open()
        with client(export.path) as sock:
            assert await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1) == b""
        await export.close()

    run(body())


def test_a_place_where_no_socket_can_be_is_said(tmp_path: Path):
    with pytest.raises(OSError, match=r"cannot make the socket .*none/nbd.sock"):
        bind_private(tmp_path / "none" / "nbd.sock")
    with pytest.raises(OSError, match="path too long"):
        bind_private(tmp_path / ("x" * 200))
