"""Goal: a resync under control. Setup: two fresh disks, all of which a first sync copies, at a few MiB a second.

PASS: it is as fast as the configuration of either dialect says, rests and goes on at a person's word, and its handlers
run when they should.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import RESOURCE, SEED_CONFIGURATION, Node, Pair

MIB = 1 << 20
DISK_MIB = 6
RATE_MIB_S = 4
MODERN = """\
resource drbd0 {
  attach none;
  disk { DISK }
  handlers { HANDLERS }
  device minor 0;
  meta-disk internal;
  on castor { disk DISK_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; address 127.0.0.2:PORT; }
}
"""
SEED = SEED_CONFIGURATION.replace("  fsckcmd = /usr/bin/true\n", "  attach = none\n  net {\n    NET\n  }\n")
SLOW = "c-plan-ahead 0; resync-rate 4M;"


def modern(disk: str, handlers: str = "") -> str:
    return MODERN.replace("{ DISK }", f"{{ {disk} }}").replace("HANDLERS", handlers)


def fresh(directory: Path, configuration: str) -> Pair:
    return Pair.create(directory, DISK_MIB * MIB, configuration=configuration)


def begin(pair: Pair) -> None:
    """Begin to copy castor's disk."""
    pair.create_metadata()
    pair.up()
    pair.castor.run("primary", "--force", RESOURCE)


def wait_for(pair: Pair, replication: str) -> None:
    pair.wait_for(lambda: all(node.status().replication.startswith(replication) for node in pair.nodes), replication)


def left_kib(node: Node) -> int:
    return int(node.status().peer_device["out-of-sync"])


def when_logged(node: Node, words: str) -> datetime:
    """Return when a daemon has logged a sentence."""
    text = (node.state_directory / f"{RESOURCE}.log").read_text(encoding="utf-8")
    return datetime.fromisoformat(next(line for line in text.splitlines() if words in line).split()[0])


@pytest.mark.parametrize(
    "configuration",
    [
        modern(SLOW),
        modern("c-max-rate 4M;"),
        SEED.replace("NET", "sync-max = 4M"),
    ],
    ids=["fixed rate", "highest rate of the controller", "0.6, sync-max"],
)
def test_a_resync_is_as_fast_as_is_configured(tmp_path: Path, configuration: str) -> None:
    with fresh(tmp_path, configuration) as pair:
        begin(pair)
        pair.wait_in_sync()
        duration = when_logged(pair.pollux, "Resync done") - when_logged(pair.pollux, "Began resync")
        duration_s = duration.total_seconds()
        assert duration_s > 0.8 * DISK_MIB / RATE_MIB_S
        # A busy machine is slower than that; one that does not obey at all would need a minute at DRBD's 250 KiB/s.
        assert duration_s < 5 * DISK_MIB / RATE_MIB_S


def test_a_resync_rests_where_it_is_until_it_is_resumed_and_writes_go_on(tmp_path: Path) -> None:
    with Pair.create(tmp_path, 2 * DISK_MIB * MIB, configuration=modern(SLOW)) as pair:
        begin(pair)
        wait_for(pair, "Sync")
        pair.pollux.run("pause-sync", RESOURCE)
        wait_for(pair, "PausedSync")
        assert [node.status().peer_device["resync-suspended"] for node in pair.nodes] == ["peer", "user"]
        pair.wait_for(lambda: _stands_still(pair.castor), "what was under way to arrive")
        left = left_kib(pair.castor)
        with NbdClient.connect(pair.castor.nbd_socket) as client:
            client.write(0, b"w" * 4096)
        time.sleep(0.5)
        assert left_kib(pair.castor) in {left, left - 4}
        pair.pollux.run("resume-sync", RESOURCE)
        pair.wait_in_sync()
        assert pair.data_areas_differ(2 * DISK_MIB * MIB - MIB) is None


def test_a_resync_becomes_faster_while_it_runs_when_it_is_told_so(tmp_path: Path) -> None:
    with fresh(tmp_path, modern("c-plan-ahead 0; resync-rate 256K;")) as pair:
        begin(pair)
        wait_for(pair, "Sync")
        assert left_kib(pair.castor) > 1024
        pair.pollux.run("disk-options", "--resync-rate=100M", RESOURCE)
        pair.wait_in_sync(timeout_s=DISK_MIB * 1024 / 256 / 2)


def _stands_still(node: Node) -> bool:
    left = left_kib(node)
    time.sleep(0.2)
    return left == left_kib(node)


def test_the_handlers_of_a_resync_run_at_its_begin_and_at_its_end(tmp_path: Path) -> None:
    report = f"echo NAME $DRBD_RESOURCE $DRBD_PEER >> {tmp_path}/called"
    waits = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    handlers = f"""
      before-resync-source "{report.replace("NAME", "before-source")}";
      before-resync-target "{report.replace("NAME", "before-target")}; {waits}";
      after-resync-target "{report.replace("NAME", "after-target")}";
    """
    called = tmp_path / "called"
    with fresh(tmp_path, modern("", handlers)) as pair:
        begin(pair)
        pair.wait_for(lambda: called.exists() and called.read_text().count("\n") == 2, "both to be called")
        assert sorted(called.read_text().splitlines()) == ["before-source drbd0 pollux", "before-target drbd0 castor"]
        wait_for(pair, "Sync")
        size_kib = int(pair.castor.status().raw["devices"][0]["size"])
        assert left_kib(pair.pollux) == size_kib, "no block is copied before the handler has ended"
        (tmp_path / "go").touch()
        pair.wait_in_sync()
        pair.wait_for(lambda: called.read_text().count("\n") == 3, "the end to be told")
        assert called.read_text().splitlines()[-1] == "after-target drbd0 castor"


def test_a_handler_that_fails_prevents_a_resync_to_its_node(tmp_path: Path) -> None:
    with fresh(tmp_path, modern("", 'before-resync-target "exit 3";')) as pair:
        begin(pair)
        pair.wait_for(lambda: pair.pollux.status().connection == "StandAlone", "the target to refuse")
        assert left_kib(pair.pollux) == int(pair.pollux.status().raw["devices"][0]["size"])
        assert pair.pollux.status().disk == "Inconsistent"
