"""Goal: the seed's configuration unchanged, on md RAID 1, with a mounted file system. PASS: what each name says."""

import json
import os
import re
import time
from collections.abc import Iterator

import pytest

from vm.conftest import OUTPUT
from vm.couple import Couple, PydrbdNode, wait_until
from vm.image import PROJECT
from vm.machine import Machine

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
    "modprobe raid1; [ -b /dev/md3 ] || mdadm --assemble --run /dev/md3 /dev/vdc /dev/vdd || "
    "mdadm --create /dev/md3 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean /dev/vdc /dev/vdd"
)
STATE = "blkid /dev/vde || mkfs.ext4 -q /dev/vde; mkdir -p /var/lib/pydrbd; mount /dev/vde /var/lib/pydrbd"
SCRIPT = PROJECT / "contrib/resource.d/datadisk"
KILLS = int(os.environ.get("PYDRBD_VM_KILLS") or 3)
DATADISK = "/etc/ha.d/resource.d/datadisk drbd0"
FIO = (
    "cd / && fio --name=x --directory=/opt --rw=randwrite --bs=4k --size=8m --iodepth=8 --ioengine=libaio --direct=1 "
    "--verify=crc32c --verify_fatal=1 --do_verify=1 --loops=100000 --output-format=json & echo $! >/run/fio; wait $!"
)
FIO_STOPPED = 128
SUM = "cd /opt && sha256sum $(find . -type f | sort) | sha256sum"


def seen(couple: Couple) -> str:
    return "\n".join(f"{name}: {node.seen()}\n{node.log()}" for name, node in couple.nodes.items())


def settled(couple: Couple) -> None:
    nodes = couple.nodes.values()
    wait_until(lambda: all(node.seen().in_sync for node in nodes), lambda: seen(couple), 180)


def prepare(machine: Machine) -> None:
    """Make or assemble /dev/md3, and put the host's files where they belong; a guest's root forgets."""
    machine.run("modprobe nbd")
    machine.run(MAKE_MD3)
    machine.run(STATE)
    machine.put("/etc/drbd.conf", SEED)
    machine.put("/etc/fstab", "/dev/nb0 /opt ext4 noauto 0 0\n")
    machine.put("/etc/ha.d/resource.d/datadisk", SCRIPT.read_bytes(), 0o755)


@pytest.fixture(scope="module")
def serving(large_couple: Couple) -> Iterator[Couple]:
    """castor is primary, /opt is mounted there; both in sync."""
    couple = large_couple
    couple.as_kind(PydrbdNode, PydrbdNode)
    for node in couple.nodes.values():
        prepare(node.machine)
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


def test_kills_under_load_cost_time_and_nothing_else(serving: Couple) -> None:
    """PYDRBD_VM_KILLS says how many. The stall in build/vm/kills.txt is an emulated processor's."""
    castor, node = serving.castor, serving.nodes["castor"]
    settled(serving)
    writing = castor.start(FIO, 60 * KILLS)
    for _ in range(KILLS):
        wait_until(lambda: castor.try_run("pidof fio").code == 0, lambda: str(castor.result(writing)))
        time.sleep(1)
        node.kill()
        node.tell("up")
        wait_until(lambda: node.seen().role == "Primary", lambda: seen(serving))
    castor.run("kill -INT $(cat /run/fio)")
    result = castor.result(writing)
    assert result.code == FIO_STOPPED, result.out + result.err
    job = json.loads(result.out[result.out.index("{") :])["jobs"][0]
    assert job["error"] == 0
    worst_s = job["write"]["clat_ns"]["max"] / 1e9
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "kills.txt").write_text(f"{KILLS} kills, worst stall {worst_s:.1f} s\n", encoding="utf-8")
    assert "I/O error" not in castor.run("dmesg")
    castor.run("rm -f /opt/x.*; sync")
    settled(serving)


def test_datadisk_moves_the_file_system_as_heartbeat_asks_it_to(serving: Couple) -> None:
    castor, pollux = serving.castor, serving.pollux
    castor.run("date > /opt/here; sync")
    whole = castor.run(SUM)
    for here, there in [(castor, pollux), (pollux, castor)]:
        assert re.search("running|OK", here.run(f"{DATADISK} status"))
        assert not re.search("running|Running|OK", there.run(f"{DATADISK} status"))
        here.run(f"cd / && {DATADISK} stop")
        here.run(f"{DATADISK} stop")
        assert not re.search("running|Running|OK", here.run(f"{DATADISK} status"))
        assert "/opt" not in here.run("cat /proc/mounts")
        there.run(f"{DATADISK} start")
        there.run(f"{DATADISK} start")
        assert "/dev/nbd0 /opt ext4 rw" in there.run("cat /proc/mounts")
        assert there.run(SUM) == whole


def test_datadisk_waits_while_the_peer_is_primary(serving: Couple) -> None:
    pollux = serving.pollux
    starting = pollux.start(f"{DATADISK} start")
    with pytest.raises(TimeoutError):
        starting.result(timeout=20)
    serving.castor.run(f"cd / && {DATADISK} stop")
    assert pollux.result(starting).code == 0
    assert "/opt" in pollux.run("cat /proc/mounts")
    pollux.run(f"cd / && {DATADISK} stop")
    serving.castor.run(f"{DATADISK} start")


def test_the_other_node_goes_on_after_a_power_cut(serving: Couple) -> None:
    castor, pollux = serving.castor, serving.pollux
    settled(serving)
    castor.run("dd if=/dev/urandom of=/opt/last bs=64k count=16 conv=fsync")
    whole = castor.run(SUM)
    castor.power_cut()
    other = serving.nodes["pollux"]
    wait_until(lambda: other.seen().connection == "WFConnection", other.log)
    pollux.run(f"{DATADISK} start")
    assert pollux.run(SUM) == whole
    pollux.run("dd if=/dev/urandom of=/opt/after bs=64k count=16 conv=fsync")
    serving.boot()
    prepare(castor)
    serving.nodes["castor"].tell("up")
    settled(serving)
    whole = pollux.run(SUM)
    pollux.run(f"cd / && {DATADISK} stop")
    castor.run(f"{DATADISK} start")
    assert castor.run(SUM) == whole


def test_a_primary_that_loses_all_its_disks_goes_on_from_its_peer(serving: Couple) -> None:
    """The last case here: the disks are gone for good."""
    castor, node = serving.castor, serving.nodes["castor"]
    settled(serving)
    castor.run("dd if=/dev/urandom of=/opt/with bs=64k count=16 conv=fsync")
    writing = castor.start(
        "for i in $(seq 40); do dd if=/dev/urandom of=/opt/w$i bs=16k count=4 conv=fsync || exit; done"
    )
    for number in (0, 1):
        castor.pull_disk(number)
    assert castor.result(writing).code == 0
    wait_until(lambda: node.seen().disk == "Diskless", lambda: seen(serving))
    castor.run("dd if=/dev/urandom of=/opt/without bs=64k count=16 conv=fsync; echo 3 > /proc/sys/vm/drop_caches")
    whole = castor.run(SUM)
    assert "nbd0" not in castor.run("dmesg | grep 'I/O error' || true")
    castor.run(f"cd / && {DATADISK} stop")
    serving.pollux.run(f"{DATADISK} start")
    assert serving.pollux.run(SUM) == whole
