"""Goal: two machines with less memory than is written, xfs over nbd and over ublk. PASS: what each name says."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pytest

from vm.couple import MIB, RESOURCE, Couple, PydrbdNode, configuration, wait_until
from vm.image import Image
from vm.machine import Machine
from vm.seed_pair import DIE, SUM, seen, settled

LONG = bool(os.environ.get("PYDRBD_VM_LONG"))
"""Whether ublk, too, is pressed; the code that could wait for memory is the same."""
MEMORY_MIB = 288
DISK_BYTES = 640 * MIB
BIG_MIB = 320
TRIMMED_MIB = 64
LEFT_KIB = 28 << 10
"""What the hog leaves of it."""
CONTENT = "yes 'more than fits into memory'"
MODULES = {"nbd": "nbd", "ublk": "ublk_drv"}
PF_MEMALLOC_NOIO, PF_LOCAL_THROTTLE = 0x80000, 0x100000
"""linux/sched.h; both together are what PR_SET_IO_FLUSHER sets."""
HOG = f"""
import time
def available():
    return next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
open("/proc/self/oom_score_adj", "w").write("1000")
held = []
while available() > {LEFT_KIB}:
    held.append(bytearray(b"x") * (1 << 20))
open("/run/hog", "w").close()
while True:
    time.sleep(60)
"""
DROP = "echo 3 > /proc/sys/vm/drop_caches"
GROUP = "/sys/fs/cgroup/small"
FIO = (
    "cd / && fio --name=x --directory=/opt --rw=randwrite --bs=4k --size=4m --iodepth=8 --ioengine=libaio --direct=1 "
    "--verify=crc32c --verify_fatal=1 --do_verify=1 --loops=6 --output-format=json"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where /opt is: on castor, with this device below."""

    couple: Couple
    kind: str
    device: str

    @property
    def castor(self) -> Machine:
        return self.couple.castor

    def pid(self) -> str:
        return self.castor.run(f"cat /run/pydrbd/{RESOURCE}/pid").strip()

    def complaints(self) -> str:
        words = "I/O error|WARNING|BUG:|blocked for more|Killed process|allocation failure"
        return "".join(each.try_run(f"dmesg | grep -E '{words}'").out for each in self.couple.machines)


@pytest.fixture
def pressed(opt: Place) -> Place:
    """Return the place of a case that takes minutes."""
    if opt.kind != "nbd" and not LONG:
        pytest.skip("PYDRBD_VM_LONG=1")
    return opt


@pytest.fixture(scope="module")
def small_couple(guest_image: Image) -> Iterator[Couple]:
    """Two machines without much memory."""
    with Couple.create(guest_image, DISK_BYTES, 1, MEMORY_MIB) as both:
        both.boot()
        yield both


@pytest.fixture(scope="module", params=MODULES)
def opt(small_couple: Couple, request: pytest.FixtureRequest) -> Iterator[Place]:
    """castor is Primary with an xfs as /opt; both in sync, by the word that both disks are empty."""
    couple, kind = small_couple, str(request.param)
    couple.nodes = {machine.name: PydrbdNode(machine, kind) for machine in couple.machines}
    for node in couple.nodes.values():
        node.machine.run(f"modprobe {MODULES[kind]}; dmesg --clear")
        node.configure(configuration())
        node.tell("create-md --force")
        node.tell("up")
    castor = couple.nodes["castor"]
    wait_until(lambda: castor.seen().connection == "Connected", lambda: seen(couple))
    castor.tell("new-current-uuid --clear-bitmap")
    settled(couple)
    castor.tell("primary")
    device = couple.castor.run(f"readlink -f /dev/drbd/by-res/{RESOURCE}").strip()
    couple.castor.run(f"mkfs.xfs -q -f {device} && mount {device} /opt")
    yield Place(couple, kind, device)
    couple.castor.try_run(f"kill -9 $(cat /run/hog.pid); umount /opt; rmdir {GROUP}")
    for node in couple.nodes.values():
        node.ask("down")


def test_the_daemon_is_spared_and_never_waits_for_its_own_writes(opt: Place) -> None:
    castor, pid = opt.castor, opt.pid()
    threads = castor.run(f"cat /proc/{pid}/task/*/stat").splitlines()
    flags = [int(line.rpartition(")")[2].split()[6]) for line in threads]
    assert len(flags) > 1
    assert all(each & PF_MEMALLOC_NOIO and each & PF_LOCAL_THROTTLE for each in flags), flags
    assert castor.run(f"cat /proc/{pid}/oom_score_adj").strip() == "-1000"
    locked = re.search(r"VmLck:\s+(\d+) kB", castor.run(f"cat /proc/{pid}/status"))
    assert locked is not None
    assert int(locked[1]) > 1024
    assert not re.search("not locked|refused|out-of-memory", castor.run(f"cat /var/lib/pydrbd/{RESOURCE}.log"))


def test_more_than_the_memory_is_written_and_read(pressed: Place) -> None:
    opt = pressed
    castor, pid = opt.castor, opt.pid()
    total_kib = int(castor.run("grep MemTotal /proc/meminfo").split()[1])
    assert total_kib < BIG_MIB << 10
    castor.run(f"{CONTENT} | head -c {BIG_MIB}M > /opt/big && sync", 300)
    castor.run(f"{CONTENT} | head -c {BIG_MIB}M | cmp - /opt/big", 300)
    assert opt.pid() == pid
    assert opt.complaints() == ""
    settled(opt.couple)


def test_writes_of_a_full_memory_cgroup_end(opt: Place) -> None:
    castor, pid = opt.castor, opt.pid()
    castor.run("echo +memory > /sys/fs/cgroup/cgroup.subtree_control")
    castor.run(f"mkdir -p {GROUP} && echo 12M > {GROUP}/memory.max")
    castor.run(f"echo $$ > {GROUP}/cgroup.procs; {CONTENT} | head -c 64M > /opt/grouped && sync /opt/grouped", 300)
    assert int(castor.run(f"sed -n 's/^max //p' {GROUP}/memory.events")) > 0
    castor.run(f"{DROP} && {CONTENT} | head -c 64M | cmp - /opt/grouped && rm /opt/grouped")
    assert opt.pid() == pid
    assert opt.complaints() == ""


def test_writes_end_while_next_to_no_memory_is_left_also_under_the_next_daemon(pressed: Place) -> None:
    opt = pressed
    castor, node = opt.castor, opt.couple.nodes["castor"]
    castor.put("/tmp/hog.py", HOG, 0o755)
    castor.run("rm -f /run/hog /opt/big; python3 /tmp/hog.py </dev/null >/dev/null 2>&1 & echo $! >/run/hog.pid")
    castor.wait_for_path("/run/hog")
    for name, killed in (("one", False), ("two", True)):
        writing = castor.start(f"{CONTENT} | head -c 48M > /opt/{name} && sync /opt/{name}", 300)
        if killed:
            castor.run("sleep 1")
            castor.run(DIE)
            node.tell("up")
        result = castor.result(writing, 330)
        assert result.code == 0, result.err
        castor.run(f"{DROP} && {CONTENT} | head -c 48M | cmp - /opt/{name} && rm /opt/{name}", 300)
    castor.run("kill -9 $(cat /run/hog.pid)")  # it was still there
    assert opt.complaints() == ""
    settled(opt.couple)


def test_killed_daemons_under_verified_writes_leave_the_peer_in_sync(opt: Place) -> None:
    castor, node = opt.castor, opt.couple.nodes["castor"]
    writing = castor.start(FIO, 300)
    wait_until(lambda: castor.try_run("pidof fio").code == 0, lambda: str(castor.result(writing)))
    for _ in range(2):
        castor.run("sleep 1")
        castor.run(DIE)
        node.tell("up")
        wait_until(lambda: node.seen().role == "Primary", lambda: seen(opt.couple))
    result = castor.result(writing, 330)
    assert result.code == 0, result.out + result.err
    assert json.loads(result.out[result.out.index("{") :])["jobs"][0]["error"] == 0
    assert opt.complaints() == ""
    settled(opt.couple)


def test_fstrim_gives_the_space_back_on_both_nodes(opt: Place) -> None:
    castor = opt.castor
    castor.run(f"{CONTENT} | head -c {TRIMMED_MIB}M > /opt/trimmed && sync")
    before = [machine.disks[0].stat().st_blocks for machine in opt.couple.machines]
    castor.run("rm -f /opt/trimmed && sync && fstrim -v /opt && sync", 300)

    def freed_mib() -> list[int]:
        after = [machine.disks[0].stat().st_blocks for machine in opt.couple.machines]
        return [(old - new) * 512 // MIB for old, new in zip(before, after, strict=True)]

    # Linux's xfs answers before the last discards have ended.
    wait_until(lambda: min(freed_mib()) > TRIMMED_MIB * 3 // 4, lambda: str(freed_mib()))
    settled(opt.couple)


def test_the_file_system_is_whole_and_both_disks_are_the_same(opt: Place) -> None:
    castor, pollux = opt.castor, opt.couple.pollux
    castor.run("cp -r /usr/lib/python3/dist-packages /opt/packages && sync")
    whole = castor.run(SUM)
    castor.run(f"umount /opt && xfs_repair -n {opt.device}")
    size = int(castor.run(f"blockdev --getsize64 {opt.device}"))
    opt.couple.nodes["castor"].tell("secondary")
    opt.couple.nodes["pollux"].tell("primary")
    pollux.run(f"mount {opt.device} /opt")
    assert pollux.run(SUM) == whole
    pollux.run("umount /opt")
    settled(opt.couple)
    for node in opt.couple.nodes.values():
        node.tell("down")
    left, right = (machine.disks[0] for machine in opt.couple.machines)
    with left.open("rb") as mine, right.open("rb") as theirs:
        differing = [at for at in range(0, size, MIB) if _piece(mine, at, size) != _piece(theirs, at, size)]
    assert not differing


def _piece(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(min(MIB, size - at))
