"""What the kind `ublk` does with the kernel's driver, which is a fake here."""

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pydrbd.device import openers, ublk, ublk_control
from pydrbd.device.kind import Attached, DeviceBusyError, DeviceError, Made, Wish
from pydrbd.device.ublk import UblkDevice, mark_of
from pydrbd.device.ublk_control import ANY, DEAD, LIVE, QUIESCED, Info, UblkControl

IDENTIFIER = "pydrbd:drbd0:1234"


class FakeDriver:
    """The driver: devices by number, with their nodes below `dev` and their sysfs below `sys`."""

    def __init__(self, root: Path) -> None:
        self.dev, self.sys = root / "dev", root / "sys"
        (self.sys / "class/ublk-char").mkdir(parents=True)
        self.dev.mkdir()
        (self.dev / "ublk-control").touch()
        self.devices: dict[int, Info] = {}
        self.taken: set[int] = set()
        self.features = 0x1FE
        self.asked: list[tuple[int, int]] = []
        self.busy_recoveries = 0
        self.refusals: dict[int, int] = {}

    def __call__(self, _fd: int, operation: int, number: int, buffer: bytearray, data: int) -> None:
        if operation == ublk_control.GET_FEATURES:
            buffer[:] = self.features.to_bytes(8, "little")
            return
        if operation == ublk_control.GET_DEV_INFO:
            self._inform(number, buffer)
            return
        self.asked.append((operation, number))
        self.data = data
        if operation in self.refusals:
            raise OSError(self.refusals[operation], "refused")
        if operation == ublk_control.ADD_DEV:
            self._add(number, buffer)
        elif operation == ublk_control.START_DEV:
            assert data == os.getpid()
            self._start(number)
        elif operation == ublk_control.STOP_DEV:
            self._become(number, DEAD)
        elif operation == ublk_control.DEL_DEV_ASYNC:
            del self.devices[number]
            (self.sys / f"class/ublk-char/ublkc{number}").rmdir()
        elif operation == ublk_control.START_USER_RECOVERY and self.busy_recoveries:
            self.busy_recoveries -= 1
            raise OSError(errno.EBUSY, "busy")
        elif operation == ublk_control.END_USER_RECOVERY:
            assert data == os.getpid()
            self._become(number, LIVE)

    def _inform(self, number: int, buffer: bytearray) -> None:
        if number not in self.devices:
            raise OSError(errno.ENODEV, "none")
        info = self.devices[number]
        buffer[:] = ublk_control.wanted(number, ublk.DEPTH, info.mark)
        buffer[4] = info.state

    def _add(self, number: int, buffer: bytearray) -> None:
        if number in self.taken or number in self.devices:
            raise OSError(errno.EEXIST, "taken")
        number = 7 if number == ANY else number
        buffer[12:16] = number.to_bytes(4, "little")
        self.devices[number] = Info.unpack(buffer)
        (self.dev / f"ublkc{number}").touch()
        (self.sys / f"class/ublk-char/ublkc{number}").mkdir()

    def _start(self, number: int) -> None:
        self._become(number, LIVE)
        (self.dev / f"ublkb{number}").touch()
        (self.sys / f"block/ublkb{number}/queue").mkdir(parents=True)
        for name in ublk.QUEUE:
            (self.sys / f"block/ublkb{number}/queue" / name).touch()

    def _become(self, number: int, state: int) -> None:
        self.devices[number] = replace(self.devices[number], state=state)

    def lose_server(self, number: int) -> None:
        """Have the daemon die."""
        self._become(number, QUIESCED)

    def count(self, operation: int) -> int:
        return sum(asked == operation for asked, _ in self.asked)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    monkeypatch.setattr(ublk, "GONE_S", 0.05)
    monkeypatch.setattr(ublk, "BUSY_S", 0.05)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return FakeDriver(tmp_path)


@pytest.fixture
def device(driver: FakeDriver) -> UblkDevice:
    return UblkDevice(UblkControl(driver, driver.dev / "ublk-control"), driver.dev, driver.sys)


@pytest.fixture
def wish(tmp_path: Path) -> Wish:
    return Wish("drbd0", IDENTIFIER, 64 << 20, 0, tmp_path)


def begun(made: Made | None) -> Attached:
    """Be the engine, then let the device start."""
    assert made is not None
    assert made.queue is not None
    assert not os.get_blocking(made.queue.fd)
    os.close(made.queue.fd)
    made.queue.start()
    return made.device


@pytest.fixture
def left(device: UblkDevice, driver: FakeDriver, wish: Wish) -> Iterator[Attached]:
    """A device whose daemon was killed."""
    attached = begun(device.attach(wish))
    driver.lose_server(0)
    return attached


def test_the_device_is_the_one_that_the_name_asks_for(device: UblkDevice, driver: FakeDriver, wish: Wish) -> None:
    made = device.attach(wish)
    assert driver.devices[0].state == DEAD  # until its queue is served
    assert begun(made) == Attached("ublk", "/dev/ublkb0", 64 << 20, IDENTIFIER)
    assert driver.devices[0].state == LIVE
    assert driver.devices[0].features == ublk_control.FEATURES


def test_one_tag_of_the_queue_stays_free_and_nothing_is_reordered(
    device: UblkDevice, driver: FakeDriver, wish: Wish
) -> None:
    begun(device.attach(wish))
    queue = driver.sys / "block/ublkb0/queue"
    found = {path.name: path.read_text() for path in queue.iterdir()}
    assert found == {"scheduler": "none", "nr_requests": "127", "io_timeout": "2000"}
    assert next(iter(ublk.QUEUE)) == "scheduler"


def test_a_number_that_stays_taken_is_left_for_another(device: UblkDevice, driver: FakeDriver, wish: Wish) -> None:
    driver.taken = {0}
    assert begun(device.attach(wish)).path == "/dev/ublkb7"
    assert driver.asked.count((ublk_control.ADD_DEV, 0)) > 1


def test_a_device_that_cannot_be_set_up_is_not_left(device: UblkDevice, driver: FakeDriver, wish: Wish) -> None:
    driver.refusals = {ublk_control.SET_PARAMS: errno.EINVAL}
    with pytest.raises(DeviceError, match="refused"):
        device.attach(wish)
    assert driver.devices == {}


def test_what_a_killed_daemon_left_is_cleared_before_and_nothing_else(
    device: UblkDevice, driver: FakeDriver, wish: Wish
) -> None:
    begun(device.attach(replace(wish, minor=4)))
    begun(device.attach(replace(wish, minor=5, identifier="pydrbd:other:9")))
    begun(device.attach(wish))
    assert sorted(driver.devices) == [0, 5]


def test_a_successor_takes_the_device_over_as_soon_as_the_driver_lets_it(
    device: UblkDevice, driver: FakeDriver, wish: Wish, left: Attached
) -> None:
    driver.busy_recoveries = 2
    made = device.take_over(wish, left, served=False)
    assert driver.count(ublk_control.START_USER_RECOVERY) == 3
    assert driver.devices[0].state == QUIESCED
    assert begun(made) == left
    assert driver.devices[0].state == LIVE
    assert driver.count(ublk_control.ADD_DEV) == 1


def test_a_driver_that_never_lets_it_is_named(
    device: UblkDevice, driver: FakeDriver, wish: Wish, left: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ublk, "PATIENCE_S", 0.05)
    driver.busy_recoveries = 1000
    with pytest.raises(DeviceError, match="/dev/ublkb0 cannot be taken over"):
        device.take_over(wish, left, served=False)


def test_what_is_not_ours_or_not_whole_is_not_taken_over(
    device: UblkDevice, driver: FakeDriver, wish: Wish, left: Attached
) -> None:
    assert device.take_over(replace(wish, identifier="pydrbd:drbd0:other"), left, served=False) is None
    assert device.take_over(replace(wish, size_bytes=1 << 20), left, served=False) is None
    driver.refusals = {ublk_control.START_USER_RECOVERY: errno.EINVAL}
    assert device.take_over(wish, left, served=False) is None
    driver.refusals = {}
    driver.devices[0] = replace(driver.devices[0], state=DEAD)
    assert device.take_over(wish, left, served=False) is None
    driver.devices[0] = replace(driver.devices[0], state=QUIESCED, mark=1)
    assert device.take_over(wish, left, served=False) is None
    del driver.devices[0]
    assert device.take_over(wish, left, served=False) is None
    assert driver.count(ublk_control.START_USER_RECOVERY) == 1


def test_it_is_written_out_before_it_is_stopped(
    device: UblkDevice, driver: FakeDriver, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = begun(device.attach(wish))
    claimed = os.open(driver.dev / "ublkb0", os.O_RDONLY)
    monkeypatch.setattr(openers, "claim", lambda _: claimed)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd) or driver.asked.append((0, fd)))
    device.detach(wish, attached, force=False)
    assert synced == [claimed]
    order = [operation for operation, _ in driver.asked]
    assert order.index(0) < order.index(ublk_control.STOP_DEV) < order.index(ublk_control.DEL_DEV_ASYNC)
    assert driver.devices == {}
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(claimed)


def test_who_has_it_open_keeps_it_until_force(
    device: UblkDevice, driver: FakeDriver, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = begun(device.attach(wish))

    def refuse(_path: str) -> int:
        raise DeviceBusyError("held open")

    monkeypatch.setattr(openers, "claim", refuse)
    with pytest.raises(DeviceBusyError):
        device.detach(wish, attached, force=False)
    assert driver.devices[0].state == LIVE
    device.detach(wish, attached, force=True)
    assert driver.devices == {}


def test_somebody_elses_device_is_not_detached(device: UblkDevice, driver: FakeDriver, wish: Wish) -> None:
    attached = begun(device.attach(wish))
    device.detach(replace(wish, identifier="pydrbd:other:9"), attached, force=True)
    assert driver.devices[0].state == LIVE


def test_what_is_missing_is_said(
    device: UblkDevice, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert device.missing() is None
    driver.features = 0x7F
    assert device.missing() == "the kernel's ublk driver lacks user recovery or user copy"
    monkeypatch.setattr(ublk, "_load_module", lambda: None)
    absent = UblkDevice(UblkControl(driver, tmp_path / "none"), driver.dev, driver.sys)
    assert absent.missing() == "the kernel has no ublk driver"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert device.missing() == "only root can make /dev/ublkb"


def test_the_mark_is_the_same_in_every_daemon(wish: Wish) -> None:
    assert mark_of(wish) == 0xDD52AB4ECE0621AE


def test_a_driver_that_can_resize_is_told_the_sectors(device: UblkDevice, driver: FakeDriver, wish: Wish) -> None:
    made = device.attach(wish)
    driver.features |= 1 << 10
    device.grow(replace(wish, size_bytes=128 << 20), made.device)
    assert driver.asked[-1] == (ublk_control.UPDATE_SIZE_COMMAND, 0)
    assert driver.data == (128 << 20) // 512
    driver.refusals[ublk_control.UPDATE_SIZE_COMMAND] = errno.EINVAL
    with pytest.raises(DeviceError, match="cannot be resized"):
        device.grow(wish, made.device)


def test_a_driver_that_cannot_resize_is_named_with_what_helps(
    device: UblkDevice, driver: FakeDriver, wish: Wish
) -> None:
    made = device.attach(wish)
    with pytest.raises(DeviceError, match=r"demoted and promoted again: it takes Linux 6\.16"):
        device.grow(wish, made.device)
    with pytest.raises(DeviceError, match="not ours any more"):
        device.grow(replace(wish, identifier="pydrbd:drbd0:other"), made.device)
    assert driver.count(ublk_control.UPDATE_SIZE_COMMAND) == 0
