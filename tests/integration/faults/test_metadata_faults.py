"""Goal: rows F14 and F15 of the fault matrix where it is not a block that fails but metadata, an fsync, or room.

Setup: a pair in sync, castor primary; either node's metadata lie on a disk of their own. PASS: the disk is given up,
whatever `on-io-error` says, an fsync is not asked a second time, and verified writes go on by the other node's disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.failing_disk import missing
from helpers.failing_pair import LONGEST_STALL_S, MIB, FailingPair, failing_pair
from helpers.nbd_client import NbdClient
from pair import RESOURCE

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[FailingPair]:
    """Yield a pair that would keep a disk with bad blocks."""
    yield from failing_pair(tmp_path, "pass_on", metadata_apart=True)


@pytest.mark.parametrize("name", ["castor", "pollux"])
def test_f14_metadata_that_cannot_be_written_cost_the_disk_even_with_pass_on(apart: FailingPair, name: str) -> None:
    failed = apart.castor if name == "castor" else apart.pollux
    with NbdClient.connect(apart.castor.nbd_socket) as client:
        apart.write(client, 0.3, within_bytes=MIB)  # the rest is not in the activity log
        apart.metadata[name].fail_writes()
        if failed is apart.pollux:
            apart.castor.run("invalidate-remote", RESOURCE)
        assert apart.write(client, 1) < LONGEST_STALL_S
        apart.wait_for_disk(failed, "Diskless")
        client.flush()
        apart.verify(client)
        apart.metadata[name].heal()
        failed.run("attach", RESOURCE)
        assert apart.write(client, 0.5) < LONGEST_STALL_S
        apart.pair.wait_in_sync()
        client.flush()
    for node in apart.pair.nodes:
        apart.verify_on(node)


@pytest.mark.parametrize("name", ["castor", "pollux"])
def test_f14_an_fsync_that_failed_is_not_asked_again(apart: FailingPair, name: str) -> None:
    failed = apart.castor if name == "castor" else apart.pollux
    with NbdClient.connect(apart.castor.nbd_socket) as client:
        apart.write(client, 0.3)
        client.flush()
        apart.disks[name].fail_syncs()
        apart.write(client, 0.3)
        client.flush()
        apart.wait_for_disk(failed, "Diskless")
        assert len(failed.logged("The backing disk failed: flush")) == 1
        apart.disks[name].heal()
        assert apart.write(client, 0.3) < LONGEST_STALL_S
        client.flush()
        assert failed.status().disk == "Diskless", (
            "a disk that lost what it had promised is not trusted again by itself"
        )
        failed.run("attach", RESOURCE)
        apart.pair.wait_in_sync()
        client.flush()
    for node in apart.pair.nodes:
        apart.verify_on(node)


@pytest.mark.parametrize("name", ["castor", "pollux"])
def test_f15_a_thin_disk_without_room_is_a_disk_that_fails(tmp_path: Path, name: str) -> None:
    for thin in failing_pair(tmp_path, error="ENOSPC"):
        failed = thin.castor if name == "castor" else thin.pollux
        with NbdClient.connect(thin.castor.nbd_socket) as client:
            thin.write(client, 0.3)
            thin.disks[name].fail_writes()
            assert thin.write(client, 1) < LONGEST_STALL_S
            thin.wait_for_disk(failed, "Diskless")
            assert failed.logged("The backing disk failed")[0].endswith("error 28")
            client.flush()
            thin.verify(client)
            thin.disks[name].heal()
            failed.run("attach", RESOURCE)
            thin.pair.wait_in_sync()
            client.flush()
        for node in thin.pair.nodes:
            thin.verify_on(node)
