"""Goal: the seed's configuration unchanged, on md RAID 1, with a mounted file system. PASS: what each name says."""

from collections.abc import Iterator

import pytest

from vm.couple import Couple, PydrbdNode, wait_until

SEED = """\
resource drbd0 {
  protocol = C
  fsckcmd = /usr/bin/true

  on castor {
    device  = /dev/nb0
    disk    = /dev/md3
    address = 10.0.0.1
    port    = 7788
  }

  on pollux {
    device  = /dev/nb0
    disk    = /dev/md3
    address = 10.0.0.2
    port    = 7788
  }
}
"""
MAKE_MD3 = (
    "modprobe raid1; [ -b /dev/md3 ] || mdadm --create /dev/md3 --run --level=1 --raid-devices=2 --metadata=1.2 "
    "--assume-clean /dev/vdc /dev/vdd"
)
SUM = "cd /opt && sha256sum $(find . -type f | sort) | sha256sum"


def seen(couple: Couple) -> str:
    return "\n".join(f"{name}: {node.seen()}\n{node.log()}" for name, node in couple.nodes.items())


def settled(couple: Couple) -> None:
    nodes = couple.nodes.values()
    wait_until(lambda: all(node.seen().in_sync for node in nodes), lambda: seen(couple), 180)


@pytest.fixture(scope="module")
def serving(large_couple: Couple) -> Iterator[Couple]:
    """castor is primary, /opt is mounted there; both in sync."""
    couple = large_couple
    couple.as_kind(PydrbdNode, PydrbdNode)
    for node in couple.nodes.values():
        node.machine.run("modprobe nbd")
        node.machine.run(MAKE_MD3)
        node.machine.put("/etc/drbd.conf", SEED)
        node.tell("create-md --force")
        node.tell("up")
    castor = couple.nodes["castor"]
    castor.tell("primary --force")
    settled(couple)
    couple.castor.run("mkfs.ext4 -q -F /dev/nbd0 && mount /dev/nbd0 /opt")
    yield couple
    for machine in couple.machines:
        machine.try_run("umount /opt")


def test_the_device_has_the_configured_name_and_the_size_of_the_disk(serving: Couple) -> None:
    castor = serving.castor
    assert castor.run("readlink -f /dev/nb0").strip() == "/dev/nbd0"
    assert castor.run("readlink -f /dev/drbd/by-res/drbd0").strip() == "/dev/nbd0"
    assert castor.run("blockdev --getsize64 /dev/nbd0") == castor.run("blockdev --getsize64 /dev/md3")
    assert serving.pollux.try_run("test -e /dev/nb0").code != 0


def test_a_mounted_device_is_not_given_up(serving: Couple) -> None:
    refusal = serving.nodes["castor"].ask("secondary")
    assert refusal.code == 11
    assert "/opt" in refusal.err


def test_a_killed_daemon_under_a_mounted_file_system_loses_nothing(serving: Couple) -> None:
    castor = serving.castor
    castor.run("cp -r /usr/lib/python3/dist-packages /opt/before && sync")
    before = castor.run(SUM)
    node = serving.nodes["castor"]
    writing = castor.start("dd if=/dev/urandom of=/opt/during bs=64k count=160 conv=fsync && sha256sum /opt/during")
    node.kill()
    node.tell("up")
    result = castor.result(writing)
    assert result.code == 0, result.err
    castor.run("echo 3 > /proc/sys/vm/drop_caches")
    assert castor.run("sha256sum /opt/during") == result.out
    castor.run("rm /opt/during")
    assert castor.run(SUM) == before
    assert "I/O error" not in castor.run("dmesg")
    settled(serving)


def test_a_degraded_md_set_serves_on(serving: Couple) -> None:
    castor = serving.castor
    castor.run("mdadm /dev/md3 --fail /dev/vdc --remove /dev/vdc")
    castor.run("cp /bin/bash /opt/degraded && sync")
    assert serving.nodes["castor"].seen().disk == "UpToDate"
    castor.run("mdadm /dev/md3 --add /dev/vdc")


def test_the_file_system_moves_to_the_other_node_and_back(serving: Couple) -> None:
    castor, pollux = serving.nodes["castor"], serving.nodes["pollux"]
    settled(serving)
    whole = castor.machine.run(SUM)
    for here, there in [(castor, pollux), (pollux, castor)]:
        here.machine.run("umount /opt")
        here.tell("secondary")
        there.tell("primary")
        there.machine.run("fsck.ext4 -fn /dev/nbd0 && mount /dev/nbd0 /opt")
        assert there.machine.run(SUM) == whole


def test_fstrim_is_taken(serving: Couple) -> None:
    serving.castor.run("rm -rf /opt/before && fstrim -v /opt && sync")
    settled(serving)
    serving.castor.run("umount /opt && fsck.ext4 -fn /dev/nbd0 && mount /dev/nbd0 /opt")
