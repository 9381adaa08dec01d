"""Goal: no request reaches a disk that is smaller than it takes. Setup: castor's disk is a loop device with blocks of
4 KiB, pollux's a file; real daemons.

PASS: whichever node is Primary, its export takes nothing smaller than 4 KiB, and says so; what is written is on both.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.nbd_client import NbdClient
from pair import RESOURCE, SEED_CONFIGURATION, Node, Pair, wait_until

MIB = 1 << 20
BLOCK = 4096


@pytest.fixture
def coarse_disk(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    command = ["losetup", "--find", "--show", "--sector-size=4096", str(image)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs losetup")
    if made.returncode:
        pytest.skip(f"needs a loop device with blocks of 4 KiB: {made.stderr.strip()}")
    path = made.stdout.strip()
    yield path
    subprocess.run(["losetup", "--detach", path], check=False)


def smallest(node: Node) -> int:
    said = subprocess.run(["nbdinfo", "--json", node.uri], capture_output=True, text=True, check=True).stdout
    found: int = json.loads(said)["exports"][0]["block_size_minimum"]
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_export_takes_nothing_smaller_than_either_disk_does(tmp_path: Path, coarse_disk: str) -> None:
    configuration = SEED_CONFIGURATION.replace("DISK_OF_castor", coarse_disk)
    with Pair.create(tmp_path, 16 * MIB, configuration=configuration) as pair:
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        castor, pollux = pair.nodes
        for primary, secondary in ((castor, pollux), (pollux, castor)):
            wait_until(lambda node=secondary: node.status().role == "Secondary", "one Primary at most")
            primary.run("primary", RESOURCE)
            assert smallest(primary) == BLOCK
            with NbdClient.connect(primary.nbd_socket) as client:
                client.write(8 * BLOCK, primary.name[:1].encode() * BLOCK)
                client.flush()
            for node in pair.nodes:
                assert node.status().disk == "UpToDate"
            primary.run("secondary", RESOURCE)
        for node, path in ((castor, Path(coarse_disk)), (pollux, pollux.disk)):
            with path.open("rb") as disk:
                disk.seek(8 * BLOCK)
                assert disk.read(BLOCK) == b"p" * BLOCK, node.name
