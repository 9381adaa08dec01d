"""Commands to the kernel's ublk driver, which takes them by io_uring alone: the compiled core hands them over."""

from __future__ import annotations

from pydrbd.core.binding import Binding, check, load


def ublk_command(fd: int, operation: int, number: int, buffer: bytearray, data: int) -> None:
    """Give `/dev/ublk-control`, open as `fd`, a command and wait for its end, however long that takes.

    `buffer` goes in and comes out. `number`: the device's. Raises `OSError` with the driver's refusal, or the kernel's
    if it has no such ring.
    """
    send(load(), fd, (operation, number, data), buffer)


def send(binding: Binding, fd: int, words: tuple[int, int, int], buffer: bytearray) -> None:
    """Do it; `words`: operation, number, data."""
    operation, number, data = words
    place = binding.ffi.from_buffer("uint8_t[]", buffer, require_writable=True) if buffer else binding.ffi.NULL
    check(binding.lib.core_ublk_control(fd, operation, number, place, len(buffer), data), "ublk")
