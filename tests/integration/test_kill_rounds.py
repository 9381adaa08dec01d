"""Goal: no acknowledged write is lost, whichever daemon dies at whatever moment.

Setup: two nodes in sync, writers with several requests in flight on the primary. The seed chooses between metadata in
a file, where every extent stays hot, and metadata on the disk itself with an activity log smaller than the disk. Each
round kills one of the daemons with SIGKILL: between writes, during a handshake, during a resync. If the primary died
and the other node was in sync it is promoted; otherwise the dead one comes back as primary.

PASS: after every round each block holds its last acknowledged write or one that was never answered; a dead secondary
costs the writers a pause and no error; at the end both disks are equal, byte by byte, and hold what the ledger allows.

PYDRBD_ROUNDS says how many rounds, PYDRBD_SEED repeats a run's choices (not its timing).
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.ledger import Ledger, Writer
from helpers.nbd_client import NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, SEED_CONFIGURATION, Node, Pair

MIB = 1 << 20
BLOCKS_PER_MIB = 256
RUN_BLOCKS = 16
PATIENCE_S = 20.0
SETUPS = ((SEED_CONFIGURATION, 128), (INTERNAL_METADATA_CONFIGURATION, 384))


def spread_blocks(writer: int, disk_mib: int) -> list[int]:
    """Return 64 KiB of blocks out of every other MiB, other ones for each writer, so that many extents are hot."""
    return [
        mib * BLOCKS_PER_MIB + writer * RUN_BLOCKS + index
        for mib in range(0, disk_mib - 1, 2)
        for index in range(RUN_BLOCKS)
    ]


class Experiment:
    """The pair, who is primary now, and what the writers were promised."""

    def __init__(self, pair: Pair, seed: int, disk_mib: int) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.primary = pair.castor
        self.ledgers = [Ledger(spread_blocks(writer, disk_mib)) for writer in range(2)]
        self.writers: list[Writer] = []

    @property
    def acknowledged(self) -> int:
        return sum(ledger.acknowledged for ledger in self.ledgers)

    def start_writers(self) -> None:
        self.writers = [Writer(self.primary.nbd_socket, ledger, self.random.getrandbits(32)) for ledger in self.ledgers]
        for writer in self.writers:
            writer.start()

    def finish_writers(self) -> None:
        for writer in self.writers:
            writer.finish()
        self.writers = []

    def wait_for_progress(self) -> None:
        before = self.acknowledged
        self.pair.wait_for(lambda: self.acknowledged > before, "the next acknowledged write", PATIENCE_S)

    def promote(self, node: Node) -> None:
        """Promote `node`; it may first have to notice that its peer is gone, or finish its handshake."""
        self.pair.wait_for(
            lambda: node.try_run("primary", RESOURCE).returncode == 0, f"{node.name} to become primary", PATIENCE_S
        )
        self.primary = node

    def check(self, where: str) -> None:
        for ledger in self.ledgers:
            ledger.check_export(self.primary.nbd_socket, where)

    def kill_secondary(self) -> None:
        victim = self.pair.peer_of(self.primary)
        victim.kill()
        self.wait_for_progress()
        time.sleep(self.random.uniform(0, 0.2))
        victim.run("up", RESOURCE)

    def kill_primary(self, where: str) -> str:
        victim, survivor = self.primary, self.pair.peer_of(self.primary)
        # Asked before the kill: what is in sync stays so while both live, and nothing else could make it so later.
        fit = survivor.status().in_sync
        victim.kill()
        self.finish_writers()
        if not fit:
            victim.run("up", RESOURCE)
        self.promote(survivor if fit else victim)
        self.check(where)
        self.start_writers()
        if fit:
            self.wait_for_progress()
            victim.run("up", RESOURCE)
        return "failover" if fit else "restart"

    def round(self, number: int) -> str:
        time.sleep(self.random.uniform(0, 0.4))
        if self.random.random() < 0.5:
            outcome = self.kill_primary(f"round {number}")
        else:
            self.kill_secondary()
            outcome = "secondary"
        if self.random.random() < 0.5:
            self.pair.wait_in_sync()
        return outcome

    def end(self) -> None:
        self.pair.wait_in_sync()
        self.finish_writers()
        self.check("at the end")
        with NbdClient.connect(self.primary.nbd_socket) as client:
            size_bytes = client.size_bytes
        self.primary.run("secondary", RESOURCE)
        for node in self.pair.nodes:
            node.run("down", RESOURCE)
        assert self.pair.data_areas_differ(size_bytes) is None
        for ledger in self.ledgers:
            for node in self.pair.nodes:
                ledger.check_disk(node.disk)


@pytest.fixture
def experiment(tmp_path: Path) -> Iterator[Experiment]:
    seed = int(os.environ.get("PYDRBD_SEED", random.getrandbits(32)))
    print(f"PYDRBD_SEED={seed}")
    configuration, disk_mib = random.Random(seed).choice(SETUPS)
    with Pair.create(tmp_path, disk_mib * MIB, configuration=configuration) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield Experiment(pair, seed, disk_mib)


@pytest.mark.rounds
def test_no_acknowledged_write_is_lost_by_a_kill(experiment: Experiment) -> None:
    rounds = int(os.environ.get("PYDRBD_ROUNDS", "15"))
    began = time.monotonic()
    experiment.start_writers()
    try:
        for number in range(1, rounds + 1):
            outcome = experiment.round(number)
            print(
                f"{time.monotonic() - began:7.1f} s  round {number}: {outcome}, {experiment.acknowledged} acknowledged"
            )
        experiment.end()
    except BaseException:
        print(experiment.pair.report())
        raise
