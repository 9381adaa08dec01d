"""What the daemon asks of the kernel for its memory, and what it says when that is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from pydrbd.node.kernel import memory


def proc(directory: Path, locked_kib: int) -> Path:
    (directory / "status").write_text(f"Name:\tpydrbd\nVmLck:\t{locked_kib:8d} kB\nVmPin:\t       0 kB\n")
    return directory


def test_locked_memory_is_counted(tmp_path: Path):
    assert memory.unlocked(64 << 20, proc(tmp_path, 65536)) is None
    assert "64 MiB are not locked" in str(memory.unlocked(64 << 20, proc(tmp_path, 8192)))


def test_the_oom_killer_looks_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_become_io_flusher", lambda: True)
    assert memory.protect(tmp_path) == []
    assert (tmp_path / "oom_score_adj").read_text() == "-1000"


def test_what_is_refused_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_become_io_flusher", lambda: False)
    troubles = memory.protect(tmp_path / "none")
    assert len(troubles) == 2
    assert "PR_SET_IO_FLUSHER was refused" in troubles[0]
    assert "oom_score_adj" in troubles[1]


def test_the_flag_is_set_or_refused_by_the_kernel_itself():
    """In a process of its own: it cannot be taken back without the capability."""
    program = (
        "import ctypes\n"
        "from pydrbd.node.kernel import memory\n"
        "was_set = memory._become_io_flusher()\n"
        "libc = ctypes.CDLL(None)\n"
        "zero = ctypes.c_ulong(0)\n"
        "assert (libc.prctl(58, zero, zero, zero, zero) == 1) == was_set\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
