"""Goal: rows F15 and F30 of the fault matrix, where it is not a replica that runs out of room: the daemon's own files,
and its descriptors. Setup: a pair in sync with writes going on.

PASS: no write fails, the peer has every one, and once there is room again everything works as before.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.nbd_client import NbdClient
from pair import RESOURCE, Node, Pair, wait_until

KIB = 1 << 10
FULL = "/dev/full"


@contextmanager
def no_free_descriptor(node: Node) -> Iterator[None]:
    """Let the daemon open nothing any more."""
    pid = node.pid()
    assert pid is not None
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    lowest_free = min(set(range(max(taken) + 2)) - taken)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def write_some(client: NbdClient, mark: int) -> None:
    for block in range(64):
        client.write(block * 64 * KIB, bytes([mark]) * 4 * KIB)
    client.flush()


def everything_is_on_both(pair: Pair, mark: int) -> bool:
    found = []
    for node in pair.nodes:
        with node.disk.open("rb") as disk:
            for block in range(64):
                disk.seek(block * 64 * KIB)
                found.append(disk.read(4 * KIB))
    return set(found) == {bytes([mark]) * 4 * KIB}


def test_f15_no_room_for_the_log_is_no_reason_to_stop(pair: Pair) -> None:
    for node in pair.nodes:
        node.state_directory.mkdir(exist_ok=True)
        (node.state_directory / f"{RESOURCE}.log").symlink_to(FULL)
    pair.up()
    pair.first_sync()
    castor, pollux = pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        write_some(client, 1)
        pollux.run("disconnect", RESOURCE)
        write_some(client, 2)
        pollux.run("connect", RESOURCE)
        pair.wait_in_sync()
    assert everything_is_on_both(pair, 2)


def test_f30_a_daemon_without_a_free_descriptor_goes_on_and_lets_everybody_in_later(synced_pair: Pair) -> None:
    castor, pollux = synced_pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        with no_free_descriptor(castor):
            write_some(client, 3)
            assert everything_is_on_both(synced_pair, 3)
            pollux.kill()
            write_some(client, 4)
            pollux.run("up", RESOURCE)
            write_some(client, 5)
            late = NbdClient.connect(castor.nbd_socket)
        with late:
            write_some(late, 6)
        synced_pair.wait_in_sync()
        wait_until(lambda: castor.status().connection == "Connected", "the peer")
        write_some(client, 7)
    assert everything_is_on_both(synced_pair, 7)
