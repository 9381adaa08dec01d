"""The pid file is the lock; a stale one is replaced; the starter hears how the start went."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pydrbd.node.process import PidFile, Readiness, StartError


def test_the_second_daemon_is_told_who_the_first_is(tmp_path: Path):
    first = PidFile.acquire(tmp_path / "pid", "drbd0")
    with pytest.raises(StartError, match=f"drbd0 is already up: its daemon has pid {os.getpid()}") as caught:
        PidFile.acquire(tmp_path / "pid", "drbd0")
    assert caught.value.exit_code == 10
    first.release()
    assert not (tmp_path / "pid").exists()
    PidFile.acquire(tmp_path / "pid", "drbd0").release()


def test_the_file_of_a_killed_daemon_is_replaced(tmp_path: Path):
    (tmp_path / "pid").write_text("1234567890123\n")
    lock = PidFile.acquire(tmp_path / "pid", "drbd0")
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_directory_that_is_missing_is_said(tmp_path: Path):
    with pytest.raises(StartError, match="No such file or directory"):
        PidFile.acquire(tmp_path / "none" / "pid", "drbd0")


BACKGROUND = """
import os, sys, time
from pydrbd.node.process import StartError, go_to_background
readiness = go_to_background()
what = sys.argv[1]
if what == "up":
    open(sys.argv[2], "w").write(str(os.getpid()))
    readiness.up()
elif what == "refused":
    readiness.failed(StartError("drbd0: no metadata", 10))
"""


@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [
        ("up", 0, ""),
        ("refused", 10, "drbd0: no metadata\n"),
        ("dies", 20, "the daemon died at its start; see its log\n"),
    ],
)
def test_the_starter_hears_how_it_went(tmp_path: Path, what: str, code: int, sentence: str):
    command = [sys.executable, "-c", BACKGROUND, what, str(tmp_path / "pid")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (result.returncode, result.stderr) == (code, sentence)
    if what == "up":
        assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_systemd_hears_that_the_daemon_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Readiness(None).up()
        assert systemd.recv(100).decode().splitlines() == ["READY=1", f"MAINPID={os.getpid()}"]
