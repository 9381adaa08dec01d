"""The kernel's word that an nbd device has lost its socket: LINK_DEAD, told to the family's multicast group.

It is told in the host's own network namespace alone; elsewhere nothing ever comes. Reading does not block.
"""

from __future__ import annotations

import errno
import logging
import socket

from pyroute2.netlink import NETLINK_ADD_MEMBERSHIP, NETLINK_GENERIC, SOL_NETLINK
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from pydrbd.device.nbd_netlink import FAMILY, LINK_DEAD, NbdMessage

log = logging.getLogger(__name__)

GROUP = "nbd_mc_group"
MESSAGE_BYTES_MAX = 1 << 16


def listen() -> socket.socket:
    """Return a socket in the driver's group. Raises `OSError`."""
    with GenericNetlinkSocket() as asker:
        try:
            asker.bind(FAMILY, NbdMessage)
            group = asker.mcast_groups[GROUP]
        except NetlinkError as error:
            raise OSError(error.code, str(error)) from error
        except KeyError as error:
            raise OSError(errno.ENOENT, f"the nbd driver has no group {GROUP}") from error
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_GENERIC
    )
    try:
        sock.bind((0, 0))
        sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except OSError:
        sock.close()
        raise
    return sock


class DeadLink:
    """Hears of one device."""

    def __init__(self, index: int, sock: socket.socket) -> None:
        """`sock` is ours from now on."""
        self._index = index
        self._sock = sock

    def fileno(self) -> int:
        """Return what becomes readable when something was told."""
        return self._sock.fileno()

    def was_told(self) -> bool:
        """Take all that was told; say whether it was of our device. What got lost on the way may have been."""
        told = False
        while True:
            try:
                data = self._sock.recv(MESSAGE_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                return told
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                told = True
            else:
                told |= _is_of(data, self._index)

    def close(self) -> None:
        """Hear no more."""
        self._sock.close()


def _is_of(data: bytes, index: int) -> bool:
    message = NbdMessage(data)
    message.decode()
    return bool(message["cmd"] == LINK_DEAD and message.get_attr("NBD_ATTR_INDEX") == index)
