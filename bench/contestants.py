"""Who is measured: each a context manager that yields the NBD URI of a replicated device and ends what it started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pair import Pair, free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "bench"
MIB = 1 << 20


@dataclass(slots=True)
class Place:
    """Where a contestant runs: its directory in memory, the size of each replica, and what pins its processes."""

    directory: Path
    size_bytes: int
    prefix: tuple[str, ...] = ()
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def disk(self, name: str) -> Path:
        """Return a file whose pages are all there, so that nobody pays for their first touch."""
        path = self.directory / name
        fill(path, self.size_bytes)
        return path

    def start(self, stack: ExitStack, *command: str | Path, **environment: str) -> None:
        """Start a process that ends with `stack`."""
        log = stack.enter_context((self.directory / f"{Path(command[0]).name}.log").open("ab"))
        process = subprocess.Popen(
            [*self.prefix, *map(str, command)], env=os.environ | environment, stdout=log, stderr=log
        )
        stack.callback(process.wait)
        stack.callback(process.kill)


def fill(path: Path, size_bytes: int) -> None:
    """Write zeroes over the whole file."""
    with path.open("wb") as image:
        for _ in range(size_bytes // MIB):
            image.write(bytes(MIB))


def listening(port: int) -> bool:
    """Return whether somebody listens on the loopback port, without connecting."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in Path("/proc/net/tcp").read_text(encoding="ascii")


@contextmanager
def pydrbd(place: Place) -> Iterator[str]:
    """Two nodes as installed, in sync, castor primary."""
    with Pair.create(place.directory, place.size_bytes) as pair:
        for node in pair.nodes:
            fill(node.disk, place.size_bytes)
            node.prefix = place.prefix
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield pair.castor.uri


@contextmanager
def floor(place: Place) -> Iterator[str]:
    """Our floor: see peers/floor.c."""
    port, export = free_port(), place.directory / "floor.sock"
    with ExitStack() as stack:
        place.start(stack, BUILT / "floor", "replica", place.disk("replica"), str(port))
        wait_until(lambda: listening(port), "the replica")
        arguments = (place.disk("local"), str(port), export, str(place.size_bytes))
        place.start(stack, BUILT / "floor", "primary", *arguments)
        wait_until(export.exists, "the floor's export")
        yield f"nbd+unix:///?socket={export}"


class Qmp:
    """QEMU's monitor: one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.lines = self.sock.makefile("rw", encoding="utf-8")
        self.lines.readline()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - whatever QEMU returns
        """Execute a command and return its result; raise RuntimeError with QEMU's words."""
        self.lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def _blockdev(file: Path, name: str) -> list[str]:
    return [
        "--blockdev",
        f"driver=file,filename={file},node-name={name}-file,cache.direct=on,aio=io_uring",
        "--blockdev",
        f"driver=raw,file={name}-file,node-name={name},cache.direct=on",
    ]


@contextmanager
def mirror(place: Place) -> Iterator[str]:
    """Run qemu-storage-daemon's blockdev-mirror, write-blocking; its replica is behind NBD on TCP with TCP_NODELAY."""
    port, export, monitor = free_port(), place.directory / "qsd.sock", place.directory / "qmp.sock"
    nodelay = {"LD_PRELOAD": str(BUILT / "nodelay.so")}
    with ExitStack() as stack:
        replica = ["--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"]
        replica += ["--export", "type=nbd,id=r,node-name=replica,writable=on,name=r"]
        disk = place.disk("replica")
        place.start(stack, "qemu-storage-daemon", *_blockdev(disk, "replica"), *replica, **nodelay)
        wait_until(lambda: listening(port), "the replica's NBD server")
        remote = f"driver=nbd,node-name=remote,server.type=inet,server.host=127.0.0.1,server.port={port},export=r"
        primary = ["--blockdev", remote, "--chardev", f"socket,path={monitor},server=on,wait=off,id=m"]
        primary += ["--monitor", "chardev=m", "--nbd-server", f"addr.type=unix,addr.path={export}"]
        place.start(stack, "qemu-storage-daemon", *_blockdev(place.disk("local"), "local"), *primary, **nodelay)
        wait_until(monitor.exists, "the monitor")
        time.sleep(0.2)
        qmp = Qmp(monitor)
        qmp.call("block-export-add", type="nbd", id="e", **{"node-name": "local"}, writable=True, name="e")
        options = {"job-id": "m", "copy-mode": "write-blocking"}
        qmp.call("blockdev-mirror", device="local", target="remote", sync="none", **options)
        wait_until(lambda: qmp.call("query-jobs")[0]["status"] == "ready", "the mirror to be ready")
        yield f"nbd+unix:///e?socket={export}"


CONTESTANTS: dict[str, Callable[[Place], Any]] = {"pydrbd": pydrbd, "mirror": mirror, "floor": floor}
