"""Goal: what either node asks of the pair reaches the other one. PASS: both say so, and both disks are the same."""

import time

import pytest

from pydrbd.model.commands import Command
from vm.couple import Node
from vm.kernel_pair import KernelPair

PRIMARY = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
ASKER = pytest.mark.parametrize("asker", ["pydrbd", "kernel"])
WHO = pytest.mark.parametrize("who", ["primary", "secondary"])


def behind(pair: KernelPair, node: Node, other: Node, seed: int) -> None:
    """Disconnect the secondary and write what it misses."""
    other.tell("disconnect")
    pair.wait_seen(node, connection="WFConnection")
    pair.write(node, seed, "--waves 40 --depth 16 --area 32505856")


@PRIMARY
@ASKER
def test_a_resync_rests_while_either_side_wants_it_to(pair: KernelPair, primary: str, asker: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    behind(pair, node, other, 61)
    missing_kib = node.seen().out_of_sync_kib
    asking = pair.node(asker)
    asking.tell("pause-sync")
    other.tell("connect")
    pair.wait_seen(node, connection="PausedSyncS")
    pair.wait_seen(other, connection="PausedSyncT")
    time.sleep(2)
    assert node.seen().out_of_sync_kib >= missing_kib > 0
    pair.write(node, 62)
    asking.tell("resume-sync")
    pair.wait_in_sync()
    pair.verify(node, 62)


@PRIMARY
def test_a_resync_that_runs_is_stopped_and_goes_on(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, disk="c-plan-ahead 0; resync-rate 1M;")
    node, other = pair.both(primary)
    behind(pair, node, other, 63)
    other.tell("connect")
    pair.wait_seen(other, connection="SyncTarget")
    for asking in (node, other):
        asking.tell("pause-sync")
        pair.wait_seen(node, connection="PausedSyncS")
        pair.wait_seen(other, connection="PausedSyncT")
        asking.tell("resume-sync")
        pair.wait(lambda: not node.seen().connection.startswith("Paused"), "the resync to go on")
    pair.wait_in_sync()
    pair.verify(node, 63, "--waves 40 --depth 16 --area 32505856")


@PRIMARY
@WHO
def test_a_disk_that_is_given_up_gets_what_it_missed(pair: KernelPair, primary: str, who: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 64)
    diskless, watching = (node, other) if who == "primary" else (other, node)
    diskless.tell("detach")
    pair.wait_seen(diskless, disk="Diskless")
    pair.wait_seen(watching, peer_disk="Diskless")
    pair.verify(node, 64)  # a primary without a disk reads from its peer
    pair.write(node, 65)
    pair.verify(node, 65)
    diskless.tell("attach")
    pair.wait_in_sync()
    pair.verify(node, 65)


@PRIMARY
def test_an_outdated_disk_is_not_promoted_and_is_mended(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    other.tell("disconnect")
    other.tell("outdate")
    assert other.seen().disk == "Outdated"
    assert other.ask("primary").code == 17
    pair.write(node, 66)
    other.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 66)


def test_an_idle_pair_pings_and_is_answered(pair: KernelPair) -> None:
    pair.begin_in_sync("pydrbd", net="ping-int 2; timeout 15;")
    before = len(pair.transcript().packets)
    time.sleep(10)
    packets = pair.transcript().packets[before:]
    pings = [each for each in packets if each.command == Command.PING]
    answers = [each for each in packets if each.command == Command.PING_ACK]
    assert len(pings) >= 3
    assert abs(len(pings) - len(answers)) <= 1
    assert {each.socket for each in pings + answers} == {"meta"}
    assert pair.ours.seen().in_sync
    assert pair.kernel.seen().in_sync


def test_only_what_both_can_do_is_agreed_on_and_used(pair: KernelPair) -> None:
    pair.begin_in_sync("kernel")
    pair.kernel.machine.run(f"blkdiscard --force -o 1048576 -l 4194304 {pair.kernel.target}")
    pair.write(pair.kernel, 67)
    transcript = pair.transcript()
    features = [each.payload[4:8].hex() for each in transcript.sent("castor", Command.CONNECTION_FEATURES)]
    expected = "TRIM, THIN_RESYNC, WSAME (the tail of SIZES, which says that there is none), WZEROES"
    assert set(features) == {"0000000f"}, expected
    names = {each.name for each in transcript.packets}
    assert not names & {"WSAME", "RS_THIN_REQ", "RS_DEALLOCATED"}, "neither asks thinly without being told to"
