"""The words of Linux's ublk driver, as include/uapi/linux/ublk_cmd.h of Linux 6.12 has them, and who says them.

A command goes to `/dev/ublk-control` with a device's number, a buffer and a number of data. Only io_uring carries it,
so how it is carried is handed in: `Command`.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CONTROL = Path("/dev/ublk-control")
ANY = 0xFFFF_FFFF
"""For `add`: the first number that is free."""


def _read(number: int) -> int:
    return 2 << 30 | 32 << 16 | ord("u") << 8 | number


def _both(number: int) -> int:
    return _read(number) | 1 << 30


GET_DEV_INFO = _read(0x02)
ADD_DEV = _both(0x04)
START_DEV = _both(0x06)
STOP_DEV = _both(0x07)
SET_PARAMS = _both(0x08)
START_USER_RECOVERY = _both(0x10)
END_USER_RECOVERY = _both(0x11)
GET_FEATURES = _read(0x13)
DEL_DEV_ASYNC = _read(0x14)
UPDATE_SIZE_COMMAND = _both(0x15)

USER_RECOVERY = 1 << 3
USER_RECOVERY_REISSUE = 1 << 4
CMD_IOCTL_ENCODE = 1 << 6
USER_COPY = 1 << 7
UPDATE_SIZE = 1 << 10
"""Linux 6.16."""
FEATURES = USER_RECOVERY | USER_RECOVERY_REISSUE | CMD_IOCTL_ENCODE | USER_COPY
"""Requests wait for the next daemon, those in flight are given to it; payloads by read and write."""

DEAD, LIVE, QUIESCED = 0, 1, 2
"""Of a device: not started or stopped; served; its server is dead and requests wait."""

ATTRIBUTE_VOLATILE_CACHE = 1 << 2
ATTRIBUTE_FUA = 1 << 3
PARAMETERS_BASIC = 1 << 0
PARAMETERS_DISCARD = 1 << 1

SECTOR_SHIFT = 9
BLOCK_SHIFT = 12
"""The bitmap's block, 4 KiB: what the device calls its physical block. Smaller requests are taken."""
PAYLOAD_BYTES = 1 << 20
"""Of one request: one part for the engine."""
ZEROES_SECTORS = 1 << 18
"""Of one discard, 128 MiB: a longer one would keep others waiting."""

_INFO = struct.Struct("=4H2IiI2Q2I2Q")
_PARAMETERS = struct.Struct("=2I I4B2I2Q 4I2H")


class Command(Protocol):
    """Carries a command: see `core.ublk.ublk_command`."""

    def __call__(self, fd: int, operation: int, number: int, buffer: bytearray, data: int) -> None:
        """Return when it is done. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Info:
    """A device. `mark` is the server's own 64 bits, which the driver keeps."""

    number: int
    state: int
    pid: int
    features: int
    mark: int

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Info:
        """Read `struct ublksrv_ctrl_dev_info`."""
        _, _, state, _, _, number, pid, _, features, mark, *_ = _INFO.unpack(data)
        return cls(number, state, pid, features, mark)


def wanted(number: int, depth: int, mark: int) -> bytearray:
    """Return `struct ublksrv_ctrl_dev_info` for `ADD_DEV`: one queue."""
    return bytearray(_INFO.pack(1, depth, 0, 0, PAYLOAD_BYTES, number, 0, 0, FEATURES, mark, 0, 0, 0, 0))


def parameters(size_bytes: int, block_bytes: int = 1 << SECTOR_SHIFT) -> bytearray:
    """Return `struct ublk_params`: a disk with a cache that obeys flushes, and blocks to be discarded."""
    logical_shift = block_bytes.bit_length() - 1
    physical_shift = max(BLOCK_SHIFT, logical_shift)
    basic = (
        ATTRIBUTE_VOLATILE_CACHE | ATTRIBUTE_FUA,
        logical_shift,
        physical_shift,
        physical_shift,  # io_opt
        physical_shift,  # io_min
        PAYLOAD_BYTES >> SECTOR_SHIFT,
        0,  # chunk
        size_bytes >> SECTOR_SHIFT,
        0,  # virt_boundary
    )
    discard = (0, 1 << BLOCK_SHIFT, ZEROES_SECTORS, ZEROES_SECTORS, 1, 0)
    return bytearray(_PARAMETERS.pack(_PARAMETERS.size, PARAMETERS_BASIC | PARAMETERS_DISCARD, *basic, *discard))


class UblkControl:
    """The driver. All methods raise `OSError`; each opens the control device for itself."""

    def __init__(self, command: Command, path: Path = CONTROL) -> None:
        self._command = command
        self.path = path

    def features(self) -> int:
        """Return the bits of what the driver can do (Linux 6.5)."""
        buffer = bytearray(8)
        self._say(GET_FEATURES, 0, buffer)
        return int.from_bytes(buffer, "little")

    def add(self, number: int, depth: int, mark: int) -> Info:
        """Make a device that is not started yet. `EEXIST`: the number is taken."""
        buffer = wanted(number, depth, mark)
        self._say(ADD_DEV, number, buffer)
        return Info.unpack(buffer)

    def set_parameters(self, number: int, size_bytes: int, block_bytes: int = 1 << SECTOR_SHIFT) -> None:
        """Say how large it is and what it takes; before it is started."""
        self._say(SET_PARAMS, number, parameters(size_bytes, block_bytes))

    def start(self, number: int) -> None:
        """Let the block device appear. Waits until its queue is served, and reads from it."""
        self._say(START_DEV, number, bytearray(), os.getpid())

    def update_size(self, number: int, size_bytes: int) -> None:
        """Let it have another size, whoever has it open (`UPDATE_SIZE`)."""
        self._say(UPDATE_SIZE_COMMAND, number, bytearray(), size_bytes >> SECTOR_SHIFT)

    def stop(self, number: int) -> None:
        """Let the block device go. Waits for requests that are being served; later ones fail."""
        self._say(STOP_DEV, number, bytearray())

    def delete(self, number: int) -> None:
        """Stop it and forget it; its number is free when the last one has closed it."""
        self._say(DEL_DEV_ASYNC, number, bytearray())

    def info(self, number: int) -> Info | None:
        """Return what the driver knows of a device; None: there is none."""
        buffer = bytearray(_INFO.size)
        try:
            self._say(GET_DEV_INFO, number, buffer)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return Info.unpack(buffer)

    def start_recovery(self, number: int) -> None:
        """Forget the dead server. `EBUSY`: the driver has not noticed its death yet; `EINVAL`: there is no way back."""
        self._say(START_USER_RECOVERY, number, bytearray())

    def end_recovery(self, number: int) -> None:
        """Let requests come again, those that were in flight first. Waits until the queue is served."""
        self._say(END_USER_RECOVERY, number, bytearray(), os.getpid())

    def _say(self, operation: int, number: int, buffer: bytearray, data: int = 0) -> None:
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._command(fd, operation, number, buffer, data)
        finally:
            os.close(fd)
