"""Goal: a new pair of pydrbd and the kernel's DRBD. PASS: what each name says; both disks are the same at the end."""

import pytest

from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])


@BOTH
def test_the_first_promotion_makes_the_other_disk_a_copy(pair: KernelPair, primary: str) -> None:
    pair.begin_fresh()
    assert all(node.seen().disk == "Inconsistent" for node in pair.couple.nodes.values())
    node, other = pair.both(primary)
    node.tell("primary --force")
    pair.wait_in_sync()
    assert (node.seen().role, other.seen().role) == ("Primary", "Secondary")
    pair.write(node, 1)
    pair.verify(node, 1)


@BOTH
def test_writes_during_the_first_sync_are_on_both_disks(pair: KernelPair, primary: str) -> None:
    pair.begin_fresh()
    node, _ = pair.both(primary)
    node.tell("primary --force")
    pair.write(node, 2, "--area 32505856 --seconds 4")
    pair.wait_in_sync()
    pair.verify(node, 2, "--area 32505856")


def test_a_new_generation_without_a_sync_is_taken_over(pair: KernelPair) -> None:
    pair.compared = False  # that both were the same was the administrator's word
    pair.begin_fresh()
    pair.kernel.tell("-- --clear-bitmap new-current-uuid")
    pair.wait_in_sync()
    assert pair.ours.identifiers().split(":")[0] == pair.kernel.identifiers().split(":")[0]
