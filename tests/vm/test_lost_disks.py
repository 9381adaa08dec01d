"""Goal: backing disks that go, of an md set or whole, in use or not. PASS: what each name says."""

from collections.abc import Iterator

import pytest

from vm.couple import MIB, RESOURCE, Couple, PydrbdNode, configuration, wait_until
from vm.image import Image
from vm.seed_pair import DATADISK, SUM, seen, settled


@pytest.fixture
def castor(guest_image: Image) -> Iterator[PydrbdNode]:
    """A node without a peer, with nothing to do: the other machine stays off."""
    with Couple.create(guest_image, 32 * MIB) as couple:
        couple.castor.boot()
        couple.castor.wait_ready()
        node = PydrbdNode(couple.castor)
        node.configure(configuration(disk="on-io-error pass_on;"))
        node.tell("create-md --force")
        node.tell("up")
        yield node


def test_a_removed_disk_is_given_up_without_a_request_and_attached_when_it_is_back(castor: PydrbdNode) -> None:
    machine = castor.machine
    assert castor.seen().disk == "Inconsistent"
    slot = machine.run("readlink -f /sys/block/vdc/device/..").strip()
    machine.run(f"echo 1 > {slot}/remove")
    wait_until(lambda: castor.seen().disk == "Diskless", castor.log, 20)
    log = machine.run(f"cat /var/lib/pydrbd/{RESOURCE}.log")
    assert "The backing disk was removed (rule: disk-removed)" in log
    assert "/dev/vdc was removed" in log
    machine.run("echo 1 > /sys/bus/pci/rescan && sleep 1 && test -b /dev/vdc")
    castor.tell("attach")
    assert castor.seen().disk == "Inconsistent"
    castor.tell("down")


def test_a_degraded_md_set_serves_on_and_status_says_so(serving: Couple) -> None:
    castor, node = serving.castor, serving.nodes["castor"]
    assert "degraded:1" not in node.tell("status")
    castor.run("mdadm /dev/md3 --fail /dev/vdc --remove /dev/vdc")
    castor.run("cp /bin/bash /opt/degraded && sync")
    assert node.seen().disk == "UpToDate"
    assert "degraded:1" in node.tell("status")
    castor.run("mdadm /dev/md3 --add /dev/vdc")


def test_a_primary_that_loses_all_its_disks_goes_on_from_its_peer(serving: Couple) -> None:
    """The last case here: the disks are gone for good."""
    castor, node = serving.castor, serving.nodes["castor"]
    settled(serving)
    castor.run("dd if=/dev/urandom of=/opt/with bs=64k count=16 conv=fsync")
    writing = castor.start(
        "for i in $(seq 40); do dd if=/dev/urandom of=/opt/w$i bs=16k count=4 conv=fsync || exit; done"
    )
    for number in (0, 1):
        castor.pull_disk(number)
    assert castor.result(writing).code == 0
    wait_until(lambda: node.seen().disk == "Diskless", lambda: seen(serving))
    castor.run("dd if=/dev/urandom of=/opt/without bs=64k count=16 conv=fsync; echo 3 > /proc/sys/vm/drop_caches")
    whole = castor.run(SUM)
    assert "nbd0" not in castor.run("dmesg | grep 'I/O error' || true")
    castor.run(f"cd / && {DATADISK} stop")
    serving.pollux.run(f"{DATADISK} start")
    assert serving.pollux.run(SUM) == whole
