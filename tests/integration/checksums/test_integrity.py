"""Goal: data that change on the wire are noticed with data-integrity-alg. PASS: what each test's name says."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.flipping_proxy import FlippingProxy
from helpers.nbd_client import NbdClient
from pair import INTERNAL_METADATA_CONFIGURATION, RESOURCE, Pair, free_port

KIB = 1 << 10
MIB = 1 << 20
PROXIES = {"castor": "127.0.0.4", "pollux": "127.0.0.3"}
"""Where the other node finds each."""
MARKER = b"here it comes: "


@contextlib.contextmanager
def pair_over_proxies(path: Path, net: str) -> Iterator[tuple[Pair, list[FlippingProxy]]]:
    """Yield a pair in sync of which each node finds the other through a proxy, castor primary."""
    port = free_port()
    text = INTERNAL_METADATA_CONFIGURATION.replace("protocol C;", f"protocol C; {net}")
    pair = Pair.create(path, 64 * MIB, port=port, configuration=text)
    written = pair.castor.configuration.read_text()
    real = {"castor": "127.0.0.1", "pollux": "127.0.0.2"}
    for node in pair.nodes:
        other = pair.peer_of(node).name
        node.configuration = node.directory / "drbd.conf"
        node.configuration.write_text(written.replace(f"{real[other]}:{port}", f"{PROXIES[other]}:{port}"))
    proxies = [
        FlippingProxy((PROXIES[name], port), (real[name], port), PROXIES[pair.peer_of(node).name])
        for name, node in zip(real, pair.nodes, strict=True)
    ]
    try:
        with pair:
            pair.create_metadata()
            pair.up()
            pair.first_sync()
            yield pair, proxies
    finally:
        for proxy in proxies:
            proxy.close()


def arm(proxies: list[FlippingProxy]) -> None:
    for proxy in proxies:
        proxy.arm(MARKER)


def disarm(proxies: list[FlippingProxy]) -> int:
    for proxy in proxies:
        proxy.arm(b"")
    return sum(proxy.flipped for proxy in proxies)


def disks_are_equal(pair: Pair) -> bool:
    contents = [node.disk.read_bytes()[: 48 * MIB] for node in pair.nodes]
    return contents[0] == contents[1]


@pytest.mark.parametrize("algorithm", ["crc32c", "sha1"])
def test_a_write_that_changes_on_its_way_is_sent_again(tmp_path: Path, algorithm: str) -> None:
    with pair_over_proxies(tmp_path, f"data-integrity-alg {algorithm};") as (pair, proxies):
        with NbdClient.connect(pair.castor.nbd_socket) as client:
            generator = random.Random(9)
            for round_ in range(3):
                offset = 4 * MIB * (round_ + 1)
                wanted = (MARKER + generator.randbytes(4 * KIB)) * 8
                wanted = wanted[: 32 * KIB]
                arm(proxies)
                client.write(offset, wanted)
                assert disarm(proxies) == round_ + 1
                pair.wait_in_sync()
                with pair.pollux.disk.open("rb") as disk:
                    disk.seek(offset)
                    assert disk.read(len(wanted)) == wanted
        failed = pair.pollux.logged("Digest integrity check FAILED")
        assert [line.split(": ")[1] for line in failed] == [f"{8192 * (n + 1)}s +32768" for n in range(3)]
        assert len(pair.castor.logged("Lost pollux")) == 3
        assert disks_are_equal(pair)


def test_without_it_the_change_is_found_by_a_verify_only(tmp_path: Path) -> None:
    with pair_over_proxies(tmp_path, "verify-alg crc32c;") as (pair, proxies):
        arm(proxies)
        with NbdClient.connect(pair.castor.nbd_socket) as client:
            client.write(4 * MIB, (MARKER * 300)[: 4 * KIB])
        assert disarm(proxies) == 1
        assert not disks_are_equal(pair)
        pair.castor.run("verify", "--repair", RESOURCE)
        pair.castor.run("wait-sync", "-t", "60", RESOURCE)
        pair.wait_in_sync()
        assert pair.castor.logged("Out of sync: start=8192, size=8 (sectors)")
        assert disks_are_equal(pair)
