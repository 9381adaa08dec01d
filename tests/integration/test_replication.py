"""Goal: the main job works between two real daemons. PASS: what each test's name says, seen from outside."""

import random
import time

import pytest

from helpers.nbd_client import FLAG_FUA, NbdClient
from pair import RESOURCE, CommandError, Node, Pair

KIB = 1 << 10
MIB = 1 << 20


def disk_holds(node: Node, offset: int, data: bytes) -> bool:
    with node.disk.open("rb") as image:
        image.seek(offset)
        return image.read(len(data)) == data


def test_the_first_promotion_makes_the_other_disk_a_copy(pair: Pair) -> None:
    with pair.castor.disk.open("r+b") as image:
        image.seek(MIB)
        image.write(b"here before pydrbd" * 1000)
    pair.up()
    assert {node.status().disk for node in pair.nodes} == {"Inconsistent"}
    pair.first_sync()
    assert disk_holds(pair.pollux, MIB, b"here before pydrbd" * 1000)
    assert pair.castor.status().role == "Primary"
    assert pair.pollux.status().role == "Secondary"


def test_a_write_is_on_both_disks_when_it_is_acknowledged(synced_pair: Pair) -> None:
    generator = random.Random(1)
    with NbdClient.connect(synced_pair.castor.nbd_socket) as client:
        for length in (512, 4 * KIB, 68 * KIB, MIB, 5 * MIB):
            offset = generator.randrange(0, 40 * MIB, 512)
            data = generator.randbytes(length)
            client.write(offset, data, FLAG_FUA)
            for node in synced_pair.nodes:
                assert disk_holds(node, offset, data), f"{length} bytes at {offset} on {node.name}"


def test_there_is_no_device_on_a_secondary(synced_pair: Pair) -> None:
    assert not synced_pair.pollux.nbd_socket.exists()
    assert synced_pair.castor.nbd_socket.stat().st_mode & 0o777 == 0o600


def test_a_second_primary_is_refused(synced_pair: Pair) -> None:
    with pytest.raises(CommandError) as refusal:
        synced_pair.pollux.run("primary", RESOURCE)
    assert refusal.value.code == 11
    assert synced_pair.pollux.status().role == "Secondary"


def test_a_primary_in_use_does_not_become_secondary(synced_pair: Pair) -> None:
    with NbdClient.connect(synced_pair.castor.nbd_socket) as client:
        with pytest.raises(CommandError) as refusal:
            synced_pair.castor.run("secondary", RESOURCE)
        assert refusal.value.code == 11
        client.write(0, bytes(4 * KIB))
    synced_pair.wait_for(
        lambda: synced_pair.castor.try_run("secondary", RESOURCE).returncode == 0, "castor to become secondary"
    )


def test_a_disk_that_was_never_good_is_not_promoted_without_force(pair: Pair) -> None:
    pair.up()
    with pytest.raises(CommandError) as refusal:
        pair.castor.run("primary", RESOURCE)
    assert refusal.value.code == 17


def test_the_other_node_takes_over_and_the_first_gets_only_what_it_missed(synced_pair: Pair) -> None:
    before, after = random.Random(2).randbytes(MIB), random.Random(3).randbytes(MIB)
    with NbdClient.connect(synced_pair.castor.nbd_socket) as client:
        client.write(0, before)
    synced_pair.castor.kill()
    synced_pair.wait_for(
        lambda: synced_pair.pollux.try_run("primary", RESOURCE).returncode == 0, "pollux to become primary"
    )
    with NbdClient.connect(synced_pair.pollux.nbd_socket) as client:
        assert client.read(0, MIB) == before
        client.write(32 * MIB, after)
        received = int(synced_pair.pollux.status().peer_device.get("sent", 0))
        synced_pair.castor.run("up", RESOURCE)
        synced_pair.wait_in_sync()
        copied_kib = int(synced_pair.pollux.status().peer_device["sent"]) - received
    assert disk_holds(synced_pair.castor, 32 * MIB, after)
    # The hot extent of the first write (4 MiB) and the second write; not the 64 MiB of the disk.
    assert MIB // KIB <= copied_kib <= 9 * MIB // KIB


def test_a_crash_without_a_write_costs_no_resync_and_no_wait(synced_pair: Pair) -> None:
    synced_pair.castor.kill()
    synced_pair.wait_for(
        lambda: synced_pair.pollux.try_run("primary", RESOURCE).returncode == 0, "pollux to become primary"
    )
    synced_pair.castor.run("up", RESOURCE)
    synced_pair.wait_in_sync(timeout_s=8)
    assert int(synced_pair.castor.status().peer_device["received"]) == 0


def test_writes_go_on_without_the_peer_and_during_the_resync(synced_pair: Pair) -> None:
    generator = random.Random(4)
    with NbdClient.connect(synced_pair.castor.nbd_socket) as client:
        synced_pair.pollux.kill()
        wanted = {}
        for offset in range(0, 48 * MIB, MIB):
            wanted[offset] = generator.randbytes(256 * KIB)
            client.write(offset, wanted[offset])
        synced_pair.pollux.run("up", RESOURCE)
        deadline = time.monotonic() + 60
        while not synced_pair.castor.status().in_sync:
            assert time.monotonic() < deadline
            offset = generator.choice(sorted(wanted))
            wanted[offset] = generator.randbytes(256 * KIB)
            client.write(offset, wanted[offset])
        client.flush()
    for node in synced_pair.nodes:
        assert all(disk_holds(node, offset, data) for offset, data in wanted.items())


def test_roles_swap_without_a_copy(synced_pair: Pair) -> None:
    castor, pollux = synced_pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(0, b"a" * 4096)
    castor.run("secondary", RESOURCE)
    pollux.run("primary", RESOURCE)
    with NbdClient.connect(pollux.nbd_socket) as client:
        assert client.read(0, 4096) == b"a" * 4096
        client.write(0, b"b" * 4096)
    assert disk_holds(castor, 0, b"b" * 4096)
    assert synced_pair.castor.status().in_sync


def test_a_disconnected_pair_comes_back_by_bitmap(synced_pair: Pair) -> None:
    castor, pollux = synced_pair.nodes
    pollux.run("disconnect", RESOURCE)
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(8 * MIB, b"x" * MIB)
    assert not disk_holds(pollux, 8 * MIB, b"x" * MIB)
    pollux.run("connect", RESOURCE)
    synced_pair.wait_in_sync()
    assert disk_holds(pollux, 8 * MIB, b"x" * MIB)


def test_an_invalidated_disk_is_copied_whole(synced_pair: Pair) -> None:
    with synced_pair.pollux.disk.open("r+b") as image:
        image.seek(20 * MIB)
        image.write(b"rotten" * 100)
    synced_pair.pollux.run("invalidate", RESOURCE)
    synced_pair.wait_in_sync()
    assert disk_holds(synced_pair.pollux, 20 * MIB, bytes(600))


def test_down_leaves_no_process_and_no_socket(synced_pair: Pair) -> None:
    synced_pair.castor.run("secondary", RESOURCE)
    for node in synced_pair.nodes:
        node.run("down", RESOURCE)
        assert node.pid() is None
        assert not node.nbd_socket.exists()
