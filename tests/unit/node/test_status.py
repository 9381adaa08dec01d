"""Status in DRBD's words: the text byte for byte, the data by its field names, and how far a resync is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.resource import view_of, write_configuration
from pydrbd.core.engine import Counters
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.node.admin.progress import Progress
from pydrbd.node.admin.status import NEVER_S, Snapshot, as_data, as_text
from pydrbd.state.node_state import NodeState

CONNECTED = NodeState(
    role=Role.PRIMARY,
    disk=DiskState.UP_TO_DATE,
    size_sectors=16384,
    connection=ConnectionState.CONNECTED,
    replication=ReplicationState.ESTABLISHED,
    peer_role=Role.SECONDARY,
    peer_disk=DiskState.UP_TO_DATE,
    clients=1,
)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    counters = Counters(read_sectors=4, written_sectors=10, sent_sectors=20, pending=1, unacked=2, al_writes=3)
    return Snapshot(view_of(write_configuration(tmp_path)), CONNECTED, counters, 5000, io_name="io_uring")


def syncing(snapshot: Snapshot) -> Snapshot:
    """A resync of 2048 blocks, 512 left after four seconds."""
    progress = Progress(1000, 2048)
    state = replace(CONNECTED, replication=ReplicationState.SYNC_SOURCE, peer_disk=DiskState.INCONSISTENT)
    counters = replace(snapshot.counters, out_of_sync_bits=512)
    return replace(snapshot, state=state, counters=counters, progress=progress)


def test_text_of_a_healthy_pair(snapshot: Snapshot):
    assert as_text(as_data(snapshot)) == (
        "drbd0 role:Primary\n"
        "  disk:UpToDate\n"
        "  pollux role:Secondary\n"
        "    peer-disk:UpToDate\n"
    )  # fmt: skip


def test_text_without_a_peer(snapshot: Snapshot):
    alone = NodeState(disk=DiskState.OUTDATED, connection=ConnectionState.CONNECTING)
    assert as_text(as_data(replace(snapshot, state=alone))) == (
        "drbd0 role:Secondary\n"
        "  disk:Outdated\n"
        "  pollux connection:Connecting\n"
    )  # fmt: skip


def test_text_without_a_disk(snapshot: Snapshot):
    diskless = replace(CONNECTED, disk=DiskState.DISKLESS)
    assert "  disk:Diskless client:no\n" in as_text(as_data(replace(snapshot, state=diskless)))


def test_text_of_a_resync_has_percent_speed_and_time_left(snapshot: Snapshot):
    assert as_text(as_data(syncing(snapshot))) == (
        "drbd0 role:Primary\n"
        "  disk:UpToDate\n"
        "  pollux role:Secondary\n"
        "    replication:SyncSource peer-disk:Inconsistent done:75.00 dbdt1:1.50 eta:1\n"
    )  # fmt: skip


def test_text_of_a_paused_resync(snapshot: Snapshot):
    paused = syncing(snapshot)
    state = replace(paused.state, replication=ReplicationState.PAUSED_SYNC_S, user_paused=True, peer_paused=True)
    assert "resync-suspended:user,peer" in as_text(as_data(replace(paused, state=state)))


def test_verbose_text_with_statistics_is_wrapped_at_80_columns(snapshot: Snapshot):
    assert as_text(as_data(snapshot), verbose=True, statistics=True) == (
        "drbd0 node-id:0 role:Primary suspended:no force-io-failures:no\n"
        "    write-ordering:flush io:io_uring\n"
        "  volume:0 minor:0 disk:UpToDate quorum:yes open:yes\n"
        "      size:8192 read:2 written:5 al-writes:3 bm-writes:0 upper-pending:0\n"
        "      lower-pending:0 al-suspended:no blocked:no\n"
        "  pollux node-id:1 connection:Connected role:Secondary tls:no congested:no\n"
        "      ap-in-flight:1 rs-in-flight:0\n"
        "    volume:0 replication:Established peer-disk:UpToDate resync-suspended:no\n"
        "        received:0 sent:10 out-of-sync:0 pending:1 unacked:2\n"
    )


def test_data_has_drbds_names_and_units(snapshot: Snapshot):
    data = as_data(snapshot)
    assert (data["name"], data["role"], data["suspended"]) == ("drbd0", "Primary", False)
    (device,) = data["devices"]
    assert (device["disk-state"], device["size"], device["read"], device["written"]) == ("UpToDate", 8192, 2, 5)
    assert device["open"] is True
    (connection,) = data["connections"]
    assert (connection["name"], connection["connection-state"], connection["peer-role"]) == (
        "pollux",
        "Connected",
        "Secondary",
    )
    (path,) = connection["paths"]
    assert (path["this_host"]["address"], path["remote_host"]["address"]) == ("127.0.0.1", "127.0.0.2")
    (peer_device,) = connection["peer_devices"]
    assert peer_device["replication-state"] == "Established"
    assert peer_device["percent-in-sync"] == 100.0
    assert "percent-resync-done" not in peer_device


def test_data_of_a_resync_has_its_details(snapshot: Snapshot):
    peer_device = as_data(syncing(snapshot))["connections"][0]["peer_devices"][0]
    assert peer_device["has-sync-details"] is True
    assert peer_device["out-of-sync"] == 2048
    assert peer_device["percent-in-sync"] == 75.0
    assert peer_device["percent-resync-done"] == 75.0
    assert peer_device["rs-total"] == 16384
    assert peer_device["estimated-seconds-to-finish"] == 1


def test_a_resync_that_stands_still_has_no_end():
    progress = Progress(0, 100)
    progress.sample(1000, 100)
    assert progress.seconds_left(2000, 100) is None
    assert progress.percent_done(100) == 0.0


def test_time_left_follows_the_speed_of_the_last_seconds():
    progress = Progress(0, 10_000)
    for second in range(1, 31):
        # Fast at first, then ten blocks a second.
        progress.sample(second * 1000, 1000 - second * 10)
    assert progress.seconds_left(30_000, 700) == pytest.approx(70, rel=0.05)


def test_writes_that_the_peer_misses_during_a_resync_make_it_longer():
    progress = Progress(0, 100)
    progress.sample(1000, 150)
    assert progress.total_sectors == 1200
    assert progress.percent_done(150) == 0.0


def test_data_says_never_while_nothing_moves(snapshot: Snapshot):
    still = replace(syncing(snapshot), progress=Progress(5000, 512))
    peer_device = as_data(still)["connections"][0]["peer_devices"][0]
    assert peer_device["estimated-seconds-to-finish"] == NEVER_S
    assert "eta:nan" in as_text(as_data(still))


def test_a_degraded_md_set_below_is_seen_without_asking_for_more(snapshot: Snapshot):
    md = {"level": "raid1", "disks": 2, "degraded": 1, "array-state": "active", "sync-action": "recover"}
    data = as_data(replace(snapshot, md=md))
    assert data["devices"][0]["backing-md"] == md
    assert "  disk:UpToDate md:raid1 degraded:1 sync-action:recover\n" in as_text(data)
    whole = as_data(replace(snapshot, md=md | {"degraded": 0}))
    assert "md:" not in as_text(whole)
    assert "md:raid1 degraded:0" in as_text(whole, verbose=True)


def test_the_kernel_device_and_who_has_it_open(snapshot: Snapshot):
    device = {"kind": "nbd", "path": "/dev/nbd0", "size": 1024, "openers": ["mounted on /opt"], "reconnects": 1}
    device["names"] = ["/dev/nb0", "/dev/drbd/by-res/drbd0"]
    counters = replace(snapshot.counters, upper_pending=3)
    data = as_data(replace(snapshot, device=device, counters=counters))
    assert data["devices"][0]["kernel-device"] == device | {"requests": 3}
    assert (
        "      kernel-device:/dev/nbd0 attach:nbd size:1024 requests:3 reconnects:1\n"
        "      name:/dev/nb0\n      name:/dev/drbd/by-res/drbd0\n      open-by:mounted on /opt\n"
    ) in as_text(data, verbose=True)
    assert "kernel-device" not in as_text(as_data(replace(snapshot, device=device)))
    none = {"kind": "none", "problem": "no free loop device"}
    for verbose in (False, True):
        problem = as_text(as_data(replace(snapshot, device=none)), verbose=verbose)
        assert "kernel-device:none (no free loop device)" in problem
    assert "kernel-device" not in as_text(as_data(replace(snapshot, device={"kind": "none", "problem": ""})))


def test_a_backing_disk_that_has_grown_is_offered_to_resize(snapshot: Snapshot):
    data = as_data(replace(snapshot, grown_bytes=10 << 20))
    assert data["devices"][0]["backing-grown"] == 10240
    offer = "    the backing disk has grown by 10240 KiB; `pydrbd resize` uses it\n"
    assert offer in as_text(data)
    assert offer in as_text(data, verbose=True, statistics=True)
    assert "backing-grown" not in as_data(snapshot)["devices"][0]
