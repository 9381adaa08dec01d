"""What a power cut leaves of our metadata, seen by Debian's drbdmeta: it reads what we read, and marks what we mark.

Setup: the simulated pair loses its power somewhere in a workload, with the caches of both; each node's metadata goes to
a loop device. PASS: dumps are the same text, and after `apply-al`, theirs on one copy and ours on another, the bitmaps
are the same to the bit, and so are the identifiers.
"""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.test_drbdmeta import DRBDMETA, LOSETUP, attach, comparable, drbdmeta
from pydrbd.node.metadata_store import MetadataPlace, MetadataStore
from pydrbd.ondisk import activity_log
from pydrbd.ondisk.layout import MetaKind
from pydrbd.ondisk.text import dump_md, get_gi
from sim import workloads
from sim.chaos import _lose_caches
from sim.cuts import _until_cut
from sim.pair import EXTENT_SECTORS, Pair

KIND = "flex-external"
EXTENTS = 5
WORKLOADS = ("replicated", "disconnected", "alone", "broken", "handed_over", "swapped")

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a loop device"),
    pytest.mark.skipif(DRBDMETA is None, reason="drbdmeta (drbd-utils) is not installed"),
    pytest.mark.skipif(LOSETUP is None, reason="losetup is not installed"),
]


def crashed(workload: str, seed: int) -> list[bytes]:
    """Return the metadata of both nodes after their power failed somewhere in the workload."""

    async def scenario(pair: Pair) -> list[bytes]:
        await pair.boot()
        lib, world = pair.world.lib, pair.world.handle
        lib.sim_cut_at(world, 0, lib.sim_steps(world, 0) + random.Random(seed).randrange(10, 110))
        await _until_cut(getattr(workloads, workload)(pair), pair.castor)
        for node in pair.nodes:
            if node.has_power:
                node.cut_power()
            _lose_caches(pair, node)
        disks = [node.disks.metadata for node in pair.nodes]
        return [disk.peek(0, disk.size_bytes, durable=True) for disk in disks]

    images: list[bytes] = Pair.run(scenario, seed, extents=EXTENTS)
    return images


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.touch()
    os.truncate(path, EXTENTS * EXTENT_SECTORS * 512)
    return path


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "metadata"
    path.touch()
    os.truncate(path, 4 << 20)  # drbdmeta wants more room than it uses
    device = attach(path)
    yield Path(device)
    subprocess.run([LOSETUP or "", "-d", device], check=True)


def put(loop: Path, image: bytes) -> None:
    with loop.open("r+b") as disk:
        disk.write(image)
        os.fsync(disk.fileno())


def read(data: Path, loop: Path) -> tuple[str, str, bytes]:
    store = MetadataStore.open(MetadataPlace(data, loop, MetaKind.FLEXIBLE), exclusive=False, writable=False)
    try:
        bitmap = store.read_bitmap()
        dump = "".join(dump_md(store.superblock, store.layout, bitmap, "time\ncommand"))
        return comparable(dump), get_gi(store.superblock.ids, store.superblock.flags), bitmap
    finally:
        store.close()


def extents_named(data: Path, loop: Path) -> int:
    store = MetadataStore.open(MetadataPlace(data, loop, MetaKind.FLEXIBLE), exclusive=False, writable=False)
    try:
        ring = store._metadata.read(store.layout.al_offset_bytes, store.layout.al_blocks * 4096)
        return len(activity_log.replay(ring, store.layout.al_stripes).extents)
    finally:
        store.close()


def test_drbdmeta_agrees_with_what_a_power_cut_leaves(loop: Path, data: Path) -> None:
    named = 0
    for seed, workload in enumerate(WORKLOADS * 2):
        for image in crashed(workload, seed):
            put(loop, image)
            dump, line, _ = read(data, loop)
            named += extents_named(data, loop)
            assert dump == comparable(drbdmeta(loop, KIND, "dump-md")), (workload, seed)
            assert line == drbdmeta(loop, KIND, "get-gi"), (workload, seed)
            drbdmeta(loop, KIND, "apply-al")
            theirs = read(data, loop)
            put(loop, image)
            store = MetadataStore.open(MetadataPlace(data, loop, MetaKind.FLEXIBLE))
            store.apply_al()
            store.close()
            assert read(data, loop) == theirs, (workload, seed)
    assert named > len(WORKLOADS), "logs without extents prove nothing"
