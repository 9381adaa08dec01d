"""Goal: online verify, resync by checksums, digests of writes, between pydrbd and the kernel. PASS: what differs, and
nothing else, is found and copied; the disks are equal at the end."""

import os

import pytest

from vm.couple import MIB
from vm.kernel.test_reconnect import copied_bytes
from vm.kernel_pair import KernelPair

PRIMARY = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])
ASKER = pytest.mark.parametrize("asker", ["pydrbd", "kernel"])


def spoil(pair: KernelPair, name: str, block: int) -> None:
    """Change 4 KiB of a disk behind everybody's back, as a bad disk does."""
    with pair.couple.disk(name).open("r+b") as file:
        file.seek(block * 4096)
        file.write(os.urandom(4096))


@PRIMARY
@ASKER
def test_a_verify_finds_what_differs(pair: KernelPair, primary: str, asker: str) -> None:
    pair.begin_in_sync(primary, net="verify-alg sha1;")
    node, other = pair.both(primary)
    pair.write(node, 91)
    for block in (300, 7000):
        spoil(pair, other.machine.name, block)
    pair.node(asker).tell("verify")
    pair.wait(lambda: all(n.seen().out_of_sync_kib == 8 for n in (node, other)), "both blocks to be found")
    pair.wait(lambda: all(n.seen().connection == "Connected" for n in (node, other)), "the end of the verify")
    other.tell("disconnect")
    other.tell("connect")
    pair.wait_in_sync()
    assert copied_bytes(pair) == 8192
    pair.verify(node, 91)


@PRIMARY
def test_a_verify_under_writes_finds_nothing(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary, net="verify-alg crc32c;")
    node, other = pair.both(primary)
    other.tell("verify")
    pair.write(node, 92, "--area 32505856 --seconds 4")
    pair.wait_in_sync()
    assert node.seen().out_of_sync_kib == other.seen().out_of_sync_kib == 0
    pair.verify(node, 92, "--area 32505856")


@PRIMARY
@pytest.mark.parametrize("algorithm", ["sha1", "crc32c"])
def test_a_resync_by_checksums_copies_only_what_differs(pair: KernelPair, primary: str, algorithm: str) -> None:
    pair.begin_in_sync(primary, net=f"csums-alg {algorithm};")
    node, other = pair.both(primary)
    pair.write(node, 31)
    other.tell("disconnect")
    pair.write(node, 31)
    other.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 31)
    assert copied_bytes(pair) == 0
    names = {each.name for each in pair.transcript().packets}
    assert {"CSUM_RS_REQUEST", "RS_IS_IN_SYNC"} <= names
    other.tell("disconnect")
    pair.write(node, 32)
    other.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 32)
    assert 0 < copied_bytes(pair) < 12 * MIB


@PRIMARY
@pytest.mark.parametrize("algorithm", ["crc32c", "md5", "sha1"])
def test_each_write_carries_its_digest(pair: KernelPair, primary: str, algorithm: str) -> None:
    pair.begin_in_sync(primary, net=f"data-integrity-alg {algorithm};")
    node, other = pair.both(primary)
    pair.write(node, 8)
    pair.verify(node, 8)
    assert pair.ours.seen().in_sync
    other.tell("disconnect")
    pair.write(node, 9)
    other.tell("connect")
    pair.wait_in_sync()
    pair.verify(node, 9)
