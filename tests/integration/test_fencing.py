"""Goal: what docs/operations.md says of fencing and handlers is so. Setup: a pair whose fence-peer is a script of ours.

PASS: a Primary that loses its peer acknowledges nothing before the handler has said that it is fenced; what else the
page promises, line by line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import RESOURCE, CommandError, Node, Pair

MIB = 1 << 20
HANDLER = """\
#!/bin/sh
echo "$DRBD_RESOURCE: fencing $DRBD_PEER"
touch "$1/asked"
while [ ! -e "$1/exit-code" ]; do sleep 0.05; done
exit $(cat "$1/exit-code")
"""
CONFIGURATION = """\
resource drbd0 {
  net { protocol C; fencing FENCING; }
  handlers {
    fence-peer    "DIRECTORY/fence-peer DIRECTORY";
    unfence-peer  "touch DIRECTORY/unfenced";
    disconnected  "touch DIRECTORY/disconnected";
  }
  device minor 0;
  meta-disk internal;
  on castor { disk DISK_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; address 127.0.0.2:PORT; }
}
"""


class FencedPair:
    """A pair in sync, castor primary; `answer` lets the handler end."""

    def __init__(self, pair: Pair, directory: Path) -> None:
        self.pair = pair
        self.directory = directory
        self.castor, self.pollux = pair.nodes

    def answer(self, exit_code: int) -> None:
        partial = self.directory / "partial"
        partial.write_text(f"{exit_code}\n", encoding="ascii")
        partial.rename(self.directory / "exit-code")

    def wait_for(self, name: str) -> None:
        self.pair.wait_for((self.directory / name).exists, f"the handler to leave {name}")

    def wait_for_outdated(self) -> None:
        self.pair.wait_for(lambda: self.castor.status().peer_disk == "Outdated", "the handler's word")

    def suspended(self, node: Node) -> bool:
        return bool(node.status().raw["suspended-fencing"])


def fenced_pair(directory: Path, fencing: str) -> Iterator[FencedPair]:
    text = CONFIGURATION.replace("FENCING", fencing).replace("DIRECTORY", str(directory))
    script = directory / "fence-peer"
    script.write_text(HANDLER, encoding="utf-8")
    script.chmod(0o755)
    with Pair.create(directory, 32 * MIB, configuration=text) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        (directory / "unfenced").unlink(missing_ok=True)
        yield FencedPair(pair, directory)


@pytest.fixture
def stonith(tmp_path: Path) -> Iterator[FencedPair]:
    yield from fenced_pair(tmp_path, "resource-and-stonith")


class Writer:
    """One write on its way, in a thread."""

    def __init__(self, client: NbdClient, offset: int, data: bytes) -> None:
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(client, offset, data))
        self._thread.start()

    def _write(self, client: NbdClient, offset: int, data: bytes) -> None:
        client.write(offset, data)
        self.done.set()

    def join(self) -> None:
        assert self.done.wait(10)
        self._thread.join()


def test_writes_are_frozen_until_the_handler_has_fenced_the_peer(stonith: FencedPair) -> None:
    castor = stonith.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(0, b"a" * 4096)
        stonith.pollux.kill()
        stonith.wait_for("asked")
        writer = Writer(client, 4096, b"b" * 4096)
        assert not writer.done.wait(1.0)
        assert stonith.suspended(castor)
        assert "suspended:fencing" in castor.run("status", RESOURCE)
        stonith.answer(7)
        writer.join()
        assert not stonith.suspended(castor)
        assert castor.status().peer_disk == "Outdated"
        assert castor.logged("handler fence-peer: drbd0: fencing pollux")
    stonith.wait_for("disconnected")
    stonith.pollux.run("up", RESOURCE)
    stonith.pair.wait_in_sync()
    stonith.wait_for("unfenced")


def test_a_handler_that_fails_leaves_them_frozen_until_resume_io(stonith: FencedPair) -> None:
    castor = stonith.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        stonith.pollux.kill()
        stonith.wait_for("asked")
        writer = Writer(client, 4096, b"b" * 4096)
        stonith.answer(1)
        assert not writer.done.wait(1.0)
        castor.run("resume-io", RESOURCE)
        writer.join()


def test_a_peer_that_comes_back_ends_the_freeze(stonith: FencedPair) -> None:
    castor, pollux = stonith.castor, stonith.pollux
    with NbdClient.connect(castor.nbd_socket) as client:
        pollux.kill()
        stonith.wait_for("asked")
        writer = Writer(client, 4096, b"c" * 4096)
        assert not writer.done.wait(0.5)
        pollux.run("up", RESOURCE)
        writer.join()
        stonith.pair.wait_in_sync()
        client.flush()
    stonith.answer(4)
    assert stonith.pair.data_areas_differ(16 * MIB) is None


def test_a_node_that_restarts_alone_is_not_promoted_before_its_peer_is_fenced(stonith: FencedPair) -> None:
    castor, pollux = stonith.castor, stonith.pollux
    castor.kill()
    pollux.run("down", RESOURCE)
    pollux.run("up", RESOURCE)
    assert pollux.status().disk == "Consistent"
    stonith.answer(1)
    with pytest.raises(CommandError) as refusal:
        pollux.run("primary", RESOURCE)
    assert refusal.value.code == 11
    stonith.answer(7)
    pollux.run("primary", RESOURCE)
    assert pollux.status().disk == "UpToDate"


def test_a_primary_that_disconnects_outdates_its_peer(stonith: FencedPair) -> None:
    castor, pollux = stonith.castor, stonith.pollux
    castor.run("disconnect", RESOURCE)
    stonith.pair.wait_for(lambda: pollux.status().disk == "Outdated", "pollux to be Outdated")
    assert castor.status().peer_disk == "Outdated"
    assert not (stonith.directory / "asked").exists()
    castor.run("connect", RESOURCE)
    stonith.pair.wait_in_sync()


def test_resource_only_fences_beside_the_writes(tmp_path: Path) -> None:
    for fenced in fenced_pair(tmp_path, "resource-only"):
        castor = fenced.castor
        with NbdClient.connect(castor.nbd_socket) as client:
            fenced.pollux.kill()
            fenced.wait_for("asked")
            begun = time.monotonic()
            client.write(0, b"d" * 4096)
            assert time.monotonic() - begun < 5
            assert castor.status().peer_disk == "DUnknown"
            fenced.answer(4)
            fenced.wait_for_outdated()


def test_suspend_io_holds_and_resume_io_lets_go(stonith: FencedPair) -> None:
    castor = stonith.castor
    castor.run("suspend-io", RESOURCE)
    assert "suspended:user" in castor.run("status", RESOURCE)
    with NbdClient.connect(castor.nbd_socket) as client:
        writer = Writer(client, 0, b"e" * 4096)
        assert not writer.done.wait(0.7)
        castor.run("resume-io", RESOURCE)
        writer.join()
