"""Goal: a resync by checksums sends only what differs. PASS: what each test's name says, seen from outside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, Pair

KIB = 1 << 10
MIB = 1 << 20
DEVICE_KIB = 65496
"""A disk of 64 MiB less its metadata."""


def pair_with(path: Path, net: str) -> Pair:
    configuration = INTERNAL_METADATA_CONFIGURATION.replace("protocol C;", f"protocol C; {net}")
    return Pair.create(path, 64 * MIB, configuration=configuration)


@pytest.fixture(params=["csums-alg crc32c;", "csums-alg sha256;"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair_with(tmp_path, request.param) as both:
        both.create_metadata()
        both.up()
        both.first_sync()
        yield both


def sent_kib(pair: Pair) -> int:
    return int(pair.castor.status().peer_device["sent"])


def test_after_invalidate_only_what_differs_is_sent(pair: Pair) -> None:
    with NbdClient.connect(pair.castor.nbd_socket) as client:
        client.write(8 * MIB, random.Random(5).randbytes(4 * MIB))
    with pair.pollux.disk.open("r+b", buffering=0) as disk:
        disk.seek(9 * MIB)
        disk.write(b"damaged")
    before, lines = sent_kib(pair), len(pair.pollux.logged("had equal checksums"))
    pair.pollux.run("invalidate", RESOURCE)
    pair.wait_in_sync()
    assert sent_kib(pair) - before == 64
    (said,) = pair.pollux.logged("had equal checksums")[lines:]
    assert said == f"99 % had equal checksums, eliminated: {DEVICE_KIB - 64}K"
    assert pair.castor.disk.read_bytes()[: 48 * MIB] == pair.pollux.disk.read_bytes()[: 48 * MIB]
    assert [int(node.status().peer_device["out-of-sync"]) for node in pair.nodes] == [0, 0]


def test_only_after_a_crash_where_so_configured(tmp_path: Path) -> None:
    with pair_with(tmp_path, "csums-alg crc32c; csums-after-crash-only yes;") as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        pair.pollux.run("invalidate", RESOURCE)
        pair.wait_in_sync()
        assert not pair.pollux.logged("had equal checksums")
        with NbdClient.connect(pair.castor.nbd_socket) as client:
            client.write(0, b"x" * 64 * KIB)
        pair.castor.kill()
        pair.wait_for(lambda: pair.pollux.try_run("primary", RESOURCE).returncode == 0, "pollux to become primary")
        with NbdClient.connect(pair.pollux.nbd_socket) as client:
            client.write(32 * MIB, b"y" * 64 * KIB)
        pair.castor.run("up", RESOURCE)
        pair.wait_in_sync()
        assert pair.castor.logged("had equal checksums")
