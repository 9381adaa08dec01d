"""What the next daemon knows of the device."""

from pathlib import Path

import pytest

from pydrbd.device.kind import Attached
from pydrbd.device.state_file import StateFile

DEVICE = Attached("fuse", "/dev/loop0", 1 << 20, "pydrbd:drbd0:1")


def test_the_next_daemon_finds_the_device(tmp_path: Path) -> None:
    StateFile(tmp_path).save(DEVICE)
    assert StateFile(tmp_path).load() == DEVICE
    StateFile(tmp_path).remove()
    assert StateFile(tmp_path).load() is None


def test_a_reboot_took_the_device_along(tmp_path: Path) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("one\n")
    StateFile(tmp_path, boot_id).save(DEVICE)
    boot_id.write_text("two\n")
    assert StateFile(tmp_path, boot_id).load() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"boot_id": 1}', '"x"'])
def test_a_file_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "device.json").write_text(text)
    assert StateFile(tmp_path).load() is None
