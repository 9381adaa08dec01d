"""Goal: `on-congestion pull-ahead` over a link that is really slow, and the way back each time.

Setup: each node in a network namespace of its own, the cable between them takes 40 Mbit/s; protocol A; castor is
primary. PASS: no write waits for the link while castor is Ahead; with the writes below the link's speed both are in
sync again, by themselves and with writes going on, and ahead again with the next burst; the disks are equal at the end.
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
from pair import RESOURCE, Pair

KIB = 1 << 10
MIB = 1 << 20
LINK_MBIT_S = 40
BURSTS = 2
WRITTEN_BYTES = 6 * MIB
AHEAD_S = 0.5
PATIENCE_S = 1.5
"""Nothing is waited for; the rest is a busy machine."""
BACK_S = 60
CONFIGURATION = f"""\
resource drbd0 {{
  net {{ protocol A; on-congestion pull-ahead; congestion-fill 256k; }}
  disk {{ c-fill-target 128; }}
  device minor 0;
  meta-disk internal;
  on castor {{ disk DISK_OF_castor; address {ADDRESSES["castor"]}:PORT; }}
  on pollux {{ disk DISK_OF_pollux; address {ADDRESSES["pollux"]}:PORT; }}
}}
"""

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(missing("tc")), reason=missing("tc"))]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Yield a pair in sync; the cable is slow from then on."""
    cable = Cable()
    try:
        cable.plug()
        with Pair.create(tmp_path, 16 * MIB, configuration=CONFIGURATION) as both:
            for node in both.nodes:
                node.prefix = cable.prefix(node.name)
            both.create_metadata()
            both.up()
            both.first_sync()
            cable.throttle("castor", LINK_MBIT_S)
            yield both
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no slow cable here: {error.stderr.strip()}")
    finally:
        cable.unplug()


class Writer:
    """Writes blocks at random, and remembers how long the slowest took."""

    def __init__(self, client: NbdClient) -> None:
        self._client = client
        self._random = random.Random(8)
        self.longest_s = 0.0

    def write(self, block_bytes: int) -> None:
        begun = time.monotonic()
        block = self._random.randrange(WRITTEN_BYTES // block_bytes)
        self._client.write(block * block_bytes, self._random.randbytes(block_bytes))
        self.longest_s = max(self.longest_s, time.monotonic() - begun)


def times_ahead(pair: Pair) -> int:
    return len(pair.castor.logged("going on without it"))


def write_until_ahead(pair: Pair, writer: Writer) -> None:
    """Write faster than the link is until castor is ahead once more; then for a moment."""
    before, deadline = times_ahead(pair), time.monotonic() + BACK_S
    while times_ahead(pair) == before:
        assert time.monotonic() < deadline, pair.report()
        writer.write(32 * KIB)
    writer.longest_s = 0
    end = time.monotonic() + AHEAD_S
    while time.monotonic() < end:
        writer.write(32 * KIB)
    assert writer.longest_s < PATIENCE_S


def write_until_in_sync(pair: Pair, writer: Writer) -> None:
    """Write more slowly than the link is."""
    deadline = time.monotonic() + BACK_S
    while not pair.castor.status().in_sync:
        assert time.monotonic() < deadline, pair.report()
        writer.write(4 * KIB)


def test_each_burst_is_pulled_ahead_of_and_each_time_it_comes_back_under_writes(pair: Pair) -> None:
    castor, pollux = pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        writer = Writer(client)
        for _ in range(BURSTS):
            write_until_ahead(pair, writer)
            write_until_in_sync(pair, writer)
        # The way back is congested, too: as soon as it is over, ahead again.
        write_until_ahead(pair, writer)
        write_until_ahead(pair, writer)
        write_until_in_sync(pair, writer)
        ahead = times_ahead(pair)
        assert len(castor.logged("The congestion is over")) == len(pollux.logged("we are Behind")) == ahead
        assert castor.logged("Lost pollux") == []
        client.flush()
    castor.run("secondary", RESOURCE)
    pair.wait_in_sync()
    assert pair.data_areas_differ(WRITTEN_BYTES) is None
