"""Goal: rows F12 to F14 of the fault matrix, on real daemons. Setup: castor's or pollux's disk fails on command.

PASS: the application sees no error and no long pause, what it was told is on a good disk, and a disk that is taken back
under load ends up the same as the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.failing_disk import missing
from helpers.failing_pair import LONGEST_STALL_S, FailingPair, failing_pair
from helpers.nbd_client import NbdClient
from pair import RESOURCE, CommandError, wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


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


@pytest.mark.parametrize("name", ["castor", "pollux"])
def test_a_block_that_cannot_be_read_is_mended_from_the_other_disk(tmp_path: Path, name: str) -> None:
    balanced = {"disk": "read-balancing prefer-remote;"} if name == "pollux" else {}
    for failing in failing_pair(tmp_path, **balanced):
        castor, disk = failing.castor, failing.disks[name]
        logged = next(each.logged for each in failing.pair.nodes if each.name == name)
        with NbdClient.connect(castor.nbd_socket) as client:
            failing.write(client, 0.5)
            offset = next(iter(failing.written))
            disk.fail_block(offset)
            failing.verify(client)
            wait_until(partial(logged, "mended with the peer's data"), "the block to be mended")
            assert not disk.has_bad_block
            assert logged(f"could not read 8 sectors at sector {offset // 512}:")
            assert failing.castor.status().in_sync
            assert failing.write(client, 0.3) < LONGEST_STALL_S
            failing.verify(client)
            client.flush()
        for node in failing.pair.nodes:
            failing.verify_on(node)


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
