"""Goal: the seed's configuration unchanged, on md RAID 1, with a mounted file system. PASS: what each name says."""

import json
import os
import time
from collections.abc import Callable

from vm.conftest import OUTPUT
from vm.couple import Couple, wait_until
from vm.machine import Machine
from vm.seed_pair import DIE, SUM, seen, settled

KILLS = int(os.environ.get("PYDRBD_VM_KILLS") or 3)
FIO = (
    "cd / && fio --name=x --directory=/opt --rw=randwrite --bs=4k --size=8m --iodepth=8 --ioengine=libaio --direct=1 "
    "--verify=crc32c --verify_fatal=1 --do_verify=1 --loops=100000 --output-format=json & echo $! >/run/fio; wait $!"
)
FIO_STOPPED = 128


def writes_done(castor: Machine) -> int:
    return int(castor.run("cat /sys/block/nbd0/stat").split()[4])


def let_writes_go_on(castor: Machine, what: Callable[[], str]) -> None:
    """Return when some more have ended, so that no stall goes over two kills."""
    before = writes_done(castor)
    wait_until(lambda: writes_done(castor) > before + 8, what)


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
    restarts_s = []
    for _ in range(KILLS):
        let_writes_go_on(castor, lambda: seen(serving))
        began = time.monotonic()
        castor.run(DIE)
        node.tell("up")
        restarts_s.append(time.monotonic() - began)
        wait_until(lambda: node.seen().role == "Primary", lambda: seen(serving))
    let_writes_go_on(castor, lambda: seen(serving))
    castor.run("kill -INT $(cat /run/fio)")
    result = castor.result(writing)
    assert result.code == FIO_STOPPED, result.out + result.err
    job = json.loads(result.out[result.out.index("{") :])["jobs"][0]
    assert job["error"] == 0
    worst_s = job["write"]["clat_ns"]["max"] / 1e9
    OUTPUT.mkdir(parents=True, exist_ok=True)
    measured = f"{KILLS} kills, {job['write']['total_ios']} writes, worst stall {worst_s:.1f} s"
    restarts = f"the daemon's end and start took {sorted(restarts_s)[KILLS // 2]:.1f} to {max(restarts_s):.1f} s"
    (OUTPUT / "kills.txt").write_text(f"{measured}; {restarts} (median, worst)\n", encoding="utf-8")
    assert "I/O error" not in castor.run("dmesg")
    castor.run("rm -f /opt/x.*; sync")
    settled(serving)
