"""Goal: datadisk, and Debian's heartbeat that calls it, when a machine loses power. PASS: what each name says."""

import re
import time
from collections.abc import Iterator

import pytest

from vm.conftest import OUTPUT
from vm.couple import Couple, wait_until
from vm.machine import Machine
from vm.seed_pair import DATADISK, SUM, prepare, seen, settled

# Serious about silence: an emulated machine on a busy host is slow, and dead is only what has been cut off.
HA_CF = """\
logfile /var/log/ha-log
debugfile /var/log/ha-debug
keepalive 1
warntime 8
deadtime 20
initdead 40
ucast eth0 10.0.0.1
ucast eth0 10.0.0.2
auto_failback off
node castor pollux
crm no
"""
HARESOURCES = "castor datadisk::drbd0\n"
KEEP_STATE = (
    "[ -d /var/lib/pydrbd/heartbeat ] || cp -a /var/lib/heartbeat /var/lib/pydrbd/heartbeat; "
    "mountpoint -q /var/lib/heartbeat || mount --bind /var/lib/pydrbd/heartbeat /var/lib/heartbeat"
)
"""heartbeat's own identity lies on a disk, not in a root that forgets."""
HEARTBEAT = "/etc/init.d/heartbeat"
LEDGER = "/usr/bin/python3 /usr/lib/guest/ledger.py"
FIO = "cd / && fio --directory=/opt --rw=randwrite --bs=4k --ioengine=psync --verify=crc32c --verify_fatal=1"
KEPT = "--name=kept --size=4m --end_fsync=1"
BUSY = "--name=busy --size=2m --fsync=4 --do_verify=0 --time_based --runtime=600"
RECORDS = 40


def start_heartbeat(machine: Machine) -> None:
    machine.run(KEEP_STATE)
    machine.put("/etc/ha.d/ha.cf", HA_CF)
    machine.put("/etc/ha.d/haresources", HARESOURCES)
    machine.put("/etc/ha.d/authkeys", "auth 1\n1 sha1 castor and pollux\n", 0o600)
    machine.run(f"{HEARTBEAT} start </dev/null >/run/heartbeat.out 2>&1 && sync -f /var/lib/heartbeat")


def has_opt(machine: Machine) -> bool:
    return machine.try_run("grep -q '^/dev/nbd0 /opt ext4 rw' /proc/mounts").code == 0


def said(couple: Couple) -> str:
    """Return what heartbeat and both nodes say, for a failure's message."""
    logs = [each.try_run("tail -n 60 /var/log/ha-log /var/log/ha-debug").out for each in couple.machines if each.is_on]
    return "\n".join([*logs, seen(couple)])


def acknowledged(machine: Machine) -> int:
    """Return the last record of which the console has heard."""
    return max(map(int, re.findall(r"acknowledged (\d+)\r?\n", machine.console())), default=-1)


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


@pytest.fixture(scope="module")
def ruled(serving: Couple) -> Iterator[Couple]:
    """heartbeat rules on both machines. It has begun with the file system nowhere and an empty activity log."""
    castor, node = serving.castor, serving.nodes["castor"]
    settled(serving)
    castor.run(f"cd / && {DATADISK} stop")
    node.tell("down")
    node.tell("up")
    settled(serving)
    for machine in serving.machines:
        start_heartbeat(machine)
    yield serving
    for machine in (serving.pollux, castor):
        machine.try_run(f"{HEARTBEAT} stop </dev/null >/run/heartbeat.out 2>&1")
    castor.try_run(f"{DATADISK} start")


def test_heartbeat_starts_it_on_the_machine_that_haresources_names(ruled: Couple) -> None:
    wait_until(lambda: has_opt(ruled.castor), lambda: said(ruled), 90)
    assert not has_opt(ruled.pollux)
    assert ruled.nodes["castor"].seen().role == "Primary"


def test_a_power_cut_moves_it_to_the_other_machine_with_every_synced_byte(ruled: Couple) -> None:
    castor, pollux = ruled.castor, ruled.pollux
    castor.run(f"{FIO} {KEPT} --do_verify=0")
    castor.start(f"{FIO} {BUSY}", 600)
    castor.start(f"{LEDGER} write /opt/ledger", 600)
    wait_until(lambda: acknowledged(castor) > RECORDS, castor.console)
    castor.power_cut()
    cut = time.monotonic()
    last = acknowledged(castor)
    wait_until(lambda: has_opt(pollux), lambda: said(ruled), 120)
    took_s = time.monotonic() - cut
    pollux.run(f"{LEDGER} check /opt/ledger {last}")
    pollux.run(f"{FIO} {KEPT} --verify_only")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    told = f"{last + 1} records acknowledged, none lost; /opt is back {took_s:.0f} s after the power cut"
    (OUTPUT / "heartbeat.txt").write_text(f"{told} (deadtime 20 s)\n", encoding="utf-8")


def test_the_machine_that_comes_back_takes_what_changed_and_nothing_else(ruled: Couple) -> None:
    castor, pollux = ruled.castor, ruled.pollux
    pollux.run("dd if=/dev/urandom of=/opt/after bs=64k count=16 conv=fsync")
    ruled.boot()
    prepare(castor)
    ruled.nodes["castor"].tell("up")
    settled(ruled)
    begun = pollux.run("grep 'Began resync as SyncSource' /var/lib/pydrbd/drbd0.log | tail -n 1")
    copied_kib = int(begun.partition("will sync ")[2].split()[0])
    size_kib = int(pollux.run("blockdev --getsize64 /dev/nbd0")) // 1024
    assert 1024 <= copied_kib < size_kib // 2
    start_heartbeat(castor)
    wait_until(lambda: "active" in pollux.try_run("cl_status nodestatus castor").out, lambda: said(ruled), 90)
    assert has_opt(pollux)
    assert not has_opt(castor)


def test_a_takeover_by_hand_brings_it_back(ruled: Couple) -> None:
    castor, pollux = ruled.castor, ruled.pollux
    whole = pollux.run(SUM)
    castor.run("/usr/share/heartbeat/hb_takeover </dev/null >/run/heartbeat.out 2>&1")
    wait_until(lambda: has_opt(castor), lambda: said(ruled), 90)
    assert not has_opt(pollux)
    assert castor.run(SUM) == whole
    settled(ruled)


def test_the_machine_beside_it_loses_power_and_the_file_system_goes_on(ruled: Couple) -> None:
    castor, pollux = ruled.castor, ruled.pollux
    writing = castor.start(f"{FIO} --name=on --size=2m --fsync=16 --do_verify=1 --loops=3", 300)
    wait_until(lambda: castor.try_run("pidof fio").code == 0, lambda: str(castor.result(writing)))
    pollux.power_cut()
    result = castor.result(writing, 330)
    assert result.code == 0, result.err
    assert has_opt(castor)
    ruled.boot()
    prepare(pollux)
    ruled.nodes["pollux"].tell("up")
    settled(ruled)
    assert "I/O error" not in castor.run("dmesg")
