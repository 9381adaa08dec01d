"""The NBD room's own test server, compiled and run: what foreign and malicious clients are let loose on."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class NbdServer:
    """Where a server listens and what it promises. `handshake_s` is its deadline for the negotiation."""

    path: Path
    size_bytes: int
    handshake_s: float
    pid: int

    @property
    def uri(self) -> str:
        """Its address as libnbd and QEMU write it."""
        return f"nbd+unix:///?socket={self.path}"

    def resident_bytes(self) -> int:
        """Return how much memory the server has touched by now."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def compiled(folder: Path) -> Path:
    """Compile the server into `folder`. Skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    program = folder / "nbd_memory_server"
    sources = [*sorted((ROOT / "nbd").glob("*.c")), ROOT / "tests/c/nbd/memory_server.c"]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{ROOT / 'nbd'}"]
    subprocess.run([compiler, *flags, "-o", str(program), *map(str, sources)], check=True)
    return program


@contextmanager
def running(
    program: Path, path: Path, *options: str, size_bytes: int = 64 * MIB, handshake_s: float = 2.5
) -> Iterator[NbdServer]:
    """Run the server on the socket `path` for as long as the caller needs it."""
    arguments = [str(program), str(path), str(size_bytes), f"--handshake-ms={int(handshake_s * 1000)}", *options]
    process = subprocess.Popen(arguments)
    try:
        deadline = time.monotonic() + 10
        while not path.exists():
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.01)
        yield NbdServer(path, size_bytes, handshake_s, process.pid)
        assert process.poll() is None, f"the server died with {process.returncode}"
    finally:
        process.kill()
        process.wait()
