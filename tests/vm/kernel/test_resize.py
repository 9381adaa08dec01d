"""Goal: the device of pydrbd and the kernel grows while it is in use. PASS: both have the new size, and equal disks."""

import pytest

from vm.couple import MIB
from vm.kernel_pair import KernelPair

PRIMARY = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
ASKER = pytest.mark.parametrize("asker", ["pydrbd", "kernel"])
SIZE = "cat /sys/block/drbd0/size"


@PRIMARY
@ASKER
@pytest.mark.parametrize("meta", ["internal", "/dev/vdd"])
def test_a_device_grows_under_its_primary(pair: KernelPair, primary: str, asker: str, meta: str) -> None:
    if meta == "internal":
        pair.begin_in_sync(primary)
    else:
        pair.begin_fresh(meta=meta)
        pair.node(primary).tell("primary --force")
        pair.wait_in_sync()
    node, _ = pair.both(primary)
    pair.write(node, 95)
    before = int(pair.kernel.machine.run(SIZE))
    pair.couple.resize_disks(48 * MIB)
    pair.node(asker).tell("resize")
    pair.wait(lambda: int(pair.kernel.machine.run(SIZE)) >= before + 16 * MIB // 512 - 64, "the new size")
    pair.wait_in_sync()
    pair.verify(node, 95)
    pair.write(node, 96, f"--area {46 * MIB} --waves 30 --depth 16")
    pair.verify(node, 96, f"--area {46 * MIB} --waves 30 --depth 16")
    for each in (node, pair.node("kernel" if primary == "pydrbd" else "pydrbd")):
        each.ask("secondary")
    pair.ours.tell("down")
    pair.kernel.tell("down")
    pair.up()
    pair.wait_in_sync()
