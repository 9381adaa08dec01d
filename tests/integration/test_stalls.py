"""Goal: rows F9, F18 and F29 of the fault matrix: a peer that stops answering without dying, with the defaults.

Setup: a pair in sync, 4 KiB writes at depth 1 on castor. PASS: no write waits longer than configured (timeout times
ko-count: 6 s, less than heartbeat's usual deadtime), none waits at all once the peer is dropped, and a peer that wakes
up is brought up to date.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from helpers.nbd_client import NbdClient
from pair import RESOURCE, Node, Pair

KIB = 1 << 10
MIB = 1 << 20
CONFIGURED_S = 6.0
"""timeout 60 (tenths of a second), ko-count 1; a silent peer is found earlier, by ping-int and ping-timeout."""
SLACK_S = 2.5
AFTERWARDS_S = 1.0


@contextlib.contextmanager
def stopped(node: Node) -> Iterator[None]:
    """Let the node's daemon stand still."""
    pid = node.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def stalls(client: NbdClient, seconds: float) -> list[float]:
    """Write for a while; return how long each write took."""
    generator, took = random.Random(11), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        client.write(generator.randrange(40 * MIB // 4096) * 4096, generator.randbytes(4 * KIB))
        took.append(time.monotonic() - begun)
    return took


def test_f18_a_stopped_peer_costs_one_configured_stall_and_then_nothing(synced_pair: Pair) -> None:
    castor, pollux = synced_pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        stalls(client, 0.5)
        with stopped(pollux):
            took = stalls(client, CONFIGURED_S + SLACK_S + 3)
            assert CONFIGURED_S - 1 < max(took) < CONFIGURED_S + SLACK_S
            assert sorted(took)[-2] < AFTERWARDS_S, "more than one write waited"
            assert castor.status().connection == "Connecting"
            assert max(stalls(client, 3)) < AFTERWARDS_S, "it is tried again behind the writes' back"
        synced_pair.wait_in_sync()
        stalls(client, 0.3)
        client.flush()
    assert synced_pair.data_areas_differ(40 * MIB) is None


def test_f18_a_flush_to_a_stopped_peer_waits_no_longer(synced_pair: Pair) -> None:
    with NbdClient.connect(synced_pair.castor.nbd_socket) as client:
        client.write(0, bytes(4 * KIB))
        with stopped(synced_pair.pollux):
            begun = time.monotonic()
            client.flush()
            assert time.monotonic() - begun < CONFIGURED_S + SLACK_S


def test_f29_a_primary_that_stood_still_while_its_peer_took_over_acknowledges_nothing(synced_pair: Pair) -> None:
    castor, pollux = synced_pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        client.write(0, b"a" * 4096)
        with stopped(castor):
            synced_pair.wait_for(
                lambda: pollux.try_run("primary", RESOURCE).returncode == 0, "pollux to become primary", 30
            )
            with NbdClient.connect(pollux.nbd_socket) as other:
                other.write(0, b"b" * 4096)
                other.flush()
        synced_pair.wait_for(lambda: castor.status().connection != "Connected", "castor to see it", 30)
        assert client.read(0, 4096) == b"a" * 4096
    assert pollux.status().role == "Primary"
    assert not castor.status().in_sync


@pytest.mark.parametrize("rounds", [3])
def test_a_peer_that_stops_for_less_than_that_is_never_lost(synced_pair: Pair, rounds: int) -> None:
    castor, pollux = synced_pair.nodes
    with NbdClient.connect(castor.nbd_socket) as client:
        for _ in range(rounds):
            with stopped(pollux):
                time.sleep(1.5)
            assert max(stalls(client, 0.3)) < CONFIGURED_S
        assert castor.logged("Lost pollux") == []
        assert castor.status().in_sync
