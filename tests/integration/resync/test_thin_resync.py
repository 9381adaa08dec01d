"""Goal: a thin resync. Setup: two sparse files, `rs-discard-granularity 64K`.

PASS: what is zero at the source takes no room at the target and does not cross the wire, and both read the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.failing_disk import missing
from helpers.failing_pair import DATA_BYTES, failing_pair
from helpers.nbd_client import TRIM, NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
DATA_MIB = 63
SMALL_KIB = 4 * KIB
"""Metadata, and what a file system keeps of a file in pieces."""
THINLY = "rs-discard-granularity 64K;"
WORDS = "were zeroes: discarded, not sent"


def allocated_kib(node: Node) -> int:
    return node.disk.stat().st_blocks // 2


def sent_kib(node: Node) -> int:
    return int(node.status().peer_device["sent"])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    text = INTERNAL_METADATA_CONFIGURATION.replace("c-max-rate 1G;", f"c-max-rate 1G; {THINLY}")
    with Pair.create(tmp_path, 64 * MIB, configuration=text.replace("protocol C;", "verify-alg crc32c;")) as both:
        yield both


def verify_finds_nothing(pair: Pair) -> None:
    before = len(pair.castor.logged("Online verify done"))
    pair.castor.run("verify", RESOURCE)
    pair.wait_for(lambda: len(pair.castor.logged("Online verify done")) > before, "the verify to end")
    assert pair.castor.logged("Out of sync") == []


def test_the_first_sync_of_an_empty_disk_empties_the_other(pair: Pair) -> None:
    pair.pollux.disk.write_bytes(random.Random(3).randbytes(64 * MIB))
    with pair.castor.disk.open("r+b") as disk:
        disk.seek(30 * MIB)
        disk.write(b"all that there is")
    pair.create_metadata()
    pair.up()
    pair.first_sync()
    assert allocated_kib(pair.pollux) < SMALL_KIB
    assert sent_kib(pair.castor) == 64 + 24, "the area with data, and the end of the device, which is none"
    assert pair.data_areas_differ(DATA_MIB * MIB) is None
    assert pair.pollux.logged(WORDS)
    verify_finds_nothing(pair)


def test_what_is_discarded_while_the_peer_is_away_is_discarded_there_when_it_is_back(pair: Pair) -> None:
    pair.create_metadata()
    pair.up()
    pair.first_sync()
    data = random.Random(4).randbytes(MIB)
    with NbdClient.connect(pair.castor.nbd_socket) as client:
        for at in range(8, 24):
            client.write(at * MIB, data)
        client.flush()
        before = [allocated_kib(node) for node in pair.nodes]
        pair.castor.run("disconnect", RESOURCE)
        client.call(TRIM, 9 * MIB + 4 * KIB, 12 * MIB)
        client.write(20 * MIB, data)
        sent = sent_kib(pair.castor)
        pair.castor.run("connect", RESOURCE)
        pair.wait_in_sync()
        assert client.read(9 * MIB + 4 * KIB, 10 * MIB) == bytes(10 * MIB)
        freed = [had - allocated_kib(node) for had, node in zip(before, pair.nodes, strict=True)]
        assert min(freed) > (10 * MIB + 512 * KIB) // KIB
        # The written megabyte, and at either end the part of an area that is not marked whole, or not zero.
        assert sent_kib(pair.castor) - sent <= MIB // KIB + 2 * 64
        client.flush()
    assert pair.data_areas_differ(DATA_MIB * MIB) is None
    verify_finds_nothing(pair)


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_disk_that_cannot_discard_gets_zeroes(tmp_path: Path) -> None:
    for both in failing_pair(tmp_path, disk=THINLY):
        pair = both.pair
        with NbdClient.connect(both.castor.nbd_socket) as client:
            client.write(0, b"x" * 4 * MIB)
            pair.castor.run("disconnect", RESOURCE)
            client.call(TRIM, 0, 2 * MIB)
            pair.castor.run("connect", RESOURCE)
            pair.wait_in_sync()
            client.flush()
        assert both.pollux.logged(f"2048K {WORDS}")
        for name in ("castor", "pollux"):
            with both.disks[name].store.open("rb") as disk:
                assert disk.read(DATA_BYTES) == bytes(2 * MIB) + b"x" * 2 * MIB + bytes(DATA_BYTES - 4 * MIB), name
