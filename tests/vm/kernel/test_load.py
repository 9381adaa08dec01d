"""Goal: pairs of pydrbd and the kernel's DRBD under the options and loads that others have. PASS: nothing differs."""

import pytest

from pydrbd.model.commands import Command
from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
FIO = (
    "fio --name=x --rw=randrw --bssplit=512/20:4k/40:64k/20:1m/20 --size=28m --io_size=24m --iodepth=16 "
    "--fsync=16 --verify=crc32c --verify_fatal=1 --randseed=7 --minimal "
)


@BOTH
def test_fio_reads_what_it_wrote(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, _ = pair.both(primary)
    if primary == "pydrbd":
        node.machine.run(f"{FIO} --ioengine=nbd --uri='{node.target}'")
    else:
        node.machine.run(f"{FIO} --ioengine=libaio --direct=1 --filename={node.target}")


@BOTH
def test_the_speed_of_a_resync_may_be_controlled(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, disk="c-plan-ahead 20; c-fill-target 1M; c-min-rate 4M; c-max-rate 100M;")
    node, other = pair.both(primary)
    other.tell("disconnect")
    pair.write(node, 81, "--waves 40 --depth 16 --area 32505856")
    other.tell("connect")
    pair.wait_connected()
    pair.write(node, 82)
    pair.wait_in_sync()
    pair.verify(node, 82)


@BOTH
def test_bitmaps_go_as_they_are_without_run_lengths(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, net="use-rle no;")
    node, other = pair.both(primary)
    other.tell("disconnect")
    pair.write(node, 83)
    other.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 83)
    names = [(each.sender, each.name) for each in pair.transcript().packets]
    assert {("castor", "BITMAP"), ("pollux", "BITMAP")} <= set(names)
    assert not [each for each in pair.transcript().packets if each.command == Command.COMPRESSED_BITMAP]


@BOTH
def test_small_epochs_and_few_buffers_lose_nothing(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, net="max-epoch-size 4; max-buffers 32;", disk="al-extents 67;")
    node, _ = pair.both(primary)
    pair.write(node, 84, "--waves 30 --depth 16 --area 32505856")
    pair.verify(node, 84, "--waves 30 --depth 16 --area 32505856")


@BOTH
def test_without_flushes_of_the_disk_the_order_is_kept_all_the_same(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, disk="disk-flushes no; md-flushes no;")
    node, _ = pair.both(primary)
    pair.write(node, 85, "--flush-every 1")
    pair.verify(node, 85)
