"""Goal: a node whose disk is missing is up by its peer's. Setup: castor's is taken away while it is down.

PASS: `up` says so with exit code 16, castor is promoted, reads and writes by pollux, and when the disk is back it is
attached and brought up to date without another word.
"""

from __future__ import annotations

from pathlib import Path

from helpers.nbd_client import NbdClient
from pair import RESOURCE, Pair, wait_until

BLOCK = 4096
DISK_BYTES = 16 << 20
DATA_BYTES = 12 << 20


def test_a_node_without_its_disk_goes_on_by_the_peers_and_takes_it_when_it_comes(tmp_path: Path) -> None:
    with Pair.create(tmp_path, DISK_BYTES) as pair:
        castor = pair.castor
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        castor.run("down", RESOURCE)
        elsewhere = castor.disk.rename(tmp_path / "elsewhere")
        result = castor.try_run("up", RESOURCE)
        assert (result.returncode, result.stderr.strip()) == (
            16,
            f"{RESOURCE}: up without its disk: {castor.disk} is not there; it is attached when it comes",
        )
        wait_until(lambda: castor.status().peer_disk == "UpToDate", "castor to see its peer")
        castor.run("primary", RESOURCE)
        assert castor.status().disk == "Diskless"
        with NbdClient.connect(castor.nbd_socket) as client:
            client.write(BLOCK, b"a" * BLOCK)
            client.flush()
            assert client.read(BLOCK, BLOCK) == b"a" * BLOCK
            elsewhere.rename(castor.disk)
            pair.wait_in_sync()
            assert castor.status().disk == "UpToDate"
            client.write(2 * BLOCK, b"b" * BLOCK)
            client.flush()
        assert pair.data_areas_differ(DATA_BYTES) is None
