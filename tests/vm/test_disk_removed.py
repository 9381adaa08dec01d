"""Goal: a backing disk whose bus goes under a node. PASS: it is given up at once, and taken when it is back."""

from collections.abc import Iterator

import pytest

from vm.couple import MIB, RESOURCE, Couple, PydrbdNode, configuration, wait_until
from vm.image import Image


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
