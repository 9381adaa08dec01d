"""Goal: row F9 of the fault matrix: a link that swallows one direction.

Setup: each node in a network namespace of its own, joined by a cable; castor primary, 4 KiB writes at depth 1. One
node is given a wrong hardware address for the other: all that it sends vanishes without an error. PASS: no write waits
longer than configured, none waits at all once the peer is dropped, and both are the same again after the cable is
mended.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cable import ADDRESSES, Cable, missing
from helpers.nbd_client import NbdClient
from pair import SEED_CONFIGURATION, Pair

KIB = 1 << 10
MIB = 1 << 20
CONFIGURED_S = 6.0
SLACK_S = 2.5
AFTERWARDS_S = 1.0

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture
def cable() -> Iterator[Cable]:
    made = Cable()
    try:
        made.plug()
    except subprocess.CalledProcessError as error:
        made.unplug()
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    yield made
    made.unplug()


@pytest.fixture
def joined(cable: Cable, tmp_path: Path) -> Iterator[Pair]:
    """Return a pair in sync over the cable; castor is primary."""
    text = SEED_CONFIGURATION.replace("127.0.0.1", ADDRESSES["castor"]).replace("127.0.0.2", ADDRESSES["pollux"])
    with Pair.create(tmp_path, 32 * MIB, configuration=text) as pair:
        for node in pair.nodes:
            node.prefix = cable.prefix(node.name)
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        yield pair


def stalls(client: NbdClient, seconds: float) -> list[float]:
    generator, took = random.Random(11), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        client.write(generator.randrange(20 * MIB // 4096) * 4096, generator.randbytes(4 * KIB))
        took.append(time.monotonic() - begun)
    return took


@pytest.mark.parametrize("sender", ["castor", "pollux"])
def test_f9_a_link_that_swallows_one_direction_costs_one_stall(cable: Cable, joined: Pair, sender: str) -> None:
    castor = joined.castor
    with NbdClient.connect(castor.nbd_socket) as client:
        stalls(client, 0.5)
        cable.swallow(sender)
        took = stalls(client, CONFIGURED_S + SLACK_S + 3)
        assert max(took) < CONFIGURED_S + SLACK_S
        assert sorted(took)[-2] < AFTERWARDS_S, "more than one write waited"
        assert max(stalls(client, 3)) < AFTERWARDS_S
        assert castor.status().connection != "Connected"
        cable.mend(sender)
        joined.wait_in_sync()
        client.flush()
    assert joined.data_areas_differ(20 * MIB) is None
