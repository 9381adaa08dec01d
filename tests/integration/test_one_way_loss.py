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
from pair import SEED_CONFIGURATION, Pair

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
    """Two namespaces and a cable between them."""

    def __init__(self) -> None:
        self._names = {name: f"pydrbd-{name}-{os.getpid()}" for name in ADDRESSES}
        self._hardware: dict[str, str] = {}

    def plug(self) -> None:
        for name in self._names.values():
            ip("netns", "add", name)
        ends = {name: f"{name[0]}{os.getpid()}" for name in ADDRESSES}
        self._ends = ends
        first, second = self._names
        ip(
            *("link", "add", ends[first], "netns", self._names[first], "type", "veth"),
            *("peer", "name", ends[second], "netns", self._names[second]),
        )
        for name, address in ADDRESSES.items():
            inside = ("-n", self._names[name])
            ip(*inside, "link", "set", "lo", "up")
            ip(*inside, "link", "set", ends[name], "up")
            ip(*inside, "addr", "add", f"{address}/24", "dev", ends[name])
            self._hardware[name] = ip(*inside, "link", "show", ends[name]).split("link/ether ")[1].split()[0]

    def prefix(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._names[name])

    def swallow(self, sender: str) -> None:
        """All that `sender` says vanishes from now on."""
        self._set_neighbour(sender, NOBODY)

    def mend(self, sender: str) -> None:
        other = next(name for name in ADDRESSES if name != sender)
        self._set_neighbour(sender, self._hardware[other])

    def _set_neighbour(self, sender: str, hardware: str) -> None:
        other = next(address for name, address in ADDRESSES.items() if name != sender)
        words = ("neigh", "replace", other, "lladdr", hardware, "dev", self._ends[sender], "nud", "permanent")
        ip("-n", self._names[sender], *words)

    def unplug(self) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


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
