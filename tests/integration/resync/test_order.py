"""The order of resyncs of several resources on the same two nodes, each with daemons of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pair import ADDRESSES, Node, free_port, wait_until

MIB = 1 << 20
RUNNING = {"SyncSource", "SyncTarget"}
PAUSED = {"PausedSyncS", "PausedSyncT"}

CHAIN = """\
resource NAME {
  attach none;
  disk { c-plan-ahead 0; resync-rate 8M; ORDER }
  device minor INDEX;
  meta-disk internal;
  on castor { disk DIRECTORY/castor/NAME.disk; address 127.0.0.1:PORT; }
  on pollux { disk DIRECTORY/pollux/NAME.disk; address 127.0.0.2:PORT; }
}
"""
GROUPS = """\
resource NAME {
  protocol = C
  attach = none
  net {
    sync-max = 8M
    ORDER
  }
  on castor {
    device = /dev/nbINDEX
    disk = DIRECTORY/castor/NAME.disk
    address = 127.0.0.1
    port = PORT
  }
  on pollux {
    device = /dev/nbINDEX
    disk = DIRECTORY/pollux/NAME.disk
    address = 127.0.0.2
    port = PORT
  }
}
"""


@dataclass
class Site:
    """Both nodes, and the names of their resources."""

    castor: Node
    pollux: Node
    names: tuple[str, ...]

    @property
    def nodes(self) -> tuple[Node, Node]:
        return self.castor, self.pollux

    def status(self, node: Node, name: str) -> dict[str, Any]:
        """Ask a daemon for what it says of its peer's device; much faster than by the command."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(node.run_directory / name / "control.sock"))
            asking.sendall(b'{"verb": "status"}\n')
            with asking.makefile("rb") as answers:
                data = json.loads(answers.readline())["data"]
        return dict(data["connections"][0]["peer_devices"][0])

    def replication(self, name: str, node: Node | None = None) -> str:
        return str(self.status(node or self.castor, name)["replication-state"])

    def suspended(self, name: str, node: Node | None = None) -> str:
        return str(self.status(node or self.castor, name)["resync-suspended"])

    def running(self) -> list[str]:
        """Return the resources that copy now, in the order of the file.

        They are asked from the last to the first: while one after the other copies, none is seen that began after
        another one was.
        """
        return [name for name in reversed(self.names) if self.replication(name) in RUNNING][::-1]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, what)
        except TimeoutError as error:
            said = [f"{each.name}\n{each.try_run('status', 'all').stdout}\n{each.log()}" for each in self.nodes]
            raise TimeoutError("\n".join([str(error), *said])) from None

    def wait_for(self, name: str, *states: str) -> None:
        self.wait(lambda: self.replication(name) in states, f"{name} to be {' or '.join(states)}")

    def begin(self, name: str) -> None:
        """Let castor's disk be the good one: everything is copied."""
        self.castor.run("primary", "--force", name)

    def pid(self, node: Node, name: str) -> int:
        return int((node.run_directory / name / "pid").read_text(encoding="ascii"))


def site(directory: Path, template: str, sizes_mib: dict[str, int], orders: dict[str, str]) -> Iterator[Site]:
    """Yield both nodes with every resource up and connected, nothing copied yet."""
    text = ""
    nodes = []
    for name in ADDRESSES:
        (directory / name).mkdir()
        nodes.append(Node(name, directory / name, directory / "drbd.conf", directory / name))
    port = free_port()
    for index, (resource, size_mib) in enumerate(sizes_mib.items()):
        words = {"NAME": resource, "INDEX": str(index), "DIRECTORY": str(directory), "PORT": str(port + index)}
        words["ORDER"] = orders.get(resource, "")
        one = template
        for word, value in words.items():
            one = one.replace(word, value)
        text += one
        for node in nodes:
            os.truncate(os.open(node.directory / f"{resource}.disk", os.O_CREAT | os.O_WRONLY), size_mib * MIB)
    (directory / "drbd.conf").write_text(text)
    both = Site(nodes[0], nodes[1], tuple(sizes_mib))
    try:
        for node in nodes:
            node.run("create-md", "--force", "all")
            node.run("up", "all")
        both.wait(lambda: all(both.replication(name) == "Established" for name in sizes_mib), "all connections")
        yield both
    finally:
        for node in nodes:
            node.try_run("down", "all", "--force")
            node.end()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Site]:
    """Three resources: `middle` comes after `first`, `last` after `middle`."""
    orders = {"middle": "resync-after first/0;", "last": "resync-after middle;"}
    yield from site(tmp_path, CHAIN, {"first": 64, "middle": 8, "last": 8}, orders)


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Site]:
    """Two resources of group 1, and one of group 0 after them in the file."""
    orders = {"data": "sync-group = 1", "logs": "sync-group = 1", "root": "sync-group = 0"}
    yield from site(tmp_path, GROUPS, {"data": 16, "logs": 16, "root": 16}, orders)


def test_resyncs_of_a_chain_run_one_after_another(chain: Site) -> None:
    chain.begin("last")
    chain.wait_for("last", "SyncSource")
    chain.begin("first")
    chain.wait_for("last", "PausedSyncS")
    chain.begin("middle")
    chain.wait_for("middle", "PausedSyncS")
    chain.wait(
        lambda: all(chain.suspended("middle", node) == "peer,dependency" for node in chain.nodes),
        "both nodes to have their own reason, and the other's",
    )
    assert "resync-suspended:peer,dependency" in chain.castor.run("status", "middle")
    assert "Until the resync of first is over" in chain.castor.run("why", "middle")
    refused = chain.castor.try_run("resume-sync", "middle")
    assert refused.returncode == 10
    assert "caused by a local resync-after dependency" in refused.stderr
    ended = []
    while len(ended) < 3:
        at_work = chain.running()
        assert len(at_work) <= 1, f"{at_work} copy at once"
        ended += [name for name in chain.names if name not in ended and chain.replication(name) == "Established"]
    assert ended == ["first", "middle", "last"]
    assert all(chain.suspended(name, node) == "no" for name in chain.names for node in chain.nodes)


def test_nobody_waits_for_a_daemon_that_was_killed_or_taken_down(chain: Site) -> None:
    for name in ("first", "middle", "last"):
        chain.begin(name)
    chain.wait_for("middle", "PausedSyncS")
    chain.wait_for("last", "PausedSyncS")
    chain.castor.run("restart", "last")
    chain.wait_for("last", "PausedSyncS")  # the next program takes its predecessor's place in the order
    os.kill(chain.pid(chain.castor, "first"), signal.SIGKILL)
    chain.wait_for("middle", "SyncSource")
    assert chain.replication("last") in PAUSED
    chain.pollux.run("down", "middle")
    chain.wait_for("last", "SyncSource")
    # Both come back, go on where they were, and come first again.
    chain.castor.run("up", "first")
    chain.wait_for("last", "PausedSyncS", "Established")
    chain.pollux.run("up", "middle")
    for name in chain.names:
        chain.wait_for(name, "Established")
        assert chain.status(chain.pollux, name)["out-of-sync"] == 0


def test_an_order_given_while_resyncs_run_is_kept_at_once_and_never_leads_back(groups: Site) -> None:
    for name in ("root", "data"):
        groups.pollux.run("disk-options", "--c-max-rate=512K", name)  # until the file is gone by again
        groups.begin(name)
    groups.wait_for("data", "PausedSyncS")
    for node in groups.nodes:
        assert node.run("disk-options", "--sync-group=0", "data") == "data: sync-group 0 (was 1)\n"
    groups.wait(lambda: groups.running() == ["data", "root"], "both to copy at once")
    for node in groups.nodes:
        node.run("disk-options", "--resync-after=data", "root")
    groups.wait(lambda: groups.running() == ["data"], "the other order")
    refused = groups.castor.try_run("disk-options", "--resync-after=root", "data")
    assert (refused.returncode, refused.stderr) == (10, "data: This would cause a resync-after dependency cycle\n")
    for node in groups.nodes:
        assert 'root: resync-after "" (was data)' in node.run("adjust", "all")
    groups.wait(lambda: groups.running() == ["root"], "the order of the file")
    for name in ("root", "data"):
        groups.wait_for(name, "Established")


def test_groups_resync_in_ascending_order_and_their_members_together(groups: Site) -> None:
    for name in ("data", "logs"):
        groups.begin(name)
    groups.wait(lambda: groups.running() == ["data", "logs"], "both members of a group to copy at once")
    groups.begin("root")
    groups.wait(lambda: groups.running() == ["root"], "the lower group to come first")
    groups.castor.run("pause-sync", "root")
    groups.wait_for("root", "PausedSyncS")
    assert groups.running() == [], "one that a person has paused is waited for, too"
    assert groups.suspended("root") == "user"
    groups.castor.run("resume-sync", "root")
    groups.wait(lambda: groups.replication("root") == "Established", "the lower group to be done")
    groups.wait(lambda: groups.running() == ["data", "logs"], "the higher group to go on")
