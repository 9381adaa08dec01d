"""The messages to the kernel's nbd driver, byte by byte, as the uapi headers nbd-netlink.h and netlink.h have them."""

import errno
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from pydrbd.device import nbd, nbd_dead_link, nbd_netlink

NLMSG_HEADER = 16
FLAGS = 1 | 4 | 8 | 32 | 64  # HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES
SETTINGS = nbd.Settings(3, 64 << 20, 512, FLAGS, 86_400, "pydrbd:drbd0")


def payload(message: nbd_netlink.NbdMessage) -> bytes:
    """Return the message behind its netlink header: what the family sees."""
    message.encode()
    return bytes(message.data)[NLMSG_HEADER:]


def attribute(number: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, number) + value + b"\0" * (-length % 4)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def u64(value: int) -> bytes:
    return struct.pack("=Q", value)


def sockets(fd: int, nested: int) -> bytes:
    """SOCKETS(7) { SOCK_ITEM(1) { FD(1) u32 } }; the kernel takes the nests with NLA_F_NESTED and without."""
    return attribute(7 | nested, attribute(1 | nested, attribute(1, u32(fd))))


def with_and_without_nested(build: object) -> list[bytes]:
    return [build(0), build(0x8000)]  # type: ignore[operator]


def test_connect_says_size_flags_and_dead_time_out_and_one_socket() -> None:
    def expected(nested: int) -> bytes:
        return (
            bytes([1, 1, 0, 0])  # CONNECT, version 1
            + attribute(1, u32(3))
            + attribute(2, u64(64 << 20))
            + attribute(3, u64(512))
            + attribute(5, u64(0x6D))
            + attribute(8, u64(86_400))
            + attribute(10, b"pydrbd:drbd0\0")
            + sockets(9, nested)
        )

    assert payload(nbd_netlink.connect_message(SETTINGS, 9)) in with_and_without_nested(expected)


def test_connect_to_the_first_free_device_names_none() -> None:
    settings = nbd.Settings(None, 4096, 512, FLAGS, 1, "x")
    said = payload(nbd_netlink.connect_message(settings, 4))
    assert said[4:8] == struct.pack("=HH", 12, 2)  # the first attribute is the size


def test_reconfigure_never_says_a_size() -> None:
    def expected(nested: int) -> bytes:
        return bytes([3, 1, 0, 0]) + attribute(1, u32(0)) + attribute(10, b"pydrbd:drbd0\0") + sockets(12, nested)

    assert payload(nbd_netlink.reconfigure_message(0, "pydrbd:drbd0", 12)) in with_and_without_nested(expected)


@pytest.mark.parametrize(
    ("message", "command"), [(nbd_netlink.disconnect_message(5), 2), (nbd_netlink.status_message(5), 5)]
)
def test_disconnect_and_status_name_the_device(message: nbd_netlink.NbdMessage, command: int) -> None:
    assert payload(message) == bytes([command, 1, 0, 0]) + attribute(1, u32(5))


def test_the_kernels_list_of_devices_is_understood() -> None:
    device = attribute(1, attribute(1, u32(2)) + attribute(2, b"\1"))
    body = bytes([5, 1, 0, 0]) + attribute(9, device)
    data = struct.pack("=IHHII", NLMSG_HEADER + len(body), 0x20, 0, 1, 0) + body
    message = nbd_netlink.NbdMessage(data)
    message.decode()
    (item,) = message.get_attr("NBD_ATTR_DEVICE_LIST")["attrs"]
    assert item[1].get_attr("NBD_DEVICE_INDEX") == 2
    assert item[1].get_attr("NBD_DEVICE_CONNECTED") == 1


def link_dead(index: int) -> bytes:
    """LINK_DEAD as the kernel tells it: no flags, number and port 0, the index alone (drivers/block/nbd.c)."""
    body = bytes([4, 0, 0, 0]) + attribute(1, u32(index))
    return struct.pack("=IHHII", NLMSG_HEADER + len(body), 0x20, 0, 0, 0) + body


def test_a_dead_link_is_heard_of_once_and_only_for_the_own_device() -> None:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    watch = nbd_dead_link.DeadLink(3, ours)
    with kernel:
        assert not watch.was_told()
        kernel.send(link_dead(2))
        assert not watch.was_told()
        kernel.send(link_dead(3))
        kernel.send(link_dead(2))
        assert watch.was_told()
        assert not watch.was_told()
    watch.close()


def test_listening_joins_the_familys_group(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that every kernel has, in the place of nbd's.
    monkeypatch.setattr(nbd_dead_link, "FAMILY", "nlctrl")
    monkeypatch.setattr(nbd_dead_link, "GROUP", "notify")
    with nbd_dead_link.listen() as sock:
        memberships = sock.getsockopt(270, 9, 64)  # SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS
        assert any(memberships)
        assert not sock.getblocking()


def test_what_the_kernel_could_not_tell_may_have_been_of_the_own_device() -> None:
    class Overrun:
        answers: ClassVar = [OSError(errno.ENOBUFS, "overrun"), link_dead(2), BlockingIOError()]

        def recv(self, _: int) -> bytes:
            answer = self.answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return bytes(answer)

    assert nbd_dead_link.DeadLink(3, Overrun()).was_told()  # type: ignore[arg-type]


@pytest.mark.skipif(Path("/sys/module/nbd").is_dir(), reason="this kernel has the driver")
@pytest.mark.parametrize("ask", [nbd_netlink.NbdControl, nbd_dead_link.listen])
def test_a_kernel_without_the_driver_says_so(ask: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="No such file"):
        ask()
