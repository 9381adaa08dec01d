"""Goal: `on-congestion` of protocol A. Setup: a pair in sync; the peer takes nothing for a while, as a slow link would.

PASS: with `pull-ahead` no write waits, the peer is Behind meanwhile, and both come back by themselves with equal disks;
with `disconnect` the connection ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import RESOURCE, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
CONFIGURATION = """\
resource drbd0 {
  net { protocol A; on-congestion POLICY; congestion-fill 256k; }
  device minor 0;
  meta-disk internal;
  on castor { disk DISK_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; address 127.0.0.2:PORT; }
}
"""
STOPPED_S = 3.0
PATIENCE_S = 1.5
"""Nothing is waited for; the rest is a busy machine."""


def congested_pair(directory: Path, policy: str) -> Iterator[Pair]:
    with Pair.create(directory, 64 * MIB, configuration=CONFIGURATION.replace("POLICY", policy)) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield pair


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """Let the node take nothing for a while."""
    pid = node.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def longest_write(client: NbdClient, seconds: float) -> float:
    """Write for a while, faster than the peer takes it; return the longest time that one write took."""
    generator, longest, end = random.Random(5), 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        client.write(generator.randrange(1600) * 32 * KIB, generator.randbytes(32 * KIB))
        longest = max(longest, time.monotonic() - begun)
    return longest


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Pair]:
    yield from congested_pair(tmp_path, "pull-ahead")


@pytest.fixture
def disconnecting(tmp_path: Path) -> Iterator[Pair]:
    yield from congested_pair(tmp_path, "disconnect")


def replication(node: Node) -> str:
    return str(node.status().raw["connections"][0]["peer_devices"][0]["replication-state"])


def test_pull_ahead_lets_no_write_wait_and_comes_back(ahead: Pair) -> None:
    castor, pollux = ahead.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        with stopped(pollux):
            assert longest_write(client, STOPPED_S) < PATIENCE_S
            assert replication(castor) == "Ahead"
        ahead.wait_for(lambda: pollux.logged("has pulled ahead: we are Behind") != [], "pollux to be Behind")
        ahead.wait_in_sync()
        assert castor.logged("The congestion is over")
        assert castor.logged("Lost pollux") == []
        client.flush()
    castor.run("secondary", RESOURCE)
    ahead.wait_in_sync()
    assert ahead.data_areas_differ(56 * MIB) is None


def test_disconnect_ends_the_connection(disconnecting: Pair) -> None:
    castor, pollux = disconnecting.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        with stopped(pollux):
            longest_write(client, 1)
            disconnecting.wait_for(lambda: castor.status().connection == "StandAlone", "castor to be alone")
        disconnecting.wait_for(lambda: pollux.status().connection == "Connecting", "pollux to notice")
        castor.run("connect", RESOURCE)
        disconnecting.wait_in_sync()
