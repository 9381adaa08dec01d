"""The stand-alone server over a file, started by a foreign client and by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pydrbd.core._core", exc_type=ImportError, reason="the core is not built")
PYDRBD = Path(sys.executable).parent / "pydrbd"
SIZE = 1 << 20


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(SIZE))
    return path


@needs("nbdinfo")
def test_a_client_starts_it_by_socket_activation(image: Path):
    command = ["nbdinfo", "--size", "[", str(PYDRBD), "nbd-file", str(image), "]"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, str(SIZE)), result.stderr


@needs("nbdcopy")
def test_what_is_copied_in_comes_out(image: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    copy.write_bytes(bytes(SIZE))
    served = ["[", str(PYDRBD), "nbd-file", str(copy), "]"]
    subprocess.run(["nbdcopy", "--flush", str(image), *served], timeout=30, check=True)
    assert copy.read_bytes() == image.read_bytes()


@needs("nbdinfo")
def test_on_its_own_socket_it_serves_until_told(image: Path, tmp_path: Path):
    path = tmp_path / "nbd.sock"
    command = [str(PYDRBD), "nbd-file", "--read-only", "--socket", str(path), str(image)]
    info = ["nbdinfo", "--json", f"nbd+unix:///?socket={path}"]
    with subprocess.Popen(command) as server:
        try:
            deadline = time.monotonic() + 20
            # The name is there a moment before anybody listens.
            while (asked := _run(info)).returncode and time.monotonic() < deadline:
                time.sleep(0.01)
            assert '"is_read_only": true' in asked.stdout, asked.stderr
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
        finally:
            server.kill()
    assert not path.exists()


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_file_that_is_missing_is_said(tmp_path: Path):
    command = [str(PYDRBD), "nbd-file", "--socket", str(tmp_path / "s"), str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode != 0
    assert result.stderr == f"{tmp_path}/none does not exist\n"
