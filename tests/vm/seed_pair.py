"""The seed's pair: its configuration unchanged, md RAID 1 below, /dev/nbd0 mounted as /opt, and heartbeat's script."""

from __future__ import annotations

from helpers.configurations import SEED
from vm.couple import Couple, PydrbdNode, wait_until
from vm.image import PROJECT
from vm.machine import Machine

MAKE_MD3 = (
    "modprobe raid1; [ -b /dev/md3 ] || mdadm --assemble --run /dev/md3 /dev/vdc /dev/vdd || "
    "mdadm --create /dev/md3 --run --level=1 --raid-devices=2 --metadata=1.2 --assume-clean /dev/vdc /dev/vdd"
)
STATE = "blkid /dev/vde || mkfs.ext4 -q /dev/vde; mkdir -p /var/lib/pydrbd; mount /dev/vde /var/lib/pydrbd"
SCRIPT = PROJECT / "contrib/resource.d/datadisk"
DATADISK = "/etc/ha.d/resource.d/datadisk drbd0"
SUM = "cd /opt && sha256sum $(find . -type f | sort) | sha256sum"
PID = "/run/pydrbd/drbd0/pid"
DIE = f"kill -9 $(cat {PID}) && until flock -n {PID} true; do sleep 0.02; done"
"""The daemon's lock is free: it has ended, as systemd would see it, and the next one may start."""


def seen(couple: Couple) -> str:
    """Return what both nodes say, for a failure's message."""
    return "\n".join(f"{name}: {node.seen()}\n{node.log()}" for name, node in couple.nodes.items())


def settled(couple: Couple) -> None:
    """Wait until both replicas are the same."""
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


def begin(couple: Couple) -> None:
    """castor Primary with an ext4 mounted as /opt, both in sync."""
    couple.as_kind(PydrbdNode, PydrbdNode)
    for node in couple.nodes.values():
        prepare(node.machine)
        node.tell("create-md --force")
        node.tell("up")
    couple.nodes["castor"].tell("primary --force")
    settled(couple)
    couple.castor.run("mkfs.ext4 -q -F /dev/nbd0 && mount /dev/nbd0 /opt")
