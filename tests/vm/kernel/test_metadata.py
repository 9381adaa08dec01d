"""Goal: metadata wherever they lie and whoever made them. PASS: either DRBD attaches them, no resync, nothing lost."""

import pytest

from vm.kernel.test_in_place import data_replies, exchange
from vm.kernel_pair import KernelPair

MAKER = pytest.mark.parametrize("maker", ["pydrbd", "drbdmeta"])
META = pytest.mark.parametrize("meta", ["internal", "/dev/vdd", "/dev/vdd[0]"])


def dump(text: str) -> list[str]:
    """Return what a dump says, without who made it when, and without the flags: drbdmeta 9.22 prints 0 there."""
    return [line.strip() for line in text.splitlines() if line.strip() and line.split()[0][0] not in "#f"]


@META
@MAKER
def test_either_attaches_what_the_other_made(pair: KernelPair, meta: str, maker: str) -> None:
    pair.begin_fresh(meta=meta)
    castor = pair.couple.nodes["castor"]
    castor.tell("down")
    if maker == "drbdmeta":
        castor = exchange(pair, "castor", "kernel")
        castor.tell("-- --force create-md")
    else:
        castor.tell("create-md --force")
        castor = exchange(pair, "castor", "kernel")
    castor.tell("up")
    pair.kernel.tell("primary --force")
    pair.wait_in_sync()
    copied = data_replies(pair)
    assert copied > 0
    for seed, kind in enumerate(["pydrbd", "kernel", "pydrbd"], start=71):
        pair.write(pair.kernel, seed)
        castor.tell("down")
        castor = exchange(pair, "castor", kind)
        castor.tell("up")
        pair.wait_connected()
        pair.wait_in_sync()
        pair.verify(pair.kernel, seed)
    assert data_replies(pair) == copied


@META
def test_both_tools_dump_the_same(pair: KernelPair, meta: str) -> None:
    pair.begin_fresh(meta=meta)
    pair.ours.tell("primary --force")
    pair.wait_in_sync()
    pair.kernel.tell("down")
    pair.write(pair.ours, 74)
    pair.ours.tell("down")
    ours = pair.ours.tell("dump-md")
    theirs = exchange(pair, "castor", "kernel").tell("dump-md")
    assert dump(ours) == dump(theirs)
    assert "bm-" in ours
    exchange(pair, "castor", "pydrbd").tell("up")
    pair.kernel.tell("up")
    pair.wait_connected()
