"""Goal: the same disk, now under pydrbd, now under the kernel. PASS: no create-md, no resync, nothing lost."""

import pytest

from vm.couple import KernelNode, Node, PydrbdNode
from vm.kernel_pair import KernelPair

KINDS: dict[str, type[KernelNode] | type[PydrbdNode]] = {"kernel": KernelNode, "pydrbd": PydrbdNode}


def exchange(pair: KernelPair, name: str, kind: str) -> Node:
    """Take the node down, and start the other DRBD on its disk."""
    old = pair.couple.nodes[name]
    text = old.machine.get("/etc/drbd.conf").decode().replace("attach none;", "")
    new = KINDS[kind](old.machine)
    pair.couple.nodes[name] = new
    new.configure(text)
    return new


def data_replies(pair: KernelPair) -> int:
    return len([each for each in pair.transcript().packets if each.name == "RS_DATA_REPLY"])


def test_a_node_goes_from_pydrbd_to_the_kernel_and_back_without_a_resync(pair: KernelPair) -> None:
    pair.begin_in_sync("kernel")
    for seed, kind in enumerate(["kernel", "pydrbd"], start=51):
        pair.write(pair.kernel, seed)
        pair.couple.nodes["castor"].tell("down")
        new = exchange(pair, "castor", kind)
        new.tell("up")
        pair.wait_connected()
        pair.wait_in_sync()
        pair.verify(pair.kernel, seed)
    assert data_replies(pair) == 0


@pytest.mark.parametrize("crashed", ["pydrbd", "kernel"])
def test_after_a_crash_the_other_one_applies_the_activity_log(pair: KernelPair, crashed: str) -> None:
    pair.begin_in_sync(None if crashed == "kernel" else "pydrbd")
    if crashed == "kernel":
        pair.ours.tell("down")
        node = exchange(pair, "castor", "kernel")
        node.tell("up")
        pair.wait_connected()
        pair.wait_in_sync()
        node.tell("primary")
    node = pair.couple.nodes["castor"]
    pair.write(node, 53)
    node.machine.start(f"/usr/bin/python3 /usr/lib/guest/workload.py write {node.target} --seed 54 --seconds 60")
    pair.wait(lambda: len(pair.transcript().packets) > 120, "writes")
    if crashed == "kernel":
        pair._stop_capture()
        text = node.machine.get("/etc/drbd.conf").decode()
        pair.couple.castor.power_cut()
        pair.couple.boot()
        pair.couple.castor.put("/etc/drbd.conf", text)
    else:
        pair.ours.kill()
    new = exchange(pair, "castor", "pydrbd" if crashed == "kernel" else "kernel")
    if crashed == "pydrbd":
        pair.couple.castor.run("modprobe drbd")
    new.tell("up")
    pair.wait_connected()
    pair.wait_in_sync()


def test_both_nodes_move_to_pydrbd_and_back_while_one_of_them_serves(pair: KernelPair) -> None:
    pair.begin_in_sync()
    pair.ours.tell("down")
    exchange(pair, "castor", "kernel").tell("up")
    pair.wait_connected()
    castor, pollux = pair.couple.nodes["castor"], pair.couple.nodes["pollux"]
    pollux.tell("primary")
    pair.write(pollux, 55)
    for kind in ("pydrbd", "kernel"):
        castor.tell("down")
        castor = exchange(pair, "castor", kind)
        castor.tell("up")
        pair.wait_connected()
        pair.wait_in_sync()
        pollux.tell("secondary")
        castor.tell("primary")
        pair.verify(castor, 55)
        pollux.tell("down")
        pollux = exchange(pair, "pollux", kind)
        pollux.tell("up")
        pair.wait_connected()
        pair.wait_in_sync()
        castor.tell("secondary")
        pollux.tell("primary")
        pair.verify(pollux, 55)
    assert data_replies(pair) == 0
