"""The messages to the kernel's ublk driver, byte by byte, as linux/ublk_cmd.h of Linux 6.12 has them."""

from pathlib import Path

import pytest

from pydrbd.device import ublk_control
from pydrbd.device.ublk_control import Info, UblkControl

INFO = bytes.fromhex(
    "0100"  # queues
    "8000"  # depth
    "0000"  # state
    "0000"
    "00001000"  # bytes of the largest payload
    "05000000"  # number
    "00000000"  # pid
    "00000000"
    "d800000000000000"  # features: recovery, reissue, encoded commands, user copy
    "8877665544332211"  # the server's own
    "0000000000000000"  # owner
    "00000000000000000000000000000000"
)
PARAMETERS = bytes.fromhex(
    "3c000000"  # length
    "03000000"  # basic, discard
    "0c000000"  # volatile cache, FUA
    "09"  # logical block 512
    "0c0c0c"  # physical block, io_opt, io_min 4096
    "00080000"  # sectors of one request
    "00000000"
    "0000020000000000"  # sectors of the device
    "0000000000000000"
    "00000000"  # discard: alignment
    "00100000"  # granularity
    "00000400"  # sectors of one discard
    "00000400"  # and of one write of zeroes
    "0100"
    "0000"
)


def test_the_numbers_of_the_commands_are_the_drivers() -> None:
    assert {
        "GET_DEV_INFO": 0x80207502,
        "ADD_DEV": 0xC0207504,
        "START_DEV": 0xC0207506,
        "STOP_DEV": 0xC0207507,
        "SET_PARAMS": 0xC0207508,
        "START_USER_RECOVERY": 0xC0207510,
        "END_USER_RECOVERY": 0xC0207511,
        "GET_FEATURES": 0x80207513,
        "DEL_DEV_ASYNC": 0x80207514,
        "UPDATE_SIZE_COMMAND": 0xC0207515,  # Linux 6.16
    }.items() <= vars(ublk_control).items()


def test_a_device_is_wanted_with_recovery_and_our_mark() -> None:
    assert ublk_control.wanted(5, 128, 0x1122334455667788) == INFO


def test_a_disk_says_its_size_its_cache_and_its_blocks() -> None:
    assert ublk_control.parameters(64 << 20) == PARAMETERS


def test_what_the_driver_says_of_a_device_is_understood() -> None:
    said = bytearray(INFO)
    said[4] = 2
    said[16:20] = (4711).to_bytes(4, "little")
    assert Info.unpack(said) == Info(5, ublk_control.QUIESCED, 4711, 0xD8, 0x1122334455667788)


def test_a_command_goes_to_the_control_device(tmp_path: Path) -> None:
    path = tmp_path / "ublk-control"
    path.touch()
    said: list[tuple[int, int, bytes, int]] = []

    def command(fd: int, operation: int, number: int, buffer: bytearray, data: int) -> None:
        assert Path(f"/proc/self/fd/{fd}").readlink() == path
        said.append((operation, number, bytes(buffer), data))
        if operation == ublk_control.GET_FEATURES:
            buffer[:] = b"\xfe\1\0\0\0\0\0\0"

    control = UblkControl(command, path)
    assert control.features() == 0x1FE
    control.set_parameters(3, 64 << 20)
    control.stop(3)
    assert said == [
        (0x80207513, 0, bytes(8), 0),
        (0xC0207508, 3, PARAMETERS, 0),
        (0xC0207507, 3, b"", 0),
    ]


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ublk-control"
    path.touch()

    def refuse(_fd: int, _operation: int, _number: int, _buffer: bytearray, _data: int) -> None:
        raise OSError(22, "Invalid argument")

    with pytest.raises(OSError, match="Invalid argument"):
        UblkControl(refuse, path).info(0)
