"""A real block device without a kernel module (attach fuse) and ext4 on it: datadisk, the daemon's death under fio.

Setup: two nodes in sync; the device is a loop device, its configured name a link in the test's directory.

PASS: datadisk moves the mounted filesystem as heartbeat would; a daemon that is killed and started again, or restarted
on purpose, costs whoever uses the filesystem a pause and no error; afterwards both disks are equal and nothing is left.

PYDRBD_ROUNDS says how often the daemon is killed.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pair import PYDRBD, RESOURCE, SEED_CONFIGURATION, Node, Pair
from pydrbd.device import links
from pydrbd.device.fuse import FuseDevice
from pydrbd.device.kind import Wish

MIB = 1 << 20
DISK_BYTES = 64 * MIB
ROUNDS = int(os.environ.get("PYDRBD_ROUNDS", "1"))
LACK = FuseDevice().missing()
DATADISK = Path(sys.executable).parent / "pydrbd-datadisk"

pytestmark = [pytest.mark.root, pytest.mark.skipif(LACK is not None, reason=str(LACK))]


class Mounted(Pair):
    """A pair with a device, and a mount point for it."""

    def device_of(self, node: Node) -> Path:
        """Return the name of the node's device: another one for each, for they share a /dev here."""
        return self.directory / f"{node.name}-nb0"

    @property
    def mount_point(self) -> Path:
        return self.directory / "opt"

    def is_mounted(self) -> bool:
        return self.mount_point.is_mount()

    def datadisk(self, node: Node, action: str) -> subprocess.CompletedProcess[str]:
        """Call datadisk as heartbeat does, with an fstab of the test's own."""
        return subprocess.run(
            [DATADISK, RESOURCE, action],
            env=node._environment() | {"PYDRBD_FSTAB": str(self.directory / "fstab")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def clear(self) -> None:
        """Remove whatever a failed test left, by what it created."""
        subprocess.run(["umount", "--lazy", self.mount_point], capture_output=True, check=False)
        for node in self.nodes:
            FuseDevice().clear(Wish(RESOURCE, "", 0, 0, node.run_directory / RESOURCE))
        by_resource = links.BY_RESOURCE / RESOURCE
        if by_resource.is_symlink() and str(by_resource.readlink()).startswith("/dev/loop"):
            by_resource.unlink()


@pytest.fixture
def pair() -> Iterator[Mounted]:
    # Short, for the sake of the sockets' names.
    directory = Path(tempfile.mkdtemp(prefix="pydrbd-"))
    text = SEED_CONFIGURATION.replace("protocol = C", "protocol = C\n  attach = fuse")
    text = text.replace("/usr/bin/true", "fsck.ext4 -p")
    for name in ("castor", "pollux"):
        text = text.replace("/dev/nb0", str(directory / f"{name}-nb0"), 1)
    with Mounted.create(directory, DISK_BYTES, configuration=text) as both:
        assert isinstance(both, Mounted)
        both.mount_point.mkdir()
        lines = [f"{both.device_of(node)} {both.mount_point} ext4 noauto 0 0\n" for node in both.nodes]
        (directory / "fstab").write_text("".join(lines))
        both.create_metadata()
        both.up()
        both.first_sync()
        subprocess.run(["mkfs.ext4", "-q", "-F", both.device_of(both.castor)], check=True)
        try:
            yield both
        finally:
            both.end()
            both.clear()
    shutil.rmtree(directory)


def test_datadisk_moves_a_mounted_filesystem(pair: Mounted):
    castor, pollux = pair.nodes
    for _ in range(2):
        started = pair.datadisk(castor, "start")
        assert (started.returncode, started.stdout) == (0, f"datadisk: '{RESOURCE}' activated\n"), started.stderr
        assert pair.is_mounted()
    assert pair.datadisk(castor, "status").stdout == f"{RESOURCE}: running\n"
    assert pair.datadisk(pollux, "status").stdout == f"{RESOURCE}: stopped\n"
    (pair.mount_point / "letter").write_text("from castor")
    refused = castor.try_run("secondary", RESOURCE)
    assert refused.returncode == 11
    # Below a chroot the kernel names the way from the outermost root.
    assert "mounted on /" in refused.stderr
    assert f"{pair.mount_point})" in refused.stderr
    for _ in range(2):
        stopped = pair.datadisk(castor, "stop")
        assert (stopped.returncode, stopped.stdout) == (0, f"datadisk: '{RESOURCE}' de-activated\n"), stopped.stderr
        assert not pair.is_mounted()
    assert not pair.device_of(castor).is_symlink()
    assert pair.datadisk(pollux, "start").returncode == 0
    assert (pair.mount_point / "letter").read_text() == "from castor"
    with subprocess.Popen(["sleep", "60"], cwd=pair.mount_point):  # killed by fuser
        assert pair.datadisk(pollux, "stop").returncode == 0
    assert pair.datadisk(pollux, "status").stdout == f"{RESOURCE}: stopped\n"


def fio(directory: Path, output: Path, seconds: int) -> list[str]:
    return [
        *("fio", "--name=verify", f"--directory={directory}", "--size=8M", "--rw=randwrite", "--bs=4k", "--fsync=4"),
        *(
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_backlog=64",
            "--verify_state_save=0",
            "--time_based",
            f"--runtime={seconds}",
        ),
        *(f"--output={output}", "--output-format=json"),
    ]


@pytest.mark.rounds
def test_the_daemon_dies_and_is_restarted_under_a_filesystem(pair: Mounted):
    castor, pollux = pair.nodes
    assert pair.datadisk(castor, "start").returncode == 0
    output = pair.directory / "fio.json"
    with subprocess.Popen(fio(pair.mount_point, output, seconds=10 * (ROUNDS + 1))) as running:
        for _ in range(ROUNDS):
            time.sleep(random.uniform(0.2, 1))
            castor.kill()
            castor.run("up", RESOURCE)
            assert castor.status().role == "Primary"
        castor.run("restart", RESOURCE)
        assert castor.status().role == "Primary"
        with subprocess.Popen([PYDRBD, "restart", RESOURCE], env=castor._environment(), stderr=subprocess.DEVNULL):
            pair.wait_for(lambda: len(castor.logged("making room")) == 2, "the restart to begin")
            time.sleep(random.uniform(0, 0.6))
            castor.kill()  # in the middle of it
        castor.run("up", RESOURCE)
        assert castor.status().role == "Primary"
        assert running.poll() is None, castor.log()
        running.terminate()
        running.wait(60)
    (job,) = json.loads("{" + output.read_text().partition("{")[2])["jobs"]
    print("longest stall", max(job["write"]["lat_ns"]["max"], job["sync"]["lat_ns"]["max"]) / 1e9, "s")
    assert job["error"] == 0
    assert castor.logged("is taken over from the last daemon")
    pair.wait_in_sync()
    assert pair.datadisk(castor, "stop").returncode == 0
    for node in (castor, pollux):
        node.run("down", RESOURCE)
    assert pair.data_areas_differ(DISK_BYTES) is None


def test_planned_restarts_are_not_noticed_below_a_filesystem(pair: Mounted):
    castor = pair.castor
    assert pair.datadisk(castor, "start").returncode == 0
    output = pair.directory / "fio.json"
    with subprocess.Popen(fio(pair.mount_point, output, seconds=60)) as running:
        for _ in range(2):
            time.sleep(0.5)
            castor.run("restart", RESOURCE)
        assert running.poll() is None, castor.log()
        running.terminate()
        running.wait(60)
    (job,) = json.loads("{" + output.read_text().partition("{")[2])["jobs"]
    print("longest stall", max(job["write"]["lat_ns"]["max"], job["sync"]["lat_ns"]["max"]) / 1e9, "s")
    assert job["error"] == 0
    device = castor.status().raw["devices"][0]["kernel-device"]
    assert (device["kind"], device["reconnects"]) == ("fuse", 0)  # nbdkit has the connection that it had
    assert pair.datadisk(castor, "stop").returncode == 0


def test_down_takes_away_what_a_killed_daemon_left(pair: Mounted):
    castor = pair.castor
    castor.kill()
    assert pair.device_of(castor).is_symlink()
    castor.run("down", RESOURCE)
    assert not pair.device_of(castor).is_symlink()
    assert list((castor.run_directory / RESOURCE).iterdir()) == []


def test_who_was_overtaken_by_the_peer_gives_the_device_up(pair: Mounted):
    castor, pollux = pair.nodes
    assert pair.datadisk(castor, "start").returncode == 0
    castor.kill()
    pair.wait_for(lambda: pollux.try_run("primary", RESOURCE).returncode == 0, "pollux to become primary")
    castor.run("up", RESOURCE)
    pair.wait_in_sync()
    assert (castor.status().role, pollux.status().role) == ("Secondary", "Primary")
    assert not pair.device_of(castor).is_symlink()
    assert pair.device_of(pollux).is_symlink()
    assert castor.logged("is given up")
    with pytest.raises(OSError, match=r"Input/output|Read-only"):
        write_durably(pair.mount_point / "late")


def write_durably(path: Path) -> None:
    with path.open("wb", 0) as file:
        file.write(b"x" * MIB)
        os.fsync(file.fileno())
