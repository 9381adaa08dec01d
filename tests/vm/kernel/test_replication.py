"""Goal: connected pairs of pydrbd and the kernel's DRBD replicate. PASS: both disks are the same at the end."""

import pytest

from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("primary", ["pydrbd", "kernel"])


@BOTH
@pytest.mark.parametrize("protocol", ["A", "B", "C"])
def test_writes_arrive_by_protocol(pair: KernelPair, primary: str, protocol: str) -> None:
    pair.begin_in_sync(primary, protocol=protocol)
    node, _ = pair.both(primary)
    pair.write(node, 3, "--waves 40 --depth 12")
    pair.verify(node, 3, "--waves 40 --depth 12")


@BOTH
def test_every_write_with_a_flush_of_its_own(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, _ = pair.both(primary)
    pair.write(node, 4, "--waves 60 --depth 2 --flush-every 1")
    pair.verify(node, 4, "--waves 60 --depth 2")


@BOTH
def test_roles_swap_and_swap_back_without_a_copy(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    for seed, (here, there) in enumerate([(node, other), (other, node), (node, other)], start=5):
        pair.write(here, seed)
        pair.verify(here, seed)
        here.tell("secondary")
        pair.wait_seen(there, peer_role="Secondary")
        there.tell("primary")
        pair.verify(there, seed)
        assert pair.ours.seen().in_sync
    assert not [each for each in pair.transcript().packets if each.name == "RS_DATA_REPLY"]


@BOTH
def test_a_second_primary_is_refused_by_the_peer(pair: KernelPair, primary: str) -> None:
    pair.begin_in_sync(primary)
    node, other = pair.both(primary)
    assert other.ask("primary").code == 11
    assert (node.seen().role, other.seen().role) == ("Primary", "Secondary")
    pair.write(node, 6)


@BOTH
@pytest.mark.parametrize("verb", ["trim", "zero"])
def test_discards_and_zeroes_reach_the_other_disk(pair: KernelPair, primary: str, verb: str) -> None:
    pair.begin_in_sync(primary, disk="discard-zeroes-if-aligned yes;")
    node, _ = pair.both(primary)
    pair.write(node, 7)
    offset, length = (1 << 20) + 4096, 5 << 20
    if primary == "pydrbd":
        node.machine.run(f"/usr/bin/python3 /usr/lib/guest/workload.py {verb} {node.target} {offset} {length}")
    else:
        zero = "--zeroout" if verb == "zero" else ""
        node.machine.run(f"blkdiscard --force {zero} -o {offset} -l {length} {node.target}")
    if verb == "zero":
        for name in ("castor", "pollux"):
            assert pair.couple.disk(name).read_bytes()[offset : offset + length] == bytes(length), name


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_shared_secret_lets_in(pair: KernelPair, algorithm: str) -> None:
    pair.begin_in_sync("kernel", net=f'cram-hmac-alg {algorithm}; shared-secret "between the twins";')
    pair.write(pair.kernel, 9)


def test_a_wrong_secret_is_refused(pair: KernelPair) -> None:
    pair.compared = False
    pair.begin_down(net='cram-hmac-alg sha256; shared-secret "one";')
    text = pair.kernel.machine.get("/etc/drbd.conf").decode()
    pair.kernel.configure(text.replace('"one"', '"two"'))
    pair.kernel.tell("up")
    pair.ours.tell("up")
    pair.wait(
        lambda: "StandAlone" in {pair.ours.seen().connection, pair.kernel.seen().connection}, "one side to give up"
    )
