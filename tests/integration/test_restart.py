"""A planned restart under clients: `pydrbd restart` puts another program in the daemon's place, and nobody notices more
than a pause.

Setup: two nodes in sync, castor Primary; its clients use the NBD socket (`attach none`), a connection of their own
each.

PASS: fio, verifying what it wrote, goes on over the same connection with no error; no client is refused at the socket
at any moment; no block is copied for it; the process stays the same and the node Primary; both disks are equal in the
end.

PYDRBD_ROUNDS says how often the daemon is restarted.
"""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from helpers.nbd_client import WRITE, NbdClient
from pair import RESOURCE, CommandError, Node, Pair

MIB = 1 << 20
DISK_BYTES = 64 * MIB
ROUNDS = int(os.environ.get("PYDRBD_ROUNDS", "3"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair.create(tmp_path, DISK_BYTES) as both:
        both.create_metadata()
        both.up()
        both.first_sync()
        yield both


class Knocking:
    """Connects to a node's sockets without a pause, from a thread, and counts who was refused."""

    def __init__(self, node: Node) -> None:
        self.doors = [node.nbd_socket, node.nbd_socket.with_name("control.sock")]
        self.refused: list[str] = []
        self.let_in = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def _knock(self) -> None:
        while not self._ended.wait(0.005):
            for door in self.doors:
                try:
                    with socket.socket(socket.AF_UNIX) as sock:
                        sock.connect(str(door))
                        self.let_in += 1
                except OSError as error:
                    self.refused.append(f"{door.name}: {error}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()


def fio(node: Node, output: Path, seconds: int) -> list[str]:
    words = ["fio", "--name=verify", "--ioengine=nbd", f"--uri={node.uri}", "--rw=randwrite", "--bs=4k", "--size=16M"]
    words += ["--iodepth=16", "--fsync=64", "--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1"]
    words += ["--verify_state_save=0", "--time_based", f"--runtime={seconds}"]
    return [*words, f"--output={output}", "--output-format=json"]


def test_restarts_under_verified_writes_cost_a_pause_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    castor = pair.castor
    before, output = castor.pid(), tmp_path / "fio.json"
    with subprocess.Popen(fio(castor, output, seconds=5 * ROUNDS + 60)) as running, Knocking(castor) as knocking:
        for _ in range(ROUNDS):
            time.sleep(0.5)
            castor.run("restart", RESOURCE)
            assert castor.status().role == "Primary"
            pair.wait_in_sync()
        assert running.poll() is None, castor.log()
        running.terminate()
        assert running.wait(60) in {0, 128}
    (job,) = json.loads("{" + output.read_text().partition("{")[2])["jobs"]
    stall_ns = max(job[kind]["lat_ns"]["max"] for kind in ("write", "read", "sync"))
    print(f"{ROUNDS} restarts, the longest stall {stall_ns / 1e9:.2f} s, {knocking.let_in} clients let in")
    assert (job["error"], knocking.refused) == (0, [])
    assert knocking.let_in > ROUNDS
    assert castor.pid() == before
    assert len(castor.logged("the next program takes over")) == ROUNDS
    # Where both meet in time nothing is copied; a busy machine may be late, and then it is what was written meanwhile.
    assert castor.logged("No resync is needed: both have the same data generation")
    assert castor.logged("active extents out of sync") == []
    for node in pair.nodes:
        node.run("down", RESOURCE)
    assert pair.data_areas_differ(DISK_BYTES) is None


def test_a_primary_without_its_peer_goes_on_where_it_was(pair: Pair) -> None:
    castor, pollux = pair.nodes
    pollux.run("down", RESOURCE)
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(0, b"1" * 4096)
        castor.run("restart", RESOURCE)
        client.write(8192, b"2" * 4096)
        client.flush()
        assert client.read(0, 4096) == b"1" * 4096
    pollux.run("up", RESOURCE)
    pair.wait_in_sync()
    assert pollux.logged("Began resync as SyncTarget (will sync 8 KB")


def test_a_secondary_is_restarted_beside_its_primary(pair: Pair) -> None:
    castor, pollux = pair.nodes
    before = pollux.pid()
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(0, b"1" * 4096)
        pollux.run("restart", RESOURCE)
        client.write(4096, b"2" * 4096)
    pair.wait_in_sync()
    assert pollux.pid() == before
    assert pollux.status().role == "Secondary"


def test_frozen_clients_are_not_cut_off_for_a_restart(pair: Pair) -> None:
    castor = pair.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        castor.run("suspend-io", RESOURCE)
        client.submit(WRITE, 0, payload=b"1" * 4096)
        time.sleep(0.2)
        with pytest.raises(CommandError, match="not restarted: requests of its NBD clients have not ended"):
            castor.run("restart", RESOURCE)
        castor.run("resume-io", RESOURCE)
        assert client.receive()[1] == 0
        castor.run("restart", RESOURCE)
        assert client.read(0, 4096) == b"1" * 4096


def test_a_configuration_that_is_wrong_is_heard_of_and_changes_nothing(pair: Pair) -> None:
    castor = pair.castor
    before = castor.log()
    good = castor.configuration.read_text()
    castor.configuration.write_text(good.replace("protocol = C", "protocol = X"))
    with pytest.raises(CommandError, match="protocol"):
        castor.run("restart", RESOURCE)
    castor.configuration.write_text(good)
    assert (castor.status().role, castor.log()) == ("Primary", before)
