"""Messages of the kernel's nbd driver, by generic netlink (family `nbd`, version 1; linux/nbd-netlink.h), on pyroute2.

Values only, no policy: which device, when and why is `nbd.py`'s. The kernel's answers come back as numbers or as
`OSError`. All of it may block: the kernel has one lock for every generic netlink family.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg, nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from pydrbd.device.nbd import Settings

FAMILY = "nbd"
VERSION = 1
CONNECT = 1
DISCONNECT = 2
RECONFIGURE = 3
LINK_DEAD = 4
STATUS = 5


class NbdMessage(genlmsg):  # type: ignore[misc] # pyroute2's classes have no types
    """One message; the attributes' numbers are their positions here."""

    prefix = "NBD_ATTR_"
    nla_map = (
        ("NBD_ATTR_UNSPEC", "none"),
        ("NBD_ATTR_INDEX", "uint32"),
        ("NBD_ATTR_SIZE_BYTES", "uint64"),
        ("NBD_ATTR_BLOCK_SIZE_BYTES", "uint64"),
        ("NBD_ATTR_TIMEOUT", "uint64"),
        ("NBD_ATTR_SERVER_FLAGS", "uint64"),
        ("NBD_ATTR_CLIENT_FLAGS", "uint64"),
        ("NBD_ATTR_SOCKETS", "sockets"),
        ("NBD_ATTR_DEAD_CONN_TIMEOUT", "uint64"),
        ("NBD_ATTR_DEVICE_LIST", "devices"),
        ("NBD_ATTR_BACKEND_IDENTIFIER", "asciiz"),
    )

    class sockets(nla):  # type: ignore[misc] # noqa: N801 - the class's name is what nla_map says
        """A nest of one item for each socket."""

        prefix = "NBD_SOCK_"
        nla_map = (("NBD_SOCK_UNSPEC", "none"), ("NBD_SOCK_ITEM", "item"))

        class item(nla):  # type: ignore[misc] # noqa: N801
            """One socket."""

            prefix = "NBD_SOCK_"
            nla_map = (("NBD_SOCK_UNSPEC", "none"), ("NBD_SOCK_FD", "uint32"))

    class devices(nla):  # type: ignore[misc] # noqa: N801
        """A nest of one item for each device."""

        prefix = "NBD_DEVICE_"
        nla_map = (("NBD_DEVICE_UNSPEC", "none"), ("NBD_DEVICE_ITEM", "item"))

        class item(nla):  # type: ignore[misc] # noqa: N801
            """One device."""

            prefix = "NBD_DEVICE_"
            nla_map: ClassVar[Any] = (
                ("NBD_DEVICE_UNSPEC", "none"),
                ("NBD_DEVICE_INDEX", "uint32"),
                ("NBD_DEVICE_CONNECTED", "uint8"),
            )


def connect_message(settings: Settings, fd: int) -> NbdMessage:
    """Return CONNECT with one socket. No TIMEOUT: a request may take as long as it takes."""
    attributes: list[tuple[str, Any]] = [] if settings.index is None else [("NBD_ATTR_INDEX", settings.index)]
    attributes += [
        ("NBD_ATTR_SIZE_BYTES", settings.size_bytes),
        ("NBD_ATTR_BLOCK_SIZE_BYTES", settings.block_bytes),
        ("NBD_ATTR_SERVER_FLAGS", settings.server_flags),
        ("NBD_ATTR_DEAD_CONN_TIMEOUT", settings.dead_connection_timeout_s),
        ("NBD_ATTR_BACKEND_IDENTIFIER", settings.identifier),
        _one_socket(fd),
    ]
    return _message(CONNECT, attributes)


def reconfigure_message(index: int, identifier: str, fd: int) -> NbdMessage:
    """Return RECONFIGURE: a socket in the place of the dead one. Never with a size: the kernel would deadlock."""
    attributes = [("NBD_ATTR_INDEX", index), ("NBD_ATTR_BACKEND_IDENTIFIER", identifier), _one_socket(fd)]
    return _message(RECONFIGURE, attributes)


def resize_message(index: int, identifier: str, size_bytes: int) -> NbdMessage:
    """Return RECONFIGURE: another size, and no socket."""
    attributes = [
        ("NBD_ATTR_INDEX", index),
        ("NBD_ATTR_BACKEND_IDENTIFIER", identifier),
        ("NBD_ATTR_SIZE_BYTES", size_bytes),
    ]
    return _message(RECONFIGURE, attributes)


def disconnect_message(index: int) -> NbdMessage:
    """Return DISCONNECT."""
    return _message(DISCONNECT, [("NBD_ATTR_INDEX", index)])


def status_message(index: int) -> NbdMessage:
    """Return STATUS of one device."""
    return _message(STATUS, [("NBD_ATTR_INDEX", index)])


def _one_socket(fd: int) -> tuple[str, Any]:
    item = ("NBD_SOCK_ITEM", {"attrs": [("NBD_SOCK_FD", fd)]})
    return ("NBD_ATTR_SOCKETS", {"attrs": [item]})


def _message(command: int, attributes: list[tuple[str, Any]]) -> NbdMessage:
    message = NbdMessage()
    message["cmd"] = command
    message["version"] = VERSION
    message["attrs"] = attributes
    return message


class NbdControl:
    """The driver's control socket. A context manager. Raises `OSError`, ENOENT if there is no such driver."""

    def __init__(self) -> None:
        self._socket = GenericNetlinkSocket()
        try:
            self._socket.bind(FAMILY, NbdMessage)
        except NetlinkError as error:
            self._socket.close()
            raise OSError(error.code, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()

    def connect(self, settings: Settings, fd: int) -> int:
        """Return the index of the device. The kernel has its own reference to the socket then."""
        for answer in self._ask(connect_message(settings, fd)):
            index = answer.get_attr("NBD_ATTR_INDEX")
            if index is not None:
                return int(index)
        if settings.index is None:
            raise OSError(0, "the kernel does not say which device it is")
        return settings.index

    def reconfigure(self, index: int, identifier: str, fd: int) -> None:
        """Give the device a new socket. Success even if the kernel had no use for it: the caller looks."""
        self._ask(reconfigure_message(index, identifier, fd))

    def resize(self, index: int, identifier: str, size_bytes: int) -> None:
        """Give the device another size; returns when no request that began before is under way."""
        self._ask(resize_message(index, identifier, size_bytes))

    def disconnect(self, index: int) -> None:
        """Take the device down, whoever has it open."""
        self._ask(disconnect_message(index))

    def is_connected(self, index: int) -> bool:
        """Say whether anybody, be it an opener, has a reference to the device."""
        for answer in self._ask(status_message(index)):
            devices = answer.get_attr("NBD_ATTR_DEVICE_LIST")
            for name, item in devices["attrs"] if devices is not None else []:
                if name == "NBD_DEVICE_ITEM" and item.get_attr("NBD_DEVICE_INDEX") == index:
                    return bool(item.get_attr("NBD_DEVICE_CONNECTED"))
        return False

    def _ask(self, message: NbdMessage) -> list[Any]:
        flags = NLM_F_REQUEST | NLM_F_ACK
        try:
            return list(self._socket.nlm_request(message, msg_type=self._socket.prid, msg_flags=flags))
        except NetlinkError as error:
            raise OSError(error.code, str(error)) from error
