"""How large the areas are that a thin resync discards."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pydrbd.node.backing.discard import granularity_bytes, rs_discard_sectors
from pydrbd.node.backing.disk_queue import logical_block_bytes

KIB = 1 << 10
BLOCK_DEVICE = 0o060600


@pytest.mark.parametrize(
    ("wanted_bytes", "granularity", "sectors"),
    [
        (0, 4 * KIB, 0),
        (64 * KIB, 4 * KIB, 128),
        (64 * KIB, 512, 128),
        (1, 512, 8),
        (5000, 4 * KIB, 16),
        (64 * KIB, 256 * KIB, 512),
        (300 * KIB, 256 * KIB, 1024),
        (1024 * KIB, 4 * KIB, 2048),
        (1024 * KIB, 768 * KIB, 1536),
        (64 * KIB, 4096 * KIB, 2048),
        (64 * KIB, 0, 128),
    ],
)
def test_an_area_is_as_large_as_wanted_as_far_as_the_disk_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted_bytes: int, granularity: int, sectors: int
) -> None:
    disk, sys = block_device(tmp_path, monkeypatch, granularity)
    assert rs_discard_sectors(wanted_bytes, disk, sys) == sectors


def block_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, granularity: int) -> tuple[Path, Path]:
    """Return a name that is taken for partition 8:3 of a disk, and its sysfs."""
    queue = tmp_path / "devices/sda/queue"
    queue.mkdir(parents=True)
    (queue / "discard_granularity").write_text(f"{granularity}\n")
    (queue / "logical_block_size").write_text("4096\n")
    (tmp_path / "devices/sda/sda3").mkdir()
    (tmp_path / "8:3").symlink_to("devices/sda/sda3")
    about = SimpleNamespace(st_mode=BLOCK_DEVICE, st_rdev=os.makedev(8, 3))
    disk = tmp_path / "sda3"
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **words: about if path == disk else real(path, **words))
    return disk, tmp_path


def test_a_file_and_a_device_that_tells_nothing_have_blocks(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch()
    assert granularity_bytes(file) == 4 * KIB
    assert granularity_bytes(tmp_path / "missing") == 4 * KIB


def test_the_smallest_request_is_the_disks_logical_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, sys = block_device(tmp_path, monkeypatch, 4 * KIB)
    assert logical_block_bytes(disk, sys) == 4 * KIB
    (tmp_path / "devices/sda/queue/logical_block_size").write_text("no number\n")
    assert logical_block_bytes(disk, sys) == 512
    assert logical_block_bytes(tmp_path / "missing") == 512


def test_a_file_is_as_the_disk_below_its_file_system(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.touch()
    about = file.stat()
    queue = tmp_path / f"{os.major(about.st_dev)}:{os.minor(about.st_dev)}/queue"
    queue.mkdir(parents=True)
    (queue / "logical_block_size").write_text("4096\n")
    assert logical_block_bytes(file, tmp_path) == 4 * KIB
