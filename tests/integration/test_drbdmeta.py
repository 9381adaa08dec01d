"""Debian's drbdmeta and we, on one disk: each reads what the other writes, and both apply a log alike.

Goal: a disk goes from the kernel's DRBD to us and back in place. Setup: a loop device over a sparse file, as root, with
drbd-utils; everything else skips with the reason. PASS: the dumps of both are the same text but for the two comment
lines with time and command, and the flags, which drbdmeta printed as 0 until 9.33.
"""

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.golden_disk import DISK_BYTES, GoldenDisk
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.metadata_store import MetadataStore
from pydrbd.ondisk.activity_log import FREE, Transaction, serialise_transaction
from pydrbd.ondisk.layout import MetaKind
from pydrbd.ondisk.text import dump_md, get_gi, show_gi

MIB = 1 << 20
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
DRBDMETA = shutil.which("drbdmeta", path=PATH)
LOSETUP = shutil.which("losetup", path=PATH)
KINDS = ["internal", "flex-external", "0", "1"]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a loop device"),
    pytest.mark.skipif(DRBDMETA is None, reason="drbdmeta (drbd-utils) is not installed"),
    pytest.mark.skipif(LOSETUP is None, reason="losetup is not installed"),
]


def attach(path: Path) -> str:
    result = subprocess.run([LOSETUP or "", "-f", "--show", str(path)], capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no loop device here: {result.stderr.strip()}")
    return result.stdout.strip()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.touch()
    os.truncate(path, DISK_BYTES)
    device = attach(path)
    yield Path(device)
    subprocess.run([LOSETUP or "", "-d", device], check=True)


def drbdmeta(loop: Path, kind: str, *arguments: str) -> str:
    """Run drbdmeta on a minor that is not ours; return its output, both streams."""
    command = [DRBDMETA or "", "--force", "147", "v08", str(loop), kind, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 0, result.stderr
    return result.stdout + (result.stderr if arguments[0] == "apply-al" else "")


def place(loop: Path, kind: str) -> MetadataPlace:
    """Internal metadata is on the disk itself; for external the loop device holds nothing else, so it is both."""
    if kind == "internal":
        return MetadataPlace(loop, loop, MetaKind.INTERNAL)
    if kind == "flex-external":
        return MetadataPlace(loop, loop, MetaKind.FLEXIBLE)
    return MetadataPlace(loop, loop, MetaKind.INDEXED, int(kind))


def ours(loop: Path, kind: str) -> tuple[str, str, str]:
    store = MetadataStore.open(place(loop, kind), exclusive=False, writable=False)
    try:
        dump = "".join(dump_md(store.superblock, store.layout, store.read_bitmap(), "time\ncommand"))
        return dump, get_gi(store.superblock.ids, store.superblock.flags), show_gi(store.superblock)
    finally:
        store.close()


def comparable(dump: str) -> str:
    lines = [line for number, line in enumerate(dump.splitlines()) if number not in {1, 2}]
    return re.sub(r"flags 0x\w{8};", "flags;", "\n".join(lines))


def assert_both_read_the_same(loop: Path, kind: str) -> None:
    dump, line, explained = ours(loop, kind)
    assert comparable(dump) == comparable(drbdmeta(loop, kind, "dump-md"))
    assert line == drbdmeta(loop, kind, "get-gi")
    assert explained == drbdmeta(loop, kind, "show-gi")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.touch()
    os.truncate(path, 1024 * MIB)
    return path


def writing(loop: Path, kind: str, data: Path) -> MetadataPlace:
    """External metadata needs a data disk beside it when both are locked."""
    whole = place(loop, kind)
    return whole if kind == "internal" else MetadataPlace(data, loop, whole.kind, whole.index)


@pytest.mark.parametrize("kind", KINDS)
def test_drbdmeta_reads_what_we_create_and_write(loop: Path, data: Path, kind: str):
    store = MetadataStore.create(writing(loop, kind, data), device_uuid=0x1122334455667788)
    assert_both_read_the_same(loop, kind)
    ids = GenerationIds(0x616C12AFFA2BB01B, 0x110833D3F0902133, 0x19F6D2D4C7A9ABB6, 1)
    for flags in (MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE | MdFlag.PRIMARY_IND, MdFlag.FULL_SYNC, MdFlag(0x7F)):
        store.write(ids, flags, 16384 * 8, peer_max_bio_bytes=1 << 20)
        assert_both_read_the_same(loop, kind)
    store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_we_read_what_drbdmeta_creates_as_we_would_have_created_it(loop: Path, data: Path, kind: str):
    drbdmeta(loop, kind, "create-md")
    drbdmeta(loop, kind, "write-dev-uuid", "1122334455667788")
    assert_both_read_the_same(loop, kind)
    store = MetadataStore.open(writing(loop, kind, data))
    theirs, layout = store.superblock, store.layout
    ring = store._metadata.read(layout.al_offset_bytes, 32768)
    store.close()
    store = MetadataStore.create(writing(loop, kind, data), device_uuid=theirs.device_uuid)
    assert store.layout == layout
    assert store._metadata.read(layout.al_offset_bytes, 32768) == ring
    assert store.superblock.ids == theirs.ids
    assert store.superblock.flags == theirs.flags
    store.close()


def test_both_print_a_random_bitmap_alike(loop: Path):
    store = MetadataStore.create(place(loop, "internal"), 1)
    store.write(GenerationIds(2), MdFlag.CONSISTENT, store.max_sectors)
    chance = random.Random(147)
    rows = [bytes(32), b"\xff" * 32, b"\x01" + bytes(31)]
    for _ in range(5):
        bitmap = b"".join(
            (chance.choice(rows) if chance.random() < 0.7 else chance.randbytes(32)) * chance.choice([1, 1, 2, 30])
            for _ in range(600)
        ).ljust(16384, b"\0")[:16384]
        store._metadata.write(store.layout.bm_offset_bytes, bitmap)
        store._metadata.flush()
        assert_both_read_the_same(loop, "internal")
    store.close()


def bits_after(loop: Path, image: bytes, how: str) -> tuple[bytes, str]:
    """Put the image on the disk, apply its log their way or ours; return the bitmap and the identifiers."""
    with loop.open("r+b") as disk:
        disk.seek(DISK_BYTES - len(image))
        disk.write(image)
        os.fsync(disk.fileno())
    if how == "drbdmeta":
        drbdmeta(loop, "internal", "apply-al")
    store = MetadataStore.open(place(loop, "internal"))
    if how == "ours":
        store.apply_al()
    assert not store.superblock.needs_apply_al
    bitmap, line = store.read_bitmap(), get_gi(store.superblock.ids, store.superblock.flags)
    assert store.apply_al().changed is False, "applied already, by whoever did it"
    store.close()
    return bitmap, line


@pytest.mark.parametrize("name", ["primary-running", "secondary-running", "down-with-2-bits-set"])
def test_both_apply_the_kernels_log_alike(loop: Path, name: str):
    image = GoldenDisk.load(name).tail
    assert bits_after(loop, image, "ours") == bits_after(loop, image, "drbdmeta")


def test_both_apply_a_log_that_has_gone_round_alike(loop: Path):
    store = MetadataStore.create(place(loop, "internal"), 1)
    sectors = 120 * 8192
    store.write(GenerationIds(2), MdFlag.CONSISTENT | MdFlag.PRIMARY_IND, sectors)
    chance = random.Random(8)
    slots, cycle = [FREE] * 1237, 0
    for number in range(21):
        updates = tuple((slot, chance.choice([FREE, chance.randrange(120)])) for slot in chance.sample(range(1237), 3))
        window = tuple(slots[cycle : cycle + 919])
        block = serialise_transaction(Transaction(number, updates, 1237, cycle, window))
        store._metadata.write(store.layout.al_offset_bytes + number % 8 * 4096, block)
        cycle = 919 if cycle == 0 else 0
        for slot, extent in updates:
            slots[slot] = extent
    store._metadata.flush()
    store.close()
    with loop.open("rb") as disk:
        disk.seek(DISK_BYTES - 65536)
        image = disk.read()
    bitmap, line = bits_after(loop, image, "ours")
    assert (bitmap, line) == bits_after(loop, image, "drbdmeta")
    active = {extent for extent in slots if extent != FREE}
    assert sum(byte.bit_count() for byte in bitmap) == 1024 * len(active)


def test_drbdmeta_restores_our_dump(loop: Path, tmp_path: Path):
    store = MetadataStore.create(place(loop, "internal"), 0xABCDEF)
    store.write(GenerationIds(2, 4, 6, 8), MdFlag.CONSISTENT, 16384)
    store.set_all_bits()
    store.apply_al()
    dump = "".join(dump_md(store.superblock, store.layout, store.read_bitmap(), "time\ncommand"))
    store.close()
    (tmp_path / "dump").write_text(dump)
    drbdmeta(loop, "internal", "create-md")
    drbdmeta(loop, "internal", "restore-md", str(tmp_path / "dump"))
    again = ours(loop, "internal")[0]
    assert [line for line in again.splitlines() if "al-extents" not in line] == [
        line for line in dump.splitlines() if "al-extents" not in line
    ]


def test_a_disk_held_by_a_loop_or_a_mount_is_refused(loop: Path, tmp_path: Path):
    mke2fs, mount, umount = (shutil.which(name, path=PATH) for name in ("mke2fs", "mount", "umount"))
    if not (mke2fs and mount and umount):
        pytest.skip("mke2fs and mount are not installed")
    from pydrbd.node.backing_disk import DiskInUseError

    backing = tmp_path / "disk"
    with pytest.raises(DiskInUseError, match=f"backing file of {loop}"):
        MetadataStore.create(MetadataPlace(backing, backing, MetaKind.INTERNAL), 1)
    subprocess.run([mke2fs, "-q", str(loop)], check=True, capture_output=True)
    folder = tmp_path / "mount"
    folder.mkdir()
    subprocess.run([mount, str(loop), str(folder)], check=True)
    try:
        with pytest.raises(DiskInUseError, match=f"mounted on {folder}") as caught:
            MetadataStore.create(place(loop, "internal"), 1)
        assert caught.value.exit_code == 20
    finally:
        subprocess.run([umount, str(folder)], check=True)
    with loop.open("rb"):
        MetadataStore.create(place(loop, "internal"), 1).close()
