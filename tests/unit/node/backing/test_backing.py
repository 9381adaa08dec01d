"""A backing disk that comes late, and one that is an md set."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fakes.loop import run
from pydrbd.node.backing import disk_arrival, late_disk
from pydrbd.node.backing.disk_arrival import is_there, wait_for_disk
from pydrbd.node.backing.md_set import md_of


def test_a_disk_that_is_there_is_not_waited_for(tmp_path: Path):
    (tmp_path / "disk").touch()
    assert run(wait_for_disk(tmp_path / "disk", 0))


def test_a_disk_that_comes_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(disk_arrival, "POLL_S", 0.02)
    link, disk = tmp_path / "by-id", tmp_path / "disk"
    link.symlink_to(disk)

    async def body() -> bool:
        asyncio.get_running_loop().call_later(0.05, disk.touch)
        return await wait_for_disk(link, 5)

    assert run(body())


def test_a_disk_that_does_not_come_is_given_up(tmp_path: Path):
    assert not run(wait_for_disk(tmp_path / "disk", 0.05))
    assert not run(wait_for_disk(tmp_path / "disk", 0))


def test_a_disk_that_comes_and_is_refused_is_tried_again_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(late_disk, "POLL_S", 0.001)
    (tmp_path / "disk").touch()
    answers = ["in use by udev", "in use by udev", ""]
    tried: list[str] = []

    async def attach() -> str:
        tried.append(answers[0] if len(answers) == 1 else answers.pop(0))
        return tried[-1]

    late = late_disk.LateDisk("drbd0", [tmp_path / "disk", tmp_path / "disk"])
    assert not late.missing
    run(late.attach(attach))
    assert tried == ["in use by udev", "in use by udev", ""]
    answers[:] = ["no metadata"]
    tried.clear()
    run(late.attach(attach))
    assert len(tried) == late_disk.TRIES


@pytest.mark.skipif(not Path("/dev/loop7").is_block_device(), reason="there is no loop device to look at")
def test_a_block_device_without_a_size_is_not_there_yet():
    has_size = Path("/sys/block/loop7/size").read_text().strip() != "0"
    assert is_there(Path("/dev/loop7")) is has_size


def test_an_md_set_says_that_it_is_degraded(tmp_path: Path):
    number = Path("/dev/null").stat().st_rdev
    md = tmp_path / f"dev/block/{os.major(number)}:{os.minor(number)}/md"
    md.mkdir(parents=True)
    for name, text in {
        "level": "raid1", "raid_disks": "2", "degraded": "1", "array_state": "active", "sync_action": "recover"
    }.items():  # fmt: skip
        (md / name).write_text(text + "\n")
    assert md_of(Path("/dev/null"), tmp_path) == {
        "level": "raid1",
        "disks": 2,
        "degraded": 1,
        "array-state": "active",
        "sync-action": "recover",
    }


def test_a_file_is_no_md_set(tmp_path: Path):
    (tmp_path / "disk").touch()
    assert md_of(tmp_path / "disk") is None
    assert md_of(tmp_path / "none") is None
