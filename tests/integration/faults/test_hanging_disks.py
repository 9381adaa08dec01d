"""Goal: rows F14 and F18 of the fault matrix for a disk that answers nothing: our own, and the peer's.

Setup: a pair in sync, castor primary; a disk's server is stopped. PASS: with `disk-timeout` an application waits no
longer than that, without one no longer than for a peer that stalls; what it was told is on the other disk; a disk that
wakes up is taken back and ends up the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.failing_disk import missing
from helpers.failing_pair import FailingPair, failing_pair
from helpers.nbd_client import NbdClient
from pair import RESOURCE

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

TIMEOUT_S = 2.0
EXPELLED_S = 6.0
SLACK_S = 2.5


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[FailingPair]:
    """Yield a pair whose disks have two seconds."""
    yield from failing_pair(tmp_path, disk="disk-timeout 20;")


def take_back(pair: FailingPair, name: str) -> None:
    """Let the disk answer again, and wait until the resync has made it good."""
    node = pair.castor if name == "castor" else pair.pollux
    pair.disks[name].heal()
    pair.pair.wait_for(lambda: node.try_run("attach", RESOURCE).returncode == 0, "the old requests to end")
    pair.pair.wait_in_sync()


@pytest.mark.parametrize("name", ["castor", "pollux"])
def test_f18_a_disk_that_hangs_is_given_up_after_its_timeout(timed: FailingPair, name: str) -> None:
    failed = timed.castor if name == "castor" else timed.pollux
    with NbdClient.connect(timed.castor.nbd_socket) as client:
        timed.write(client, 0.3)
        timed.disks[name].hang()
        assert TIMEOUT_S * 0.7 < timed.write(client, TIMEOUT_S + 2) < TIMEOUT_S + SLACK_S
        timed.wait_for_disk(failed, "Diskless")
        assert failed.logged("Local backing device failed to meet the disk-timeout")
        client.flush()
        timed.verify(client)
        assert timed.write(client, 0.5) < SLACK_S, "it waits once"
        assert failed.try_run("attach", RESOURCE).returncode != 0, "it still has our requests"
        take_back(timed, name)
        client.flush()
    for node in timed.pair.nodes:
        timed.verify_on(node)


def test_f18_a_hanging_disk_of_the_peer_costs_no_more_than_a_stalled_peer(tmp_path: Path) -> None:
    for untimed in failing_pair(tmp_path):
        with NbdClient.connect(untimed.castor.nbd_socket) as client:
            untimed.write(client, 0.3)
            untimed.disks["pollux"].hang()
            assert untimed.write(client, EXPELLED_S + 1) < EXPELLED_S + SLACK_S
            assert untimed.write(client, 1) < SLACK_S
            untimed.disks["pollux"].heal()
            untimed.pair.wait_in_sync()
            client.flush()
        for node in untimed.pair.nodes:
            untimed.verify_on(node)


def test_detach_force_does_not_wait_for_a_hanging_disk(tmp_path: Path) -> None:
    for untimed in failing_pair(tmp_path):
        castor = untimed.castor
        with NbdClient.connect(castor.nbd_socket) as client:
            untimed.write(client, 0.3)
            untimed.disks["castor"].hang()
            begun = time.monotonic()
            castor.run("detach", "--force", RESOURCE)
            assert time.monotonic() - begun < 5
            assert untimed.write(client, 0.5) < SLACK_S
            take_back(untimed, "castor")
            client.flush()
        for node in untimed.pair.nodes:
            untimed.verify_on(node)


def test_a_hanging_metadata_disk_keeps_neither_status_nor_the_peer_waiting(tmp_path: Path) -> None:
    for untimed in failing_pair(tmp_path, metadata_apart=True, net="ping-int 1; timeout 9;"):
        castor, pollux = untimed.castor, untimed.pollux
        castor.run("secondary", RESOURCE)
        untimed.metadata["pollux"].hang()
        with ThreadPoolExecutor() as beside:
            promoting = beside.submit(pollux.try_run, "primary", RESOURCE)
            for _ in range(4):
                time.sleep(1)
                begun = time.monotonic()
                assert pollux.status().connection == "Connected"
                assert time.monotonic() - begun < SLACK_S
                assert castor.status().connection == "Connected"
            assert not promoting.done(), "it is promoted when that is durable, and not before"
            untimed.metadata["pollux"].heal()
            assert promoting.result().returncode == 0
        assert untimed.pair.castor.status().in_sync


def test_a_hanging_metadata_disk_is_given_up_by_force(tmp_path: Path) -> None:
    for untimed in failing_pair(tmp_path, metadata_apart=True):
        castor, pollux = untimed.castor, untimed.pollux
        castor.run("secondary", RESOURCE)
        untimed.metadata["pollux"].hang()
        with ThreadPoolExecutor() as beside:
            promoting = beside.submit(pollux.try_run, "primary", RESOURCE)
            time.sleep(0.5)
            pollux.run("detach", "--force", RESOURCE)
            assert promoting.result().returncode != 0
            untimed.wait_for_disk(pollux, "Diskless")
            assert "still has requests" in pollux.try_run("attach", RESOURCE).stderr
            untimed.metadata["pollux"].heal()
        take_back(untimed, "pollux")
