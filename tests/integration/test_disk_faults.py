"""Goal: rows F12 to F14 of the fault matrix, on real daemons. Setup: castor's or pollux's disk fails on command.

PASS: the application sees no error and no long pause, what it was told is on a good disk, and a disk that is taken back
under load ends up the same as the other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.failing_disk import FailingDisk, missing
from helpers.nbd_client import NbdClient
from pair import RESOURCE, CommandError, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
DISK_BYTES = 32 * MIB
DATA_BYTES = 30 * MIB
LONGEST_STALL_S = 5.0
"""No timeout is waited for: a disk that fails says so at once. The rest is a busy machine."""

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

CONFIGURATION = """\
resource drbd0 {
  net { protocol C; }
  disk { al-extents 67; on-io-error ON_IO_ERROR; }
  device minor 0;
  meta-disk internal;
  on castor { disk DISK_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; address 127.0.0.2:PORT; }
}
"""


class FailingPair:
    """A pair in sync, castor primary, both disks ready to fail."""

    def __init__(self, pair: Pair, disks: dict[str, FailingDisk]) -> None:
        self.pair = pair
        self.disks = disks
        self.castor, self.pollux = pair.nodes
        self.written: dict[int, bytes] = {}
        self._random = random.Random(7)

    def write(self, client: NbdClient, seconds: float) -> float:
        """Write blocks at random for a while; return the longest time that one took."""
        longest, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            offset = self._random.randrange(DATA_BYTES // (4 * KIB)) * 4 * KIB
            data = self._random.randbytes(4 * KIB)
            begun = time.monotonic()
            client.write(offset, data)
            longest = max(longest, time.monotonic() - begun)
            self.written[offset] = data
        return longest

    def verify(self, client: NbdClient) -> None:
        """Every block holds what was last written, as the application sees it."""
        for offset, data in self.written.items():
            assert client.read(offset, len(data)) == data, f"at {offset}"

    def verify_on(self, node: Node) -> None:
        """Every block holds what was last written, on the disk of this node."""
        with self.disks[node.name].store.open("rb") as image:
            for offset, data in self.written.items():
                image.seek(offset)
                assert image.read(len(data)) == data, f"at {offset} on {node.name}"

    def wait_for_disk(self, node: Node, word: str) -> None:
        self.pair.wait_for(lambda: node.status().disk == word, f"{node.name}'s disk to be {word}")


def failing_pair(directory: Path, on_io_error: str) -> Iterator[FailingPair]:
    text = CONFIGURATION.replace("ON_IO_ERROR", on_io_error)
    with Pair.create(directory, DISK_BYTES, configuration=text) as pair:
        disks = {node.name: FailingDisk(node.disk) for node in pair.nodes}
        configuration = pair.castor.configuration
        configured = configuration.read_text(encoding="utf-8")
        for disk in disks.values():
            configured = configured.replace(f"disk {disk.store};", f"disk {disk.file};")
        configuration.write_text(configured, encoding="utf-8")
        with disks["castor"], disks["pollux"]:
            pair.create_metadata()
            pair.up()
            pair.first_sync()
            try:
                yield FailingPair(pair, disks)
            finally:
                for disk in disks.values():
                    disk.heal()
                pair.end()


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[FailingPair]:
    yield from failing_pair(tmp_path, "detach")


def test_f14_a_primary_whose_disk_refuses_writes_goes_on_by_its_peer_and_takes_the_disk_back(
    failing: FailingPair,
) -> None:
    castor, pollux = failing.castor, failing.pollux
    with NbdClient.connect(castor.nbd_socket) as client:
        failing.write(client, 0.5)
        failing.disks["castor"].fail_writes()
        assert failing.write(client, 2) < LONGEST_STALL_S
        client.flush()
        assert castor.status().disk == "Diskless"
        assert pollux.status().peer_disk == "Diskless"
        failing.verify(client)
        with pytest.raises(CommandError):
            castor.run("attach", RESOURCE)  # it still fails
        failing.disks["castor"].heal()
        failing.write(client, 0.5)
        castor.run("attach", RESOURCE)
        assert failing.write(client, 1) < LONGEST_STALL_S
        failing.pair.wait_in_sync()
        failing.write(client, 0.5)
        client.flush()
        failing.verify(client)
    for node in (castor, pollux):
        failing.verify_on(node)


def test_f14_a_read_error_is_served_by_the_peer(failing: FailingPair) -> None:
    with NbdClient.connect(failing.castor.nbd_socket) as client:
        failing.write(client, 0.5)
        failing.disks["castor"].fail_reads()
        failing.verify(client)
        failing.wait_for_disk(failing.castor, "Diskless")
        assert failing.write(client, 0.5) < LONGEST_STALL_S


def test_f12_a_secondary_whose_disk_refuses_writes_costs_the_primary_nothing(failing: FailingPair) -> None:
    castor, pollux = failing.castor, failing.pollux
    with NbdClient.connect(castor.nbd_socket) as client:
        failing.write(client, 0.5)
        failing.disks["pollux"].fail_writes()
        assert failing.write(client, 2) < LONGEST_STALL_S
        client.flush()
        assert pollux.status().disk == "Diskless"
        assert castor.status().peer_disk == "Diskless"
        failing.disks["pollux"].heal()
        pollux.run("attach", RESOURCE)
        assert failing.write(client, 1) < LONGEST_STALL_S
        failing.pair.wait_in_sync()
        client.flush()
    for node in (castor, pollux):
        failing.verify_on(node)


def test_f13_a_source_that_cannot_read_never_makes_its_target_good(failing: FailingPair) -> None:
    castor, pollux = failing.castor, failing.pollux
    pollux.run("disconnect", RESOURCE)
    with NbdClient.connect(castor.nbd_socket) as client:
        failing.write(client, 0.5)
    failing.disks["castor"].fail_reads()
    pollux.run("connect", RESOURCE)
    failing.wait_for_disk(castor, "Diskless")
    time.sleep(1)
    assert pollux.status().disk != "UpToDate"
    with pytest.raises(CommandError):
        pollux.run("primary", RESOURCE)


def test_detach_and_attach_by_hand_under_load(failing: FailingPair) -> None:
    castor = failing.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        for _ in range(2):
            assert failing.write(client, 0.3) < LONGEST_STALL_S
            castor.run("detach", RESOURCE)
            assert failing.write(client, 0.3) < LONGEST_STALL_S
            castor.run("attach", RESOURCE)
            assert failing.write(client, 0.3) < LONGEST_STALL_S
            failing.pair.wait_in_sync()
        client.flush()
    for node in failing.pair.nodes:
        failing.verify_on(node)


def test_pass_on_keeps_the_disk_and_reads_what_it_refused_from_the_peer(tmp_path: Path) -> None:
    for failing in failing_pair(tmp_path, "pass_on"):
        castor = failing.castor
        with NbdClient.connect(castor.nbd_socket) as client:
            failing.write(client, 0.5)
            failing.disks["castor"].fail_reads()
            failing.verify(client)
            failing.disks["castor"].heal()
            assert castor.status().disk == "Inconsistent"
            assert failing.write(client, 0.5) < LONGEST_STALL_S
            failing.verify(client)
