"""A real loop device over real nbdfuse and nbdkit; the daemon is another nbdkit, which may die."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydrbd.device import loop, openers
from pydrbd.device.fuse import FuseDevice
from pydrbd.device.kind import Attached, DeviceBusyError, DeviceError, Wish
from pydrbd.device.proxy import Proxy

SIZE_BYTES = 16 << 20
LACK = FuseDevice().missing()

pytestmark = [pytest.mark.root, pytest.mark.skipif(LACK is not None, reason=str(LACK))]


class Server:
    """What serves `Wish.server`: nbdkit over a file, so that a successor has the same bytes."""

    def __init__(self, socket: Path, file: Path) -> None:
        self.socket, self.file = socket, file
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(["nbdkit", "-f", "-U", str(self.socket), "file", str(self.file)])
        while not self.socket.exists():
            time.sleep(0.005)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def wish() -> Iterator[Wish]:
    # Short, for the sake of the sockets' names.
    folder = Path(tempfile.mkdtemp(prefix="pydrbd-"))
    yield Wish("drbd0", "pydrbd:drbd0:1", SIZE_BYTES, 0, folder)
    FuseDevice().clear(Wish("drbd0", "", 0, 0, folder))
    shutil.rmtree(folder)


@pytest.fixture
def server(wish: Wish) -> Iterator[Server]:
    file = wish.run / "disk"
    with file.open("wb") as disk:
        disk.truncate(SIZE_BYTES)
    made = Server(wish.server, file)
    made.start()
    yield made
    made.kill()


def write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, 1 << 20)
        os.fsync(fd)
    finally:
        os.close(fd)


def nothing_is_left(wish: Wish) -> bool:
    proxy = Proxy(wish.run, wish.server)
    return not loop.of_file(proxy.file) and not proxy._processes() and not proxy.mount_point.exists()


def test_what_is_written_arrives_and_nothing_is_left_at_the_end(wish: Wish, server: Server) -> None:
    kind = FuseDevice()
    device = kind.attach(wish).device
    assert loop.size_bytes(device.path) == SIZE_BYTES
    write(device.path, b"x" * 4096)
    assert server.file.read_bytes()[1 << 20 : (1 << 20) + 4096] == b"x" * 4096
    kind.detach(wish, device, force=False)
    assert nothing_is_left(wish)


def test_writing_waits_for_a_successor_of_the_server(wish: Wish, server: Server) -> None:
    kind = FuseDevice()
    device = kind.attach(wish).device
    server.kill()
    writing = threading.Thread(target=write, args=(device.path, b"y" * 4096))
    writing.start()
    time.sleep(0.3)
    assert writing.is_alive()
    made = kind.take_over(wish, device, served=False)
    server.start()
    writing.join(10)
    assert not writing.is_alive()
    assert made is not None
    assert made.device == device
    assert server.file.read_bytes()[1 << 20 : (1 << 20) + 4096] == b"y" * 4096


@pytest.mark.usefixtures("server")
def test_an_open_device_is_not_taken_away_but_by_force(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "GONE_S", 0.1)
    kind = FuseDevice()
    device = kind.attach(wish).device
    fd = os.open(device.path, os.O_RDONLY | os.O_EXCL)  # as a mount does
    try:
        with pytest.raises(DeviceBusyError, match=f"{device.path} is held open"):
            kind.detach(wish, device, force=False)
        kind.detach(wish, device, force=True)
        with pytest.raises(OSError, match=r"Input/output|No such"):
            os.pread(fd, 4096, 8 << 20)
    finally:
        os.close(fd)
    assert nothing_is_left(wish)


@pytest.mark.usefixtures("server")
def test_who_has_it_open_is_named(wish: Wish) -> None:
    device = FuseDevice().attach(wish).device
    with Path(device.path).open("rb") as opened, subprocess.Popen(["sleep", "60"], stdin=opened) as sleeper:
        found = [str(opener) for opener in openers.openers_of(device.path)]
        sleeper.kill()
    assert found == [f"sleep (pid {sleeper.pid})"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("killed", ["nbdkit", "nbdfuse"])
def test_a_device_that_lost_a_part_is_not_taken_over_but_made_anew(wish: Wish, killed: str) -> None:
    kind = FuseDevice()
    device = kind.attach(wish).device
    for program, pid in Proxy(wish.run, wish.server)._processes():
        if program == killed:
            os.kill(pid, 9)
    time.sleep(0.1)
    assert kind.take_over(wish, device, served=False) is None
    again = kind.attach(wish).device
    write(again.path, b"z" * 4096)
    kind.detach(wish, again, force=False)
    assert nothing_is_left(wish)


@pytest.mark.usefixtures("server")
def test_another_disks_device_is_not_taken_over(wish: Wish) -> None:
    kind = FuseDevice()
    device = kind.attach(wish).device
    old = Attached(device.kind, device.path, device.size_bytes, "pydrbd:drbd0:another")
    assert kind.take_over(wish, old, served=False) is None


def test_nothing_is_left_of_a_start_that_fails(wish: Wish) -> None:
    with pytest.raises(DeviceError), _short_start():
        FuseDevice().attach(wish)  # nobody serves
    assert nothing_is_left(wish)


@contextlib.contextmanager
def _short_start() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pydrbd.device.proxy.START_S", 0.5)
        yield
