"""What the kind `nbd` does with the kernel's driver, which is a fake here."""

import errno
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from pydrbd.device import nbd, openers
from pydrbd.device.kind import Attached, DeviceBusyError, DeviceError, Watch, Wish
from pydrbd.device.nbd import NbdDevice, Settings

IDENTIFIER = "pydrbd:drbd0:1234"


class FakeKernel:
    """The driver: devices by index, with their sysfs below `sys`."""

    def __init__(self, sys: Path) -> None:
        self.sys = sys
        self.busy: set[int] = set()
        self.asked: list[tuple[str, int | None]] = []
        self.sockets: dict[int, int] = {}
        self.useless_reconfigures = 0
        (sys / "module/nbd").mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def connect(self, settings: Settings, fd: int) -> int:
        self.asked.append(("connect", settings.index))
        if settings.index in self.busy:
            raise OSError(errno.EBUSY, "busy")
        index = 7 if settings.index is None else settings.index
        self.settings = settings
        self.queue_at_connect = self.queue_of(index)
        self.exists(index)
        (self.sys / f"block/nbd{index}/pid").write_text("17\n")
        (self.sys / f"block/nbd{index}/backend").write_text(settings.identifier + "\n")
        self.sockets[index] = os.dup(fd)
        return index

    def exists(self, index: int) -> None:
        """There is such a device, connected or not."""
        (self.sys / f"block/nbd{index}/queue").mkdir(parents=True, exist_ok=True)
        for name in nbd.QUEUE:
            (self.sys / f"block/nbd{index}/queue" / name).touch()

    def queue_of(self, index: int) -> dict[str, str]:
        """What the device's queue is set to."""
        return {path.name: path.read_text() for path in (self.sys / f"block/nbd{index}/queue").glob("*")}

    def reconfigure(self, index: int, identifier: str, fd: int) -> None:
        self.asked.append(("reconfigure", index))
        assert identifier == IDENTIFIER
        if self.useless_reconfigures:
            self.useless_reconfigures -= 1
            return
        os.close(self.sockets[index])
        self.sockets[index] = os.dup(fd)

    def disconnect(self, index: int) -> None:
        self.asked.append(("disconnect", index))
        os.close(self.sockets.pop(index))
        (self.sys / f"block/nbd{index}/backend").unlink()
        (self.sys / f"block/nbd{index}/pid").unlink()


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path / "sys")


@pytest.fixture
def device(kernel: FakeKernel) -> NbdDevice:
    return NbdDevice(lambda: kernel, kernel.sys)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish("drbd0", IDENTIFIER, 64 << 20, 0, tmp_path)


def say(fd: int, kernel_fd: int) -> None:
    """Let a byte pass from the kernel's end to ours."""
    os.write(kernel_fd, b"r")
    with socket.socket(fileno=fd) as ours:
        assert ours.recv(1) == b"r"


def test_the_device_is_the_one_that_the_name_asks_for(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    made = device.attach(wish)
    assert made.device == Attached("nbd", "/dev/nbd0", 64 << 20, IDENTIFIER)
    assert kernel.settings.dead_connection_timeout_s == 86_400
    assert kernel.settings.block_bytes == 512
    assert made.served_fd is not None
    assert not os.get_blocking(made.served_fd)
    say(made.served_fd, kernel.sockets[0])


def test_the_queue_is_set_up_before_anybody_can_read(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    kernel.exists(0)
    made = device.attach(wish)
    os.close(made.served_fd or -1)
    assert kernel.queue_at_connect == nbd.QUEUE


def test_the_queue_of_a_device_that_connect_made_is_set_up_without_waiting_for_it(
    device: NbdDevice, kernel: FakeKernel, wish: Wish
) -> None:
    made = device.attach(wish)
    os.close(made.served_fd or -1)
    deadline = time.monotonic() + 10
    while kernel.queue_of(0) != nbd.QUEUE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_a_number_the_first_device_that_is_free_is_taken(
    device: NbdDevice, kernel: FakeKernel, wish: Wish
) -> None:
    for index in range(3):
        kernel.exists(index)
    (kernel.sys / "block/nbd0/pid").write_text("17\n")
    made = device.attach(replace(wish, minor=None))
    os.close(made.served_fd or -1)
    assert made.device.path == "/dev/nbd1"
    assert kernel.queue_at_connect == nbd.QUEUE
    assert kernel.queue_of(0) != nbd.QUEUE


def test_a_device_that_stays_busy_is_left_for_another(
    device: NbdDevice, kernel: FakeKernel, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "BUSY_S", 0.1)
    kernel.busy = {0}
    made = device.attach(wish)
    os.close(made.served_fd or -1)
    assert made.device.path == "/dev/nbd7"
    assert kernel.asked.count(("connect", 0)) > 1


def test_what_a_killed_daemon_left_is_cleared_before(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    os.close(device.attach(replace(wish, minor=4)).served_fd or -1)
    os.close(device.attach(wish).served_fd or -1)
    assert ("disconnect", 4) in kernel.asked


def test_a_successor_takes_the_device_over(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    first = device.attach(wish)
    os.close(first.served_fd or -1)  # the daemon dies
    made = device.take_over(wish, first.device, served=False)
    assert made is not None
    assert made.device == first.device
    say(made.served_fd or -1, kernel.sockets[0])


def test_a_device_whose_socket_was_handed_over_is_left_alone(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    first = device.attach(wish)
    made = device.take_over(wish, first.device, served=True)
    assert made is not None
    assert (made.device, made.served_fd) == (first.device, None)
    assert ("reconfigure", 0) not in kernel.asked
    say(first.served_fd or -1, kernel.sockets[0])


def test_a_driver_that_tells_nothing_costs_a_warning(
    kernel: FakeKernel, wish: Wish, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(index: int) -> Watch:
        raise OSError(errno.ENOENT, f"no group for {index}")

    device = NbdDevice(lambda: kernel, kernel.sys, refuse)
    made = device.attach(wish)
    os.close(made.served_fd or -1)
    assert device.watch(made.device) is None
    assert "a lost connection of /dev/nbd0 will not be noticed" in caplog.text


def test_a_socket_that_the_kernel_had_no_use_for_is_given_again(
    device: NbdDevice, kernel: FakeKernel, wish: Wish
) -> None:
    first = device.attach(wish)
    os.close(first.served_fd or -1)
    kernel.useless_reconfigures = 2
    made = device.take_over(wish, first.device, served=False)
    assert made is not None
    say(made.served_fd or -1, kernel.sockets[0])
    assert kernel.asked.count(("reconfigure", 0)) == 3


def test_another_resources_device_is_never_taken_over(device: NbdDevice, kernel: FakeKernel, wish: Wish) -> None:
    first = device.attach(wish)
    os.close(first.served_fd or -1)
    other = replace(wish, identifier="pydrbd:drbd1:1")
    assert device.take_over(other, first.device, served=False) is None
    assert ("reconfigure", 0) not in kernel.asked


def test_a_device_that_is_held_open_is_not_taken_away(
    device: NbdDevice, kernel: FakeKernel, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> int:
        raise DeviceBusyError(f"{path} is held open: mounted on /opt")

    first = device.attach(wish)
    os.close(first.served_fd or -1)
    monkeypatch.setattr(openers, "claim", refuse)
    with pytest.raises(DeviceBusyError, match="mounted on /opt"):
        device.detach(wish, first.device, force=False)
    assert ("disconnect", 0) not in kernel.asked
    device.detach(wish, first.device, force=True)
    assert ("disconnect", 0) in kernel.asked


def test_a_host_without_the_driver_is_told_in_one_sentence(kernel: FakeKernel, wish: Wish) -> None:
    def absent() -> FakeKernel:
        raise OSError(errno.ENOENT, "no such family")

    with pytest.raises(DeviceError, match="does not answer"):
        NbdDevice(absent, kernel.sys).attach(wish)
