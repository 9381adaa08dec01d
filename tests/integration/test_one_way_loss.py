"""Goal: row F9 of the fault matrix: a link that swallows one direction.

Setup: each node in a network namespace of its own, joined by a cable; castor primary, 4 KiB writes at depth 1. One
node is given a wrong hardware address for the other: all that it sends vanishes without an error. PASS: no write waits
longer than configured, none waits at all once the peer is dropped, and both are the same again after the cable is
mended.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import SEED_CONFIGURATION, Pair, wait_until

KIB = 1 << 10
MIB = 1 << 20
CONFIGURED_S = 6.0
SLACK_S = 2.5
AFTERWARDS_S = 1.0
ADDRESSES = {"castor": "10.213.7.1", "pollux": "10.213.7.2"}
NOBODY = "02:00:00:00:00:77"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip (iproute2)"),
]


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

    def unplug(self) -> None:
        """End the keepers: the namespaces and the cable go with the last process in them."""
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        made.plug()
    except subprocess.CalledProcessError as error:
        made.unplug()
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    yield made
    made.unplug()


@pytest.fixture
def joined(cable: Cable, tmp_path: Path) -> Iterator[Pair]:
    """Return a pair in sync over the cable; castor is primary."""
    text = SEED_CONFIGURATION.replace("127.0.0.1", ADDRESSES["castor"]).replace("127.0.0.2", ADDRESSES["pollux"])
    with Pair.create(tmp_path, 32 * MIB, configuration=text) as pair:
        for node in pair.nodes:
            node.prefix = cable.prefix(node.name)
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield pair


def stalls(client: NbdClient, seconds: float) -> list[float]:
    generator, took = random.Random(11), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        client.write(generator.randrange(20 * MIB // 4096) * 4096, generator.randbytes(4 * KIB))
        took.append(time.monotonic() - begun)
    return took


@pytest.mark.parametrize("sender", ["castor", "pollux"])
def test_f9_a_link_that_swallows_one_direction_costs_one_stall(cable: Cable, joined: Pair, sender: str) -> None:
    castor = joined.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        stalls(client, 0.5)
        cable.swallow(sender)
        took = stalls(client, CONFIGURED_S + SLACK_S + 3)
        assert max(took) < CONFIGURED_S + SLACK_S
        assert sorted(took)[-2] < AFTERWARDS_S, "more than one write waited"
        assert max(stalls(client, 3)) < AFTERWARDS_S
        assert castor.status().connection != "Connected"
        cable.mend(sender)
        joined.wait_in_sync()
        client.flush()
    assert joined.data_areas_differ(20 * MIB) is None
