"""Goal: `attach = ublk` on one node alone, with a mounted file system. PASS: what each name says."""

from collections.abc import Iterator

import pytest

from vm.couple import MIB, RESOURCE, WORKLOAD, Couple, PydrbdNode, configuration, wait_until
from vm.image import Image

AREA = 32 * MIB
SUM = "cd /opt && sha256sum $(find . -type f | sort) | sha256sum"
WRITES = f"/dev/ublkb0 --seed 11 --waves 40 --depth 16 --area {AREA}"

PAGES = """
import os, sys
page = b"page" * 1024
with open("/dev/ublkb0", "rb" if sys.argv[1:] else "r+b", buffering=0) as disk:
    for place in range(0, 4 << 20, 8192):
        if sys.argv[1:]:
            assert os.pread(disk.fileno(), 4096, place) == page
        else:
            os.pwrite(disk.fileno(), page, place)
    if not sys.argv[1:]:
        os.fsync(disk.fileno())
"""


@pytest.fixture(scope="module")
def castor(guest_image: Image) -> Iterator[PydrbdNode]:
    """A primary without a peer: the other machine stays off."""
    with Couple.create(guest_image, 96 * MIB) as couple:
        couple.castor.boot()
        couple.castor.wait_ready()
        node = PydrbdNode(couple.castor, "ublk")
        node.machine.run("modprobe ublk_drv")
        node.configure(configuration())
        node.tell("create-md --force")
        node.tell("up")
        node.tell("primary --force")
        yield node


def complaints(node: PydrbdNode) -> str:
    return node.machine.try_run("dmesg | grep -iE 'I/O error|WARNING|BUG:|blocked for more'").out


def has_device(node: PydrbdNode) -> bool:
    return node.machine.try_run("test -b /dev/ublkb0 && test -e /dev/drbd/by-res/drbd0").code == 0


def test_the_device_has_the_configured_name_the_size_and_a_tag_to_spare(castor: PydrbdNode) -> None:
    machine = castor.machine
    assert machine.run("readlink -f /dev/drbd0").strip() == "/dev/ublkb0"
    assert machine.run(f"readlink -f /dev/drbd/by-res/{RESOURCE}").strip() == "/dev/ublkb0"
    size = int(machine.run("blockdev --getsize64 /dev/ublkb0"))
    assert 94 * MIB < size < 96 * MIB
    queue = "/sys/block/ublkb0/queue"
    assert machine.run(f"cat {queue}/scheduler").strip() in ("[none]", "none", "[none] mq-deadline")
    names = ("nr_requests", "io_timeout", "write_cache", "fua", "max_sectors_kb", "logical_block_size")
    found = [machine.run(f"cat {queue}/{name}").strip() for name in names]
    assert found == ["127", "2000", "write back", "1", "1024", "512"]


def test_what_is_written_is_read(castor: PydrbdNode) -> None:
    castor.machine.run(f"{WORKLOAD} write {WRITES} --flush-every 10")
    castor.machine.run(f"{WORKLOAD} verify {WRITES}")
    castor.machine.run(f"blkdiscard -o {MIB} -l {2 * MIB} /dev/ublkb0 && blkdiscard -z -o 0 -l {MIB} /dev/ublkb0")
    castor.machine.run(f"cmp -n {3 * MIB} /dev/ublkb0 /dev/zero")
    assert complaints(castor) == ""


def test_a_killed_daemon_under_writes_past_the_cache_loses_nothing(castor: PydrbdNode) -> None:
    for seed in (21, 22, 23):
        words = f"/dev/ublkb0 --seed {seed} --waves 50 --depth 16 --area {AREA}"
        writing = castor.machine.start(f"{WORKLOAD} write {words}")
        castor.machine.run("sleep 2")  # an interpreter needs one to start there
        castor.kill()
        castor.tell("up")
        result = castor.machine.result(writing)
        assert result.code == 0, result.err
        castor.machine.run(f"{WORKLOAD} verify {words}")
    assert complaints(castor) == ""


def test_a_daemon_that_is_killed_with_every_request_in_its_hands_is_followed_at_once(castor: PydrbdNode) -> None:
    machine = castor.machine
    castor.tell("suspend-io")
    # Every other page: nothing can be merged, so there are more requests than the queue takes.
    machine.put("/tmp/pages.py", PAGES)
    writing = machine.start("python3 /tmp/pages.py")
    inflight = "cat /sys/block/ublkb0/inflight"
    wait_until(lambda: machine.run(inflight).split() == ["0", "127"], lambda: machine.run(inflight), 30)
    castor.kill()
    castor.tell("up")
    result = machine.result(writing)
    assert result.code == 0, result.err
    log = castor.log()
    assert "is taken over from the last daemon" in log
    machine.run("echo 3 > /proc/sys/vm/drop_caches && python3 /tmp/pages.py verify")
    assert complaints(castor) == ""


def test_a_killed_or_replaced_daemon_under_a_mounted_file_system_loses_nothing(castor: PydrbdNode) -> None:
    machine = castor.machine
    machine.run("mkfs.ext4 -q -F /dev/ublkb0 && mount /dev/ublkb0 /opt")
    machine.run("cp -r /usr/lib/python3/dist-packages /opt/before && sync")
    before = machine.run(SUM)
    for replace in ("kill", "restart"):
        writing = machine.start(
            "dd if=/dev/urandom of=/opt/during bs=64k count=160 conv=fsync && sha256sum /opt/during"
        )
        if replace == "kill":
            castor.kill()
            castor.tell("up")
        else:
            castor.tell("restart")
        result = machine.result(writing)
        assert result.code == 0, result.err
        machine.run("echo 3 > /proc/sys/vm/drop_caches")
        assert machine.run("sha256sum /opt/during") == result.out
        machine.run("rm /opt/during")
        assert machine.run(SUM) == before
    assert complaints(castor) == ""


def test_a_mounted_device_is_not_given_up(castor: PydrbdNode) -> None:
    refusal = castor.ask("secondary")
    assert refusal.code == 11
    assert "/opt" in refusal.err
    assert has_device(castor)


def test_the_device_goes_with_the_role_and_comes_back_with_the_same_content(castor: PydrbdNode) -> None:
    machine = castor.machine
    before = machine.run(SUM)
    machine.run("umount /opt")
    castor.tell("secondary")
    assert machine.run("ls /dev | grep -c ublk").strip() == "1"  # the driver's own
    castor.tell("primary")
    machine.run("fsck.ext4 -fn /dev/ublkb0 && mount /dev/ublkb0 /opt")
    assert machine.run(SUM) == before
    assert complaints(castor) == ""


def test_by_force_it_is_taken_from_a_mounted_file_system_which_is_whole(castor: PydrbdNode) -> None:
    machine = castor.machine
    machine.run("cp /bin/bash /opt/last")  # not synced: freezing does
    before = machine.run(SUM)
    castor.tell("secondary --force")
    wait_until(lambda: not has_device(castor), lambda: machine.run("ls -l /dev/ublk* /dev/drbd"), 20)
    assert machine.try_run("touch /opt/later && sync /opt/later").code != 0
    machine.run("umount /opt")
    castor.tell("primary")
    device = machine.run("readlink -f /dev/drbd0").strip()
    machine.run(f"fsck.ext4 -fn {device} && mount {device} /opt")
    assert machine.run(SUM) == before
    machine.run("umount /opt")
    castor.tell("down")
    assert machine.run("ls /dev | grep -c ublk").strip() == "1"
