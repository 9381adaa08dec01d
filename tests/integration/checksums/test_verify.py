"""Goal: an online verify finds exactly what was damaged behind our back. PASS: what each test's name says."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from helpers.nbd_client import NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, CommandError, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
BLOCK = 4 * KIB
DEVICE = 48 * MIB
"""What the tests use of the device; the disks are larger by their metadata."""
DIGESTS = "verify-alg sha1; csums-alg crc32c; data-integrity-alg crc32c;"
CONFIGURATION = INTERNAL_METADATA_CONFIGURATION.replace("protocol C;", f"protocol C; {DIGESTS}")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Pair.create(tmp_path, 64 * MIB, configuration=CONFIGURATION) as both:
        both.create_metadata()
        both.up()
        both.first_sync()
        yield both


class Writer:
    """Writes that are read back, all the time, over some of the blocks."""

    def __init__(self, node: Node, blocks: list[int]) -> None:
        self._node, self._blocks = node, blocks
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        generator = random.Random(7)
        try:
            with NbdClient.connect(self._node.nbd_socket) as client:
                while not self._end.is_set():
                    block = generator.choice(self._blocks)
                    data = generator.randbytes(BLOCK)
                    client.write(block * BLOCK, data)
                    assert client.read(block * BLOCK, BLOCK) == data
                    self.written += 1
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self.error = error


def damage(node: Node, blocks: list[int]) -> None:
    """Change a byte of each block, behind the daemon's back."""
    generator = random.Random(11)
    with node.disk.open("r+b", buffering=0) as disk:
        for block in blocks:
            offset = block * BLOCK + generator.randrange(BLOCK)
            disk.seek(offset)
            byte = disk.read(1)[0]
            disk.seek(offset)
            disk.write(bytes([byte ^ 0x40]))


def verify(node: Node, *options: str) -> None:
    node.run("verify", *options, RESOURCE)
    node.run("wait-sync", "-t", "60", RESOURCE)


def found(node: Node) -> set[int]:
    """Return the blocks that the log names."""
    named: set[int] = set()
    for line in node.logged("Out of sync: start="):
        start, size = line.split("start=")[1].split(" (")[0].split(", size=")
        named |= set(range(int(start) // 8, (int(start) + int(size)) // 8))
    return named


def out_of_sync_kib(node: Node) -> int:
    return int(node.status().peer_device["out-of-sync"])


def disks_are_equal(pair: Pair) -> bool:
    contents = [node.disk.read_bytes()[:DEVICE] for node in pair.nodes]
    return contents[0] == contents[1]


@pytest.mark.parametrize("verifier", ["castor", "pollux"])
def test_a_thousand_damaged_blocks_are_found_and_nothing_else_and_repaired(pair: Pair, verifier: str) -> None:
    node = next(each for each in pair.nodes if each.name == verifier)
    blocks = random.Random(3).sample(range(DEVICE // BLOCK), 4000)
    damaged, written = sorted(blocks[:1000]), blocks[1000:]
    with Writer(pair.castor, written) as writer:
        damage(pair.pollux, damaged)
        verify(node)
        assert [found(each) for each in pair.nodes] == [set(damaged)] * 2
        assert [out_of_sync_kib(each) for each in pair.nodes] == [4000, 4000]
        assert not disks_are_equal(pair)
        verify(node, "--repair")
        pair.wait_in_sync()
        assert [out_of_sync_kib(each) for each in pair.nodes] == [0, 0]
        logged = len(pair.castor.logged("Out of sync: start="))
        verify(node)
        assert len(pair.castor.logged("Out of sync: start=")) == logged
    assert writer.written > 100
    assert disks_are_equal(pair)
    assert not pair.castor.logged("Lost pollux")
    assert not pair.pollux.logged("Lost castor")


def test_what_an_interrupted_verify_left_is_compared_by_the_next(pair: Pair) -> None:
    damage(pair.castor, [0, DEVICE // BLOCK - 1])
    pair.castor.run("verify", "--stop", "1M", RESOURCE)
    pair.castor.run("wait-sync", "-t", "60", RESOURCE)
    assert found(pair.castor) == {0}
    verify(pair.castor)
    assert pair.castor.logged("Starting Online Verify from sector 2048")
    assert found(pair.castor) == {0, DEVICE // BLOCK - 1}


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """Let the node do nothing for a while."""
    pid = node.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def reached_sector(node: Node) -> int:
    """Return where the last verify was when it was interrupted, by its log."""
    return int(node.logged("Online Verify reached sector ")[-1].split("sector ")[1].split(",")[0])


@pytest.mark.parametrize("interruption", ["disconnect", "peer killed", "down"])
def test_an_interrupted_verify_goes_on_where_its_log_says_that_it_was(tmp_path: Path, interruption: str) -> None:
    """After a restart the log alone knows: the position is kept in memory, as 8.4 does."""
    slow = CONFIGURATION.replace("c-max-rate 1G;", "c-max-rate 24M;")
    with Pair.create(tmp_path, 64 * MIB, configuration=slow) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        pair.castor.run("secondary", RESOURCE)
        damage(pair.castor, [0, DEVICE // BLOCK - 1])
        pair.pollux.run("verify", RESOURCE)
        pair.wait_for(lambda: found(pair.pollux) == {0}, "the first block to be found")
        with stopped(pair.castor):  # nothing more is compared, however slow this machine is
            if interruption == "disconnect":
                pair.pollux.run("disconnect", "--force", RESOURCE)
                pair.pollux.run("connect", RESOURCE)
            elif interruption == "peer killed":
                pair.castor.kill()
            else:
                pair.pollux.run("down", "--force", RESOURCE)
                pair.pollux.run("up", RESOURCE)
        if interruption == "peer killed":
            pair.castor.run("up", RESOURCE)
        pair.wait_in_sync()
        at = reached_sector(pair.pollux)
        assert 0 < at < DEVICE // 512 - 8
        damage(pair.castor, [1])  # before the position: not looked at again
        verify(pair.pollux, *(["--start", str(at)] if interruption == "down" else []))
        assert pair.pollux.logged("Starting Online Verify from sector")[-1].endswith(f" {at}")
        assert found(pair.pollux) == {0, DEVICE // BLOCK - 1}


def test_a_verify_that_runs_is_shown_can_be_stopped_and_ends_with_the_connection(pair: Pair) -> None:
    with Writer(pair.castor, list(range(100))):
        pair.castor.run("verify", RESOURCE)
        device = pair.castor.status().peer_device
        assert (device["replication-state"], device["has-online-verify-details"]) == ("VerifyS", True)
        assert pair.pollux.status().replication == "VerifyT"
        with pytest.raises(CommandError) as refused:
            pair.pollux.run("verify", RESOURCE)
        assert (refused.value.code, "Resync already active" in refused.value.stderr) == (11, True)
        pair.castor.run("verify", "--stop", "0", RESOURCE)
        pair.wait_in_sync()
        assert pair.castor.logged("Online verify stopped at sector")
        pair.pollux.run("verify", RESOURCE)
        pair.castor.run("disconnect", RESOURCE)
        assert pair.pollux.logged("Online Verify reached sector")
        pair.castor.run("connect", RESOURCE)
        pair.wait_in_sync()


def test_without_an_algorithm_there_is_no_verify(shared_pair: Pair) -> None:
    with pytest.raises(CommandError) as refused:
        shared_pair.castor.run("verify", RESOURCE)
    assert refused.value.code == 11
    assert "Need a verify algorithm to start online verify" in refused.value.stderr
