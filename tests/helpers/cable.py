"""Two network namespaces and a cable between them, for links that lose, swallow or are slow."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from pair import wait_until

ADDRESSES = {"castor": "10.213.7.1", "pollux": "10.213.7.2"}
NOBODY = "02:00:00:00:00:77"


def missing(*tools: str) -> str:
    """Return why there can be no cable here, or nothing."""
    absent = [name for name in ("ip", *tools) if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)} (iproute2)"
    return "" if os.geteuid() == 0 else "needs root for network namespaces"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Cable:
    """Two network namespaces, each kept by a process that sleeps in it, and a cable between them.

    Nothing is mounted for them (as `ip netns add` would), so this works below a chroot, too.
    """

    def __init__(self) -> None:
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._ends = {name: f"{name[0]}{os.getpid()}" for name in ADDRESSES}
        self._hardware: dict[str, str] = {}

    def plug(self) -> None:
        ours = Path("/proc/self/ns/net").readlink()
        for name in ADDRESSES:
            self._keepers[name] = keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            wait_until(lambda pid=keeper.pid: Path(f"/proc/{pid}/ns/net").readlink() != ours, f"{name}'s namespace")
        first, second = ADDRESSES
        ip(
            *("link", "add", self._ends[first], "netns", str(self._keepers[first].pid), "type", "veth"),
            *("peer", "name", self._ends[second], "netns", str(self._keepers[second].pid)),
        )
        for name, address in ADDRESSES.items():
            self._ip(name, "link", "set", "lo", "up")
            self._ip(name, "link", "set", self._ends[name], "up")
            self._ip(name, "addr", "add", f"{address}/24", "dev", self._ends[name])
            shown = self._ip(name, "link", "show", self._ends[name])
            self._hardware[name] = shown.split("link/ether ")[1].split()[0]

    def prefix(self, name: str) -> tuple[str, ...]:
        return ("nsenter", f"--net=/proc/{self._keepers[name].pid}/ns/net")

    def _ip(self, name: str, *words: str) -> str:
        command = [*self.prefix(name), "ip", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def swallow(self, sender: str) -> None:
        """All that `sender` says vanishes from now on."""
        self._set_neighbour(sender, NOBODY)

    def mend(self, sender: str) -> None:
        other = next(name for name in ADDRESSES if name != sender)
        self._set_neighbour(sender, self._hardware[other])

    def _set_neighbour(self, sender: str, hardware: str) -> None:
        other = next(address for name, address in ADDRESSES.items() if name != sender)
        words = ("neigh", "replace", other, "lladdr", hardware, "dev", self._ends[sender], "nud", "permanent")
        self._ip(sender, *words)

    def throttle(self, sender: str, mbit_s: int) -> None:
        """`sender` gets no more through the cable from now on; what does not fit is lost, and TCP sends it again."""
        shape = ("rate", f"{mbit_s}mbit", "burst", "64kb", "latency", "50ms")
        command = ["tc", "qdisc", "replace", "dev", self._ends[sender], "root", "tbf", *shape]
        subprocess.run([*self.prefix(sender), *command], check=True, capture_output=True, text=True)

    def unplug(self) -> None:
        """End the keepers: the namespaces and the cable go with the last process in them."""
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()
