"""Castor and Pollux: two machines on one Ethernet, and on each of them a DRBD, the kernel's or ours.

Both kinds of node answer to the same words, so that a case can be said once for either. What a node says of itself is
read from where its users read it: /proc/drbd, or `pydrbd status --json`. Disks are compared on the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from vm.image import Image
from vm.machine import PATIENCE, CommandFailedError, GoneError, Machine, Result

RESOURCE = "drbd0"
MIB = 1 << 20
POLL_SECONDS = 0.3
ADDRESSES = {"castor": "10.0.0.1", "pollux": "10.0.0.2"}
WORKLOAD = "/usr/bin/python3 /usr/lib/guest/workload.py"
BACKING = "/dev/vdc"
SPARE_BYTES = 160 << 20
"""Of disks beside the first, at least: room for a slot of indexed metadata."""
PRELOADED = "/run/pydrbd-loaded.sock"
ADMIN = f"/run/pydrbd/{RESOURCE}/control.sock"

CONFIGURATION = """\
global { usage-count no; }
resource drbd0 {
  net {
    protocol PROTOCOL;
    ping-timeout 50;
    socket-check-timeout 5;
    NET
  }
  disk {
    DISK
  }
  device /dev/drbd0 minor 0;
  disk /dev/vdc;
  meta-disk META;
  on castor { address 10.0.0.1:7788; }
  on pollux { address 10.0.0.2:7788; }
}
"""


FIXED_RATE = "c-plan-ahead 0; resync-rate 200M;"


def configuration(net: str = "", disk: str = "", protocol: str = "C", meta: str = "internal") -> str:
    """Return the configuration of both nodes, with options of a case's own; `ping-timeout` suits an emulated
    machine. The speed of a resync is fixed and high unless `disk` says otherwise."""
    disk = disk if "c-plan-ahead" in disk else f"{FIXED_RATE} {disk}"
    text = CONFIGURATION.replace("NET", net).replace("DISK", disk).replace("META", meta)
    return text.replace("PROTOCOL", protocol)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node says of the resource, in 8.4's words; `out_of_sync_kib` as well."""

    connection: str
    role: str = "Unknown"
    peer_role: str = "Unknown"
    disk: str = "Diskless"
    peer_disk: str = "DUnknown"
    out_of_sync_kib: int = 0

    @property
    def in_sync(self) -> bool:
        """Whether both replicas are the same and writes go to both."""
        return (self.connection, self.disk, self.peer_disk) == ("Connected", "UpToDate", "UpToDate")


DOWN = Seen("Unconfigured")


class Node(Protocol):
    """A DRBD on a machine."""

    machine: Machine
    target: str
    """The device or export while primary."""

    def configure(self, text: str) -> None:
        """Take a configuration; the resource is down."""

    def ask(self, words: str, timeout_s: float = 120) -> Result:
        """Run the administrator's command; the exit code is the caller's to look at."""

    def tell(self, words: str, timeout_s: float = 120) -> str:
        """Run the administrator's command; raise when it fails."""

    def seen(self) -> Seen:
        """Return what the node says of itself."""

    def kill(self) -> None:
        """End the DRBD without a word to the peer where that is possible, and leave the machine usable."""

    def identifiers(self) -> str:
        """Return the generation identifiers as the command prints them."""

    def log(self) -> str:
        """Return the end of what it has logged."""


@dataclass(slots=True)
class KernelNode:
    """Linux's own DRBD 8.4.11."""

    machine: Machine
    target: str = "/dev/drbd0"

    def configure(self, text: str) -> None:
        """Write the file; load the module."""
        self.machine.put("/etc/drbd.conf", text)
        self.machine.run("modprobe drbd")

    def ask(self, words: str, timeout_s: float = 120) -> Result:
        """Run drbdadm on the resource."""
        return self.machine.try_run(f"drbdadm {words} {RESOURCE}", timeout_s)

    def tell(self, words: str, timeout_s: float = 120) -> str:
        """Run drbdadm on the resource."""
        return self.machine.run(f"drbdadm {words} {RESOURCE}", timeout_s)

    def seen(self) -> Seen:
        """Read /proc/drbd."""
        text = self.machine.run("cat /proc/drbd")
        found = re.search(r" 0: cs:(\S+) ro:(\w+)/(\w+) ds:(\w+)/(\w+) .*?oos:(\d+)", text, re.DOTALL)
        if found is None:
            standing = re.search(r" 0: cs:(\S+)", text)
            return Seen(standing[1]) if standing else DOWN
        return Seen(found[1], found[2], found[3], found[4], found[5], int(found[6]))

    def kill(self) -> None:
        """Take the resource down: a module cannot be killed; `Couple.crash` cuts the power."""
        self.machine.try_run(f"drbdsetup down {RESOURCE}")

    def identifiers(self) -> str:
        """Print them with drbdadm."""
        return self.tell("get-gi").strip()

    def log(self) -> str:
        """Return the end of the kernel's log."""
        return self.machine.try_run("dmesg | tail -n 50").out


@dataclass(slots=True)
class PydrbdNode:
    """Ours. `attach` is put into its configuration, which is otherwise the kernel's."""

    machine: Machine
    attach: str = "none"
    target: str = f"nbd+unix:///?socket=/run/pydrbd/{RESOURCE}/nbd.sock"

    def configure(self, text: str) -> None:
        """Write the file."""
        self.machine.put(
            "/etc/drbd.conf", text.replace("device /dev/drbd0", f"attach {self.attach};\n  device /dev/drbd0")
        )

    def ask(self, words: str, timeout_s: float = 120) -> Result:
        """Run pydrbd on the resource."""
        self.machine.wait_for_path(PRELOADED)
        answer = self.machine.ask(PRELOADED, json.dumps([*words.split(), RESOURCE]), timeout_s)
        return Result(*json.loads(answer)) if answer else Result(-1, "", "no answer", late=True)

    def tell(self, words: str, timeout_s: float = 120) -> str:
        """Run pydrbd on the resource."""
        result = self.ask(words, timeout_s)
        if result.code != 0:
            raise CommandFailedError(self.machine.name, f"pydrbd {words}", result)
        return result.out

    def seen(self) -> Seen:
        """Ask the daemon."""
        try:
            answer = self.machine.ask(ADMIN, json.dumps({"verb": "status", "arguments": {}}))
        except OSError:
            return DOWN
        if not answer:
            return DOWN
        raw = json.loads(answer)["data"]
        device, link = raw["devices"][0], raw["connections"][0]
        peer = (link.get("peer_devices") or [{}])[0]
        state = str(link["connection-state"])
        if state == "Connected":
            replication = str(peer.get("replication-state", "Off"))
            state = {"Established": "Connected"}.get(replication, replication)
        return Seen(
            {"Connecting": "WFConnection"}.get(state, state),
            str(raw["role"]),
            str(link.get("peer-role", "Unknown")),
            str(device["disk-state"]),
            str(peer.get("peer-disk-state", "DUnknown")),
            int(peer.get("out-of-sync", 0)),
        )

    def kill(self) -> None:
        """kill -9 the daemon."""
        self.machine.try_run(f"kill -9 $(cat /run/pydrbd/{RESOURCE}/pid) && sleep 0.3")

    def identifiers(self) -> str:
        """Print them."""
        return self.tell("get-gi").strip()

    def log(self) -> str:
        """Return the end of the daemon's log."""
        return self.machine.try_run(f"tail -n 60 /var/lib/pydrbd/{RESOURCE}.log /var/log/pydrbd/* 2>/dev/null").out


@dataclass(slots=True)
class Couple:
    """Both machines. A context manager: leaving it leaves nothing running and no disk."""

    image: Image
    directory: Path
    disk_bytes: int
    castor: Machine
    pollux: Machine
    nodes: dict[str, Node] = field(default_factory=dict)

    @classmethod
    def create(cls, image: Image, disk_bytes: int, disks: int = 2, memory_mib: int = 640) -> Couple:
        """Make sparse disks, in memory where that is possible, and two machines that are off."""
        base = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
        for left in base.glob("pydrbd-vm-*-*"):  # by a run that was killed
            if not Path("/proc", left.name.split("-")[2]).exists():
                shutil.rmtree(left, ignore_errors=True)  # another run may do the same
        directory = Path(tempfile.mkdtemp(prefix=f"pydrbd-vm-{os.getpid()}-", dir=base))
        machines = []
        for name, address in ADDRESSES.items():
            paths = tuple(directory / f"{name}-disk{number}" for number in range(disks))
            for path in paths:
                with path.open("wb") as file:
                    file.truncate(disk_bytes if path is paths[0] else max(disk_bytes, SPARE_BYTES))
            machines.append(Machine(name, address, directory, image, paths, memory_mib))
        return cls(image, directory, disk_bytes, *machines)

    @property
    def machines(self) -> tuple[Machine, Machine]:
        """Castor, then Pollux."""
        return self.castor, self.pollux

    def boot(self) -> None:
        """Switch on whatever is off or hangs, and wait for it."""
        booting = [machine for machine in self.machines if not machine.answers()]
        for machine in booting:
            machine.end()
            machine.boot()
        for machine in booting:
            try:
                machine.wait_ready()
            except (TimeoutError, GoneError) as error:
                # Seen on a very busy host: an emulated machine that resets itself before its agent answers. Once.
                print(f"booting {machine.name} again: {error}")
                machine.end()
                machine.boot()
                machine.wait_ready()

    def as_kind(self, castor: type[KernelNode | PydrbdNode], pollux: type[KernelNode | PydrbdNode]) -> None:
        """Say which DRBD is on which machine."""
        self.nodes = {"castor": castor(self.castor), "pollux": pollux(self.pollux)}

    def stop_all(self) -> None:
        """Take every DRBD down, of whatever kind it was."""
        for machine in self.machines:
            machine.try_run(
                f"umount -l /opt /srv 2>/dev/null; kill -9 $(cat /run/pydrbd/{RESOURCE}/pid 2>/dev/null) 2>/dev/null; "
                f"[ -e /proc/drbd ] && drbdsetup down {RESOURCE}; sleep 0.2; "
                "for pid in /sys/block/nbd*/pid; do [ -e $pid ] && nbd-client -d /dev/$(basename ${pid%/pid}); done; "
                f"blockdev --flushbufs {BACKING} /dev/vdd; "
                "[ -L /dev/drbd0 ] && rm /dev/drbd0; "
                f"rm -rf /var/lib/pydrbd /var/lib/drbd/* /run/pydrbd/{RESOURCE}"
            )

    def resize_disks(self, size_bytes: int) -> None:
        """Give every machine's first disk this size."""
        for machine in self.machines:
            if machine.disks[0].stat().st_size != size_bytes:
                machine.resize_disk(0, size_bytes)

    def disk(self, name: str) -> Path:
        """Return the file behind a machine's first disk."""
        return {"castor": self.castor, "pollux": self.pollux}[name].disks[0]

    def end(self) -> None:
        """Switch both off and remove their disks."""
        for machine in self.machines:
            machine.end()
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                path.unlink()
            self.directory.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()


def wait_until(condition: Callable[[], bool], what: Callable[[], str], timeout_s: float = 60) -> None:
    """Return as soon as `condition` holds; raise TimeoutError with what `what` says when it does not in time."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s * PATIENCE:.0f} s: {what()}")
        time.sleep(POLL_SECONDS)
