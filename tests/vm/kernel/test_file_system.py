"""Goal: a file system on a pair of pydrbd and the kernel's DRBD. PASS: it is whole wherever it is mounted."""

import pytest

from vm.couple import Node, PydrbdNode
from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
MAKE = {
    "ext4": "mkfs.ext4 -q -F",
    # mkfs.xfs makes file systems of less than 300 MB only for its own tests
    "xfs": "TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -f",
}
CHECK = {"ext4": "fsck.ext4 -fn", "xfs": "xfs_repair -n -o force_geometry"}
SUM = "cd /opt && sha256sum $(find . -type f | sort) | sha256sum"


def with_device(pair: KernelPair) -> None:
    """Give our node a block device."""
    pair.ours.machine.run("modprobe nbd")
    pair.couple.nodes["castor"] = PydrbdNode(pair.couple.castor, "nbd", "/dev/nbd0")


def move(node: Node, other: Node) -> None:
    """Unmount, change roles, mount there."""
    node.machine.run("cd / && umount /opt")
    node.tell("secondary")
    other.tell("primary")


@BOTH
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_moves_from_one_to_the_other_and_back(pair: KernelPair, primary: str, kind: str) -> None:
    pair.begin_down()
    text = pair.ours.machine.get("/etc/drbd.conf").decode().replace("attach none;", "")
    with_device(pair)
    pair.ours.configure(text)
    pair.up()
    pair.wait_in_sync()
    node, other = pair.both(primary)
    node.tell("primary")
    node.machine.run(f"{MAKE[kind]} {node.target} && mount {node.target} /opt")
    node.machine.run("cp -r /usr/lib/python3/dist-packages /usr/lib/python3.11/asyncio /opt/ && sync")
    whole = node.machine.run(SUM)
    for here, there in [(node, other), (other, node)]:
        move(here, there)
        there.machine.run(f"{CHECK[kind]} {there.target} && mount {there.target} /opt")
        assert there.machine.run(SUM) == whole
        there.machine.run("rm -rf /opt/asyncio && fstrim /opt && cp -r /usr/lib/python3.11/asyncio /opt/ && sync")
        assert there.machine.run(SUM) == whole
    node.machine.run("umount /opt")
