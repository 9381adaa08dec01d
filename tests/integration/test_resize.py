"""Goal: a device that grows while it is in use, on real daemons. Setup: two disks with internal or other metadata.

PASS: verified writes go on, to what is old and, as soon as the command returns, to what is new; both disks hold the
same at the end, at the size that both superblocks tell; a daemon that is killed finds its metadata again.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from helpers.nbd_client import NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, SEED_CONFIGURATION, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
SMALL, LARGE = 16 * MIB, 40 * MIB
OPERATIONS = Path(__file__).resolve().parents[2] / "docs/operations.md"


def grown(*nodes: Node, size_bytes: int = LARGE) -> None:
    for node in nodes:
        os.truncate(node.disk, size_bytes)


def size_of(node: Node) -> int:
    """Return the bytes of the device."""
    return int(node.status().raw["devices"][0]["size"]) * KIB


@contextmanager
def synced(directory: Path, configuration: str) -> Iterator[Pair]:
    with Pair.create(directory, SMALL, configuration=configuration) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with synced(tmp_path, INTERNAL_METADATA_CONFIGURATION) as both:
        yield both


class Writer(threading.Thread):
    """An application: it writes blocks of its own at random until it is told to stop, and checks each."""

    def __init__(self, node: Node, size_bytes: int) -> None:
        super().__init__()
        self._client = NbdClient.connect(node.nbd_socket)
        self._blocks = size_bytes // (4 * KIB)
        self._random = random.Random(5)
        self._stop_now = threading.Event()
        self.written: dict[int, bytes] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_now.is_set():
                offset = self._random.randrange(self._blocks) * 4 * KIB
                data = self._random.randbytes(4 * KIB)
                self._client.write(offset, data)
                self.written[offset] = data
                assert self._client.read(offset, 4 * KIB) == data
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()
        self._client.flush()
        self._client.close()
        assert self.error is None, self.error
        assert len(self.written) > 10


def on_both(pair: Pair, written: dict[int, bytes]) -> None:
    for node in pair.nodes:
        with node.disk.open("rb") as image:
            for offset, data in written.items():
                image.seek(offset)
                assert image.read(len(data)) == data, f"at {offset} on {node.name}"


def same_when_down(pair: Pair) -> None:
    """Both agree when nobody writes any more, down to the last block that is new."""
    size_bytes = size_of(pair.castor)
    for node in pair.nodes:
        node.run("down", RESOURCE)
    assert pair.data_areas_differ(size_bytes) is None


@pytest.mark.parametrize("who", ["castor", "pollux"])
def test_the_device_grows_under_writes_whoever_is_told_to(pair: Pair, who: str) -> None:
    node = pair.castor if who == "castor" else pair.pollux
    before = size_of(pair.castor)
    with Writer(pair.castor, before) as writer:
        grown(*pair.nodes)
        node.run("resize", RESOURCE)
        pair.wait_in_sync()
    after = size_of(pair.castor)
    assert after == size_of(pair.pollux) > before + 20 * MIB
    with NbdClient.connect(pair.castor.nbd_socket) as client:
        data = b"new" * 1365 + b"x"
        client.write(after - 4 * KIB, data)
        client.flush()
    on_both(pair, writer.written | {after - 4 * KIB: data})
    same_when_down(pair)


def test_one_side_first_grows_nothing_until_the_other_has_room(pair: Pair) -> None:
    before = size_of(pair.castor)
    grown(pair.castor)
    refused = pair.castor.try_run("resize", RESOURCE)
    assert refused.returncode == 10
    assert "its disk has room for" in refused.stderr
    assert size_of(pair.castor) == before
    grown(pair.pollux)
    pair.castor.run("resize", "--assume-clean", RESOURCE)
    assert size_of(pair.castor) == size_of(pair.pollux) > before
    assert pair.castor.status().in_sync


def test_a_daemon_killed_after_growing_finds_its_metadata_at_the_new_end(pair: Pair) -> None:
    grown(*pair.nodes)
    pair.castor.run("resize", RESOURCE)
    pair.wait_in_sync()
    after = size_of(pair.castor)
    for node in pair.nodes:
        node.kill()
    pair.up()
    pair.wait_in_sync()
    assert (size_of(pair.castor), size_of(pair.pollux)) == (after, after)


def test_a_peer_killed_while_it_grows_follows_when_it_is_back(pair: Pair) -> None:
    with Writer(pair.castor, size_of(pair.castor)) as writer:
        grown(*pair.nodes)
        begun = threading.Thread(target=pair.castor.try_run, args=("resize", RESOURCE))
        begun.start()
        pair.pollux.kill()
        begun.join()
        pair.pollux.run("up", RESOURCE)
        pair.wait_in_sync()
        pair.castor.run("resize", RESOURCE)
        pair.wait_in_sync()
    assert size_of(pair.castor) == size_of(pair.pollux) > SMALL
    on_both(pair, writer.written)
    same_when_down(pair)


def test_disks_that_grew_while_down_are_taken_as_they_were_and_grow_by_command(pair: Pair) -> None:
    before = size_of(pair.castor)
    for node in pair.nodes:
        node.run("down", RESOURCE)
    grown(*pair.nodes)
    pair.up()
    assert size_of(pair.castor) == before
    assert pair.castor.logged("`pydrbd resize` grows it")
    pair.castor.run("primary", RESOURCE)
    pair.castor.run("resize", "--size", "24M", RESOURCE)
    pair.wait_in_sync()
    assert size_of(pair.castor) == size_of(pair.pollux) == 24 * MIB
    same_when_down(pair)


def test_disconnected_it_needs_a_word_and_the_peer_follows(pair: Pair) -> None:
    pair.pollux.run("disconnect", RESOURCE)
    grown(*pair.nodes)
    refused = pair.castor.try_run("resize", RESOURCE)
    assert refused.returncode == 10
    assert "--assume-peer-has-space" in refused.stderr
    pair.castor.run("resize", "--assume-peer-has-space", RESOURCE)
    after = size_of(pair.castor)
    with NbdClient.connect(pair.castor.nbd_socket) as client:
        client.write(after - 4 * KIB, b"n" * 4 * KIB)
    pair.pollux.run("connect", RESOURCE)
    pair.wait_in_sync()
    assert size_of(pair.pollux) == after > SMALL
    on_both(pair, {after - 4 * KIB: b"n" * 4 * KIB})
    same_when_down(pair)


def test_metadata_in_a_file_of_our_own_grows_with_the_disk(tmp_path: Path) -> None:
    with synced(tmp_path, SEED_CONFIGURATION) as pair:
        grown(*pair.nodes)
        pair.castor.run("resize", RESOURCE)
        pair.wait_in_sync()
        assert size_of(pair.castor) == size_of(pair.pollux) == LARGE
        same_when_down(pair)


def test_a_device_shrinks_while_it_is_down_and_never_while_it_is_up(pair: Pair) -> None:
    up = pair.castor.try_run("resize", "--size", "8M", RESOURCE)
    assert up.returncode == 10
    assert "a device shrinks while it is down" in up.stderr
    with NbdClient.connect(pair.castor.nbd_socket) as client:
        client.write(4 * MIB, b"k" * 4 * KIB)
        client.flush()
    pair.castor.run("secondary", RESOURCE)
    for node in pair.nodes:
        node.run("down", RESOURCE)
    asked = pair.castor.try_run("resize", "--size", "8M", RESOURCE, stdin="no\n")
    assert asked.returncode == 1
    for node in pair.nodes:
        said = node.run("resize", "--size", "8M", RESOURCE, stdin="yes\n")
        kept_bytes = int(re.search(r"cut to (\d+) bytes", said)[1])  # type: ignore[index]
        os.truncate(node.disk, kept_bytes)
    pair.up()
    pair.castor.run("primary", RESOURCE)
    assert size_of(pair.castor) == size_of(pair.pollux) == 8 * MIB
    on_both(pair, {4 * MIB: b"k" * 4 * KIB})


def test_growing_step_by_step_as_the_documentation_says(pair: Pair) -> None:
    page = OPERATIONS.read_text(encoding="utf-8").split("## A larger disk\n")[1].split("\n## ")[0]
    steps = [line.strip() for line in page.splitlines() if line.startswith(("    castor# ", "    pollux# "))]
    assert len(steps) >= 4
    before = size_of(pair.castor)
    for step in steps:
        name, _, command = step.partition("# ")
        node = pair.castor if name == "castor" else pair.pollux
        words = shlex.split(command.replace("drbd0", RESOURCE))
        if words[0] == "lvextend":
            grown(node)
        else:
            assert words[0] == "pydrbd", step
            node.run(*words[1:])
    assert size_of(pair.castor) == size_of(pair.pollux) > before
    assert pair.castor.status().in_sync
