"""Goal: a pair goes from the kernel's DRBD to pydrbd and back by the commands of docs/migrating.md, node by node,
while one node serves a file system. PASS: each command works, each file is there, the disks are equal."""

import json
import re

from vm.couple import MIB, PRELOADED, KernelNode, PydrbdNode
from vm.image import HERE
from vm.kernel.test_in_place import exchange
from vm.kernel.test_reconnect import copied_bytes
from vm.kernel_pair import KernelPair
from vm.machine import Machine

KINDS: dict[str, type[KernelNode] | type[PydrbdNode]] = {"drbdadm": KernelNode, "pydrbd": PydrbdNode}
PAGE = HERE.parent.parent / "docs" / "migrating.md"


def commands() -> list[tuple[str, str]]:
    """Return the page's commands in order, each with its node."""
    return re.findall(r"^    (castor|pollux)# (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def run(machine: Machine, command: str) -> None:
    """Run what the page says; pydrbd's own commands by the process that has it imported already."""
    if command.startswith("pydrbd "):
        code, out, err = json.loads(machine.ask(PRELOADED, json.dumps(command.split()[1:])))
        assert code == 0, f"{command}: {out}{err}"
    else:
        machine.run(command)


def test_the_page_leads_there_and_back(pair: KernelPair) -> None:
    pair.begin_down()
    text = pair.kernel.machine.get("/etc/drbd.conf")
    exchange(pair, "castor", "kernel")
    for machine in pair.couple.machines:
        machine.put("/etc/drbd.conf", text)
        machine.run("mkdir -p /srv && drbdadm up drbd0")
        machine.wait_for_path(PRELOADED)
    pair.wait_in_sync()
    machines = {machine.name: machine for machine in pair.couple.machines}
    sums: list[str] = []
    serving = "castor"
    machines[serving].run("drbdadm primary drbd0 && mkfs.ext4 -q -F /dev/drbd0 && mount /dev/drbd0 /srv")
    for number, (name, command) in enumerate(commands()):
        if serving:
            sums.append(machines[serving].run(write_file(number)).strip())
        run(machines[name], command)
        if command.startswith("umount"):
            serving = ""
        elif command.startswith("mount"):
            serving = name
        if command.split()[1] == "up":
            pair.couple.nodes[name] = KINDS[command.split()[0]](machines[name])
        if "wait-sync" in command:
            pair.wait_in_sync()
    assert serving == "pollux"
    assert len(sums) > 20
    machines[serving].put("/run/sums", "\n".join(sums) + "\n")
    machines[serving].run("cd /srv && sha256sum --check --quiet /run/sums")
    machines[serving].run("umount /srv && fsck.ext4 -fn /dev/drbd0")
    assert 0 < copied_bytes(pair) < 4 * MIB


def write_file(number: int) -> str:
    """Return a command that writes a file, durably, and prints its sum."""
    return (
        f"cd /srv && dd status=none if=/dev/urandom of=file{number} bs=16k count=1 conv=fsync && sha256sum file{number}"
    )
