"""Goal: pairs of pydrbd and the kernel's DRBD lose and find each other. PASS: only what differs is copied; disks
are equal."""

import pytest

from vm.couple import MIB
from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
MOST_COPIED_BYTES = 12 * MIB


def copied_bytes(pair: KernelPair) -> int:
    return sum(len(each.payload) - 24 for each in pair.transcript().packets if each.name == "RS_DATA_REPLY")


@BOTH
@pytest.mark.parametrize("who", ["primary", "secondary"])
def test_a_disconnected_pair_comes_back_by_bitmap(pair: KernelPair, primary: str, who: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 11)
    leaver, stayer = (node, other) if who == "primary" else (other, node)
    leaver.tell("disconnect")
    pair.wait_seen(stayer, connection="WFConnection")
    assert leaver.seen().connection == "StandAlone"
    pair.write(node, 12)
    assert node.seen().out_of_sync_kib > 0
    leaver.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 12)
    assert 0 < copied_bytes(pair) < MOST_COPIED_BYTES


@BOTH
def test_writes_during_the_resync_are_on_both_disks(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    other.tell("disconnect")
    pair.write(node, 13, "--waves 60 --depth 16 --area 32505856")
    other.tell("connect")
    pair.write(node, 14, "--waves 20 --area 32505856 --seconds 5")
    pair.wait_in_sync()
    pair.verify(node, 14, "--waves 20 --area 32505856")


@BOTH
def test_a_secondary_that_was_down_gets_what_it_missed(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 15)
    other.tell("down")
    pair.write(node, 16)
    other.tell("up")
    pair.wait_connected()
    pair.wait_in_sync()
    pair.verify(node, 16)
    assert 0 < copied_bytes(pair) < MOST_COPIED_BYTES


@BOTH
def test_a_clean_down_of_both_and_up_again_costs_no_resync(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 17)
    node.tell("secondary")
    for each in (node, other):
        each.tell("down")
    pair.up()
    pair.wait_in_sync()
    assert copied_bytes(pair) == 0


@BOTH
def test_the_other_takes_over_and_the_first_gets_what_it_missed(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 18)
    node.tell("secondary")
    node.tell("down")
    other.tell("primary")
    pair.verify(other, 18)
    pair.write(other, 19)
    node.tell("up")
    pair.wait_connected()
    pair.wait_in_sync()
    pair.verify(other, 19)
    assert 0 < copied_bytes(pair) < MOST_COPIED_BYTES


@BOTH
def test_a_secondary_without_power_or_killed_gets_what_it_missed(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    writing = node.machine.start(f"{workload(node)} --seed 20 --seconds 8")
    pair.wait(lambda: len(pair.transcript().packets) > 40, "writes")
    crash(pair, other)
    assert node.machine.result(writing).code == 0
    pair.wait_seen(node, connection="WFConnection")
    pair.write(node, 21)
    revive(pair, other)
    pair.wait_in_sync()
    pair.verify(node, 21)


@BOTH
def test_a_primary_without_power_or_killed_is_replaced_and_comes_back(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 22)
    writing = node.machine.start(f"{workload(node)} --seed 22 --seconds 30")
    pair.wait(lambda: len(pair.transcript().packets) > 100, "writes")
    crash(pair, node)
    writing.cancel()
    pair.wait_seen(other, connection="WFConnection")
    other.tell("primary")
    pair.verify(other, 22)
    pair.write(other, 23)
    revive(pair, node)
    pair.wait_in_sync()
    pair.verify(other, 23)


@BOTH
def test_a_primary_that_crashed_applies_its_activity_log(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, _ = pair.both(primary)
    pair.write(node, 24)
    node.machine.start(f"{workload(node)} --seed 25 --seconds 30")
    pair.wait(lambda: len(pair.transcript().packets) > 100, "writes")
    crash(pair, node)
    revive(pair, node)
    pair.wait_in_sync()
    if primary == "kernel":
        assert copied_bytes(pair) > 0


@BOTH
def test_both_crash_and_the_primary_has_the_data(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 34)
    node.machine.start(f"{workload(node)} --seed 35 --seconds 30")
    pair.wait(lambda: len(pair.transcript().packets) > 100, "writes")
    crash(pair, other)
    crash(pair, node)
    pair.couple.boot()
    revive(pair, other, alone=True)
    revive(pair, node)
    pair.wait_in_sync()
    node.tell("primary")
    pair.write(node, 36)
    pair.verify(node, 36)


@BOTH
def test_a_cut_wire_is_noticed_and_mended(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, net="ping-int 3; timeout 25;")
    node, other = pair.both(primary)
    pair.write(node, 26)
    pair.couple.castor.cut_link()
    pair.write(node, 27)
    pair.wait_seen(node, connection="WFConnection")
    pair.wait_seen(other, connection="WFConnection")
    pair.couple.castor.mend_link()
    pair.wait_connected()
    pair.wait_in_sync()
    pair.verify(node, 27)
    assert 0 < copied_bytes(pair) < 32 * MIB


@BOTH
def test_a_frozen_secondary_is_given_up_and_comes_back(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, net="ping-int 3; timeout 25; ko-count 2;")
    node, other = pair.both(primary)
    pair.write(node, 28)
    other.machine.freeze()
    pair.write(node, 29)
    pair.wait_seen(node, connection="WFConnection")
    other.machine.thaw()
    pair.wait_connected()
    pair.wait_in_sync()
    pair.verify(node, 29)


@BOTH
@pytest.mark.parametrize("verb", ["invalidate", "invalidate-remote"])
def test_an_invalidated_disk_is_copied_whole(pair: KernelPair, primary: str, verb: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    pair.write(node, 30)
    (other if verb == "invalidate" else node).tell(verb)
    pair.wait(lambda: copied_bytes(pair) > 30 * MIB, "a full copy")
    pair.wait_in_sync()
    pair.verify(node, 30)


def workload(node: object) -> str:
    """Return the command that writes on a primary."""
    return f"/usr/bin/python3 /usr/lib/guest/workload.py write {node.target}"  # type: ignore[attr-defined]


def crash(pair: KernelPair, node: object) -> None:
    """Kill our daemon, or take the power of the kernel's machine."""
    if node is pair.ours:
        pair.ours.kill()
    else:
        pair.couple.pollux.power_cut()


def revive(pair: KernelPair, node: object, *, alone: bool = False) -> None:
    """Start it again, and wait for the connection unless it is alone."""
    text = pair.ours.machine.get("/etc/drbd.conf").decode()
    pair.couple.boot()
    if node is pair.kernel:
        pair.kernel.configure(text.replace("attach none;", ""))
    pair.couple.nodes[node.machine.name].tell("up")  # type: ignore[attr-defined]
    if not alone:
        pair.wait_connected()
