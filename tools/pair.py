"""Castor and Pollux on one machine: two real nodes on two loopback addresses, driven through the `pydrbd` command.

The demonstration, the integration tests and the benchmarks use it. Everything lies under one directory. Every process
that was started is ended by its own id, whatever happened. Nothing here looks inside pydrbd: the command, the NBD
socket and the disks are all that a user has too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

RESOURCE = "drbd0"
ADDRESSES = {"castor": "127.0.0.1", "pollux": "127.0.0.2"}
PYDRBD = Path(sys.executable).parent / "pydrbd"
POLL_SECONDS = 0.05

SEED_CONFIGURATION = """\
resource drbd0 {
  protocol = C
  fsckcmd = /usr/bin/true

  on castor {
    device  = /dev/nb0
    disk    = DISK_OF_castor
    address = 127.0.0.1
    port    = PORT
  }

  on pollux {
    device  = /dev/nb0
    disk    = DISK_OF_pollux
    address = 127.0.0.2
    port    = PORT
  }
}
"""

INTERNAL_METADATA_CONFIGURATION = """\
resource drbd0 {
  net {
    protocol C;
  }
  disk {
    al-extents 67;
    c-max-rate 1G;
  }
  device    minor 0;
  meta-disk internal;
  on castor {
    disk    DISK_OF_castor;
    address 127.0.0.1:PORT;
  }
  on pollux {
    disk    DISK_OF_pollux;
    address 127.0.0.2:PORT;
  }
}
"""


def without_device(configuration: str) -> str:
    """Say `attach none`, unless the text says what it wants: a host with the nbd module would make real devices.

    The text has one resource, the last thing in it; its lines keep their numbers.
    """
    if re.search(r"\battach\b", configuration):
        return configuration
    old_dialect = re.search(r"^\s*disk\s*=", configuration, re.MULTILINE)
    line = "  attach = none\n" if old_dialect else "  attach none;\n"
    head, brace, tail = configuration.rpartition("}")
    return head + line + brace + tail


class CommandError(Exception):
    """A `pydrbd` command ended with an exit code other than 0."""

    def __init__(self, result: subprocess.CompletedProcess[str], node: str) -> None:
        words = " ".join(result.args[1:])
        super().__init__(f"{node}: pydrbd {words} exited with {result.returncode}: {result.stderr.strip()}")
        self.code = result.returncode
        self.stderr = result.stderr


@dataclass(slots=True)
class Status:
    """What `pydrbd status --json` says of the resource, by DRBD's own field names."""

    raw: dict[str, Any]

    @property
    def role(self) -> str:
        """Primary, Secondary or Unknown."""
        return str(self.raw["role"])

    @property
    def disk(self) -> str:
        """Our disk's state."""
        return str(self.raw["devices"][0]["disk-state"])

    @property
    def connection(self) -> str:
        """The connection's state, e.g. Connected."""
        return str(self.raw["connections"][0]["connection-state"])

    @property
    def peer_device(self) -> dict[str, Any]:
        """The volume as seen over the connection; empty where there is none."""
        devices = self.raw["connections"][0].get("peer_devices") or [{}]
        return dict(devices[0])

    @property
    def replication(self) -> str:
        """The replication state, e.g. Established."""
        return str(self.peer_device.get("replication-state", "Off"))

    @property
    def peer_disk(self) -> str:
        """The peer's disk state as we know it."""
        return str(self.peer_device.get("peer-disk-state", "DUnknown"))

    @property
    def in_sync(self) -> bool:
        """Whether both replicas are the same and writes go to both."""
        return (self.disk, self.peer_disk, self.replication) == ("UpToDate", "UpToDate", "Established")


@dataclass(slots=True)
class Node:
    """One node: its name, its disk, and where its daemon keeps its sockets."""

    name: str
    directory: Path
    configuration: Path
    disk: Path
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    @property
    def run_directory(self) -> Path:
        """Where the daemon keeps its sockets and its pid."""
        return self.directory / "run"

    @property
    def state_directory(self) -> Path:
        """Where the daemon keeps what is neither configuration nor metadata."""
        return self.directory / "state"

    @property
    def nbd_socket(self) -> Path:
        """The export, there while the node is primary."""
        return self.run_directory / RESOURCE / "nbd.sock"

    @property
    def uri(self) -> str:
        """The export's NBD URI."""
        return f"nbd+unix:///?socket={self.nbd_socket}"

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYDRBD_CONFIG": str(self.configuration),
            "PYDRBD_NODE": self.name,
            "PYDRBD_RUN_DIR": str(self.run_directory),
            "PYDRBD_STATE_DIR": str(self.state_directory),
            **self.environment,
        }

    def try_run(self, *arguments: str, timeout_s: float = 60, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `pydrbd` with `arguments` as this node; the exit code is the caller's to look at."""
        return subprocess.run(
            [*self.prefix, str(PYDRBD), *arguments],
            env=self._environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, *arguments: str, timeout_s: float = 60, stdin: str = "") -> str:
        """Run `pydrbd` with `arguments` as this node and return what it printed; raise CommandError when it fails."""
        result = self.try_run(*arguments, timeout_s=timeout_s, stdin=stdin)
        if result.returncode != 0:
            raise CommandError(result, self.name)
        return result.stdout

    def status(self) -> Status:
        """Ask the running daemon."""
        return Status(json.loads(self.run("status", "--json", RESOURCE))[0])

    def pid(self) -> int | None:
        """Return the daemon's process id while it is alive."""
        try:
            pid = int((self.run_directory / RESOURCE / "pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if _is_ours(pid, self.run_directory) else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the daemon a signal and wait until it is gone."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            wait_until(lambda: not _is_ours(pid, self.run_directory), f"the daemon of {self.name} to be gone", 10)

    def end(self) -> None:
        """Kill whatever was started for this node and is still there."""
        for entry in Path("/proc").iterdir():
            if (
                entry.name.isdigit()
                and int(entry.name) != os.getpid()
                and _is_ours(int(entry.name), self.run_directory)
            ):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)

    def logged(self, words: str) -> list[str]:
        """Return the sentences of the daemon's log that contain `words`, without time and level."""
        lines = (self.state_directory / f"{RESOURCE}.log").read_text(encoding="utf-8").splitlines()
        return [line.split(": ", 1)[1].split(" (rule:")[0] for line in lines if words in line]

    def log(self) -> str:
        """Return the end of what the daemon logged, for a failure's message."""
        logs = sorted(self.directory.rglob("*log*"))
        return "\n".join(f"--- {path}\n" + path.read_text(errors="replace")[-4000:] for path in logs if path.is_file())


def _is_ours(pid: int, run_directory: Path) -> bool:
    """Return whether the process lives and was started for the node with this run directory."""
    process = Path("/proc") / str(pid)
    try:
        environment = (process / "environ").read_bytes().split(b"\0")
        state = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return f"PYDRBD_RUN_DIR={run_directory}".encode() in environment and state != "Z"


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Return as soon as `condition` holds; raise TimeoutError, naming `what`, when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Return a TCP port that nobody uses on either node's address."""
    while True:
        # Below the range from which the kernel picks by itself.
        port = random.randrange(20000, 32000)
        try:
            for address in ADDRESSES.values():
                with socket.socket() as probe:
                    probe.bind((address, port))
        except OSError:
            continue
        return port


@dataclass(slots=True)
class Pair:
    """Both nodes of one resource. A context manager: leaving it ends both daemons."""

    directory: Path
    castor: Node
    pollux: Node

    @classmethod
    def create(
        cls, directory: Path, size_bytes: int, port: int | None = None, configuration: str = SEED_CONFIGURATION
    ) -> Pair:
        """Write the configuration and two sparse disks; PORT and DISK_OF_<node> in the text are replaced.

        There is no kernel device unless the text says `attach`.
        """
        nodes = []
        file = directory / "drbd.conf"
        text = without_device(configuration).replace("PORT", str(port or free_port()))
        for name in ADDRESSES:
            place = directory / name
            place.mkdir()
            disk = place / "disk"
            with disk.open("wb") as image:
                image.truncate(size_bytes)
            text = text.replace(f"DISK_OF_{name}", str(disk))
            nodes.append(Node(name, place, file, disk))
        file.write_text(text)
        return cls(directory, *nodes)

    @property
    def nodes(self) -> tuple[Node, Node]:
        """Castor, then Pollux."""
        return self.castor, self.pollux

    def peer_of(self, node: Node) -> Node:
        """Return the other one."""
        return self.pollux if node is self.castor else self.castor

    def create_metadata(self) -> None:
        """Write fresh metadata on both disks."""
        for node in self.nodes:
            node.run("create-md", "--force", RESOURCE)

    def up(self) -> None:
        """Start both daemons and wait until they have found each other."""
        for node in self.nodes:
            node.run("up", RESOURCE)
        self.wait_for(lambda: all(node.status().connection == "Connected" for node in self.nodes), "the connection")

    def first_sync(self) -> None:
        """Make castor's empty disk the good one and wait for the first full sync."""
        self.castor.run("primary", "--force", RESOURCE)
        self.wait_in_sync()

    def wait_in_sync(self, timeout_s: float = 120) -> None:
        """Wait until both replicas are the same and writes go to both."""
        self.wait_for(lambda: all(node.status().in_sync for node in self.nodes), "both disks UpToDate", timeout_s)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Do as `wait_until`, and add what both nodes say of themselves when it fails."""
        try:
            wait_until(condition, what, timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.report()}") from None

    def report(self) -> str:
        """Return both nodes' status and logs, for a failure's message."""
        parts = []
        for node in self.nodes:
            result = node.try_run("status", RESOURCE)
            parts += [f"=== {node.name} (pid {node.pid()})", result.stdout + result.stderr, node.log()]
        return "\n".join(parts)

    def data_areas_differ(self, data_bytes: int) -> int | None:
        """Return the offset of the first byte in which the two disks differ, or None."""
        with self.castor.disk.open("rb") as ours, self.pollux.disk.open("rb") as theirs:
            step = 1 << 20
            for offset in range(0, data_bytes, step):
                length = min(step, data_bytes - offset)
                left, right = ours.read(length), theirs.read(length)
                if left != right:
                    return offset + next(i for i in range(length) if left[i] != right[i])
        return None

    def end(self) -> None:
        """End both daemons, kindly first."""
        for node in self.nodes:
            if node.pid() is not None:
                with contextlib.suppress(subprocess.TimeoutExpired, OSError):
                    node.try_run("down", RESOURCE, timeout_s=10)
            node.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
