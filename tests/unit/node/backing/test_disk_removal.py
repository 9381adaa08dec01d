"""A disk that is removed, as the kernel says it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fakes.loop import run
from pydrbd.node.backing import disk_removal
from pydrbd.node.backing.disk_removal import DiskRemoval, removed_device

REMOVED = (
    b"remove@/devices/pci0000:00/0000:00:06.0/virtio3/block/vdc\0ACTION=remove\0"
    b"DEVPATH=/devices/pci0000:00/0000:00:06.0/virtio3/block/vdc\0SUBSYSTEM=block\0MAJOR=254\0MINOR=32\0"
    b"DEVNAME=vdc\0DEVTYPE=disk\0DISKSEQ=15\0SEQNUM=1234\0"
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    numbers = {"vdc": (254, 32), "vdd": (254, 48)}
    monkeypatch.setattr(disk_removal, "_number_of", lambda path: numbers.get(path.name))
    return []


def test_only_a_block_device_that_goes_is_one() -> None:
    assert removed_device(REMOVED) == (254, 32)
    assert removed_device(REMOVED.replace(b"ACTION=remove", b"ACTION=change")) is None
    assert removed_device(REMOVED.replace(b"SUBSYSTEM=block", b"SUBSYSTEM=virtio")) is None
    assert removed_device(REMOVED.replace(b"MAJOR=254\0", b"")) is None
    assert removed_device(b"\xff\0=\0libudev") is None


def test_the_disk_in_use_is_told_once_and_others_are_not(told: list[Path]) -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)

    async def body() -> None:
        removal = DiskRemoval(told.append, lambda: ours)
        removal.watch([Path("/dev/vdc"), Path("/var/lib/metadata")])
        for message in (REMOVED.replace(b"MINOR=32", b"MINOR=33"), REMOVED, REMOVED):
            kernel.send(message)
        await asyncio.sleep(0.01)
        assert told == [Path("/dev/vdc")]
        removal.watch([Path("/dev/vdd")])  # another disk was attached
        kernel.send(REMOVED)
        kernel.send(REMOVED.replace(b"MINOR=32", b"MINOR=48"))
        await asyncio.sleep(0.01)
        assert told == [Path("/dev/vdc"), Path("/dev/vdd")]
        removal.close()
        removal.close()

    run(body())
    kernel.close()


def test_for_files_nobody_listens(told: list[Path]) -> None:
    def refuse() -> socket.socket:
        raise AssertionError

    async def body() -> None:
        removal = DiskRemoval(told.append, refuse)
        removal.watch([Path("/var/lib/disk")])
        removal.close()

    run(body())


def test_without_the_kernels_messages_the_daemon_goes_on(told: list[Path]) -> None:
    def refuse() -> socket.socket:
        raise PermissionError(1, "no netlink here")

    async def body() -> None:
        removal = DiskRemoval(told.append, refuse)
        removal.watch([Path("/dev/vdc")])
        removal.close()

    run(body())
    assert told == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the kernel sends to the group, or root by a uevent of its own")
def test_what_a_process_sends_is_not_the_kernels_word(told: list[Path]) -> None:
    try:
        ours = disk_removal.listen()
        liar = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, disk_removal.KOBJECT_UEVENT)
    except OSError as error:
        pytest.skip(f"no such netlink here: {error}")

    async def body() -> None:
        removal = DiskRemoval(told.append, lambda: ours)
        removal.watch([Path("/dev/vdc")])
        liar.sendto(REMOVED, (ours.getsockname()[0], 0))
        await asyncio.sleep(0.05)
        removal.close()

    with liar:
        run(body())
    assert told == []
