"""The metadata store on files: what it writes, in which order, and what it refuses to touch."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pydrbd.config.description import MetaDisk, MetaDiskKind, Volume
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import BackingDisk, DiskInUseError, DiskIoError, DiskUnusableError
from pydrbd.node.metadata_store import MetadataStore, erase
from pydrbd.ondisk.activity_log import Transaction, initial_ring, serialise_transaction
from pydrbd.ondisk.errors import (
    ActivityLogDamagedError,
    DiskTooSmallError,
    GarbledSuperblockError,
    NoMetadataError,
    OnDiskError,
)
from pydrbd.ondisk.layout import MetaKind

MIB = 1 << 20
DISK_BYTES = 512 * MIB
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "metadata"


def sparse(path: Path, size_bytes: int) -> Path:
    path.touch()
    os.truncate(path, size_bytes)
    return path


def internal(path: Path) -> MetadataPlace:
    return MetadataPlace(path, path, MetaKind.INTERNAL)


def tail(path: Path) -> bytes:
    """The metadata of an internal disk and a bit of data before it; the rest is a hole."""
    with path.open("rb") as image:
        image.seek(DISK_BYTES - MIB)
        return image.read()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk", DISK_BYTES)


@pytest.fixture
def crashed(disk: Path) -> Path:
    """A primary's disk after a power cut."""
    with disk.open("r+b") as image:
        image.seek(DISK_BYTES - 65536)
        image.write((GOLDEN / "primary-running.tail64k.bin").read_bytes())
    return disk


@pytest.fixture
def store(disk: Path) -> Iterator[MetadataStore]:
    store = MetadataStore.create(internal(disk), device_uuid=7)
    yield store
    store.close()


def test_what_create_writes_open_reads(disk: Path, store: MetadataStore):
    written = store.superblock
    store.close()
    again = MetadataStore.open(internal(disk))
    assert again.superblock == written
    assert again.superblock.device_uuid == 7
    assert again.max_sectors == 0xFFF98
    assert again.bits_set() == 0
    again.close()


@pytest.mark.parametrize("kind", list(MetaDiskKind))
def test_every_kind_of_metadata_is_created_where_the_configuration_says(tmp_path: Path, disk: Path, kind: MetaDiskKind):
    external = sparse(tmp_path / "meta", 300 * MIB)
    meta_disk = {
        MetaDiskKind.INTERNAL: MetaDisk(kind),
        MetaDiskKind.FLEXIBLE: MetaDisk(kind, str(external)),
        MetaDiskKind.INDEXED: MetaDisk(kind, str(external), 1),
        MetaDiskKind.FILE: MetaDisk(kind),
    }[kind]
    volume = Volume(0, "/dev/nb0", 0, str(disk), meta_disk)
    place = MetadataPlace.of(volume, "drbd0", tmp_path / "state" / "deep")
    MetadataStore.create(place, device_uuid=1).close()
    store = MetadataStore.open(place)
    offset = {MetaDiskKind.INTERNAL: DISK_BYTES - 4096, MetaDiskKind.INDEXED: 128 * MIB}.get(kind, 0)
    assert store.layout.superblock_offset_bytes == offset
    with place.metadata.open("rb") as image:
        image.seek(offset + 60)
        assert image.read(4) == bytes.fromhex("8374026b")
    assert store.max_sectors == (0xFFF98 if kind is MetaDiskKind.INTERNAL else DISK_BYTES // 512)
    store.close()


def test_two_slots_of_one_device_are_held_by_two_resources(tmp_path: Path):
    shared = sparse(tmp_path / "meta", 300 * MIB)
    disks = [sparse(tmp_path / f"disk{index}", MIB) for index in range(2)]
    places = [MetadataPlace(disk, shared, MetaKind.INDEXED, index) for index, disk in enumerate(disks)]
    first = MetadataStore.create(places[0], 1)
    second = MetadataStore.create(places[1], 2)
    with pytest.raises(DiskInUseError):
        MetadataStore.open(MetadataPlace(sparse(tmp_path / "disk2", MIB), shared, MetaKind.INDEXED, 1))
    first.close()
    second.close()


def test_writing_marks_the_disk_attached_and_says_the_rest(store: MetadataStore, disk: Path):
    ids = GenerationIds(0x11, 0x22, 0x33, 0x44)
    store.write(ids, MdFlag.CONSISTENT | MdFlag.AL_CLEAN, 16384, peer_max_bio_bytes=1 << 20, al_extents=257)
    beside = MetadataStore.open(internal(disk), exclusive=False, writable=False)
    assert beside.superblock == store.superblock
    assert beside.superblock.ids == ids
    assert beside.superblock.flags == MdFlag.CONSISTENT
    assert not beside.superblock.clean
    assert beside.superblock.al_extents == 257
    beside.close()
    store.write(ids, MdFlag.CONSISTENT, 16384)
    assert store.superblock.peer_max_bio_bytes == 1 << 20, "what is left out stays"


def test_a_crashed_primarys_log_is_applied_once(crashed: Path):
    store = MetadataStore.open(internal(crashed))
    applied = store.apply_al()
    assert (applied.was_primary, applied.extents, applied.bits_newly_set) == (True, {0, 1}, 2048)
    assert store.bits_set() == 2048
    assert not store.superblock.needs_apply_al
    assert MdFlag.PRIMARY_IND in store.superblock.flags
    store.close()
    image = tail(crashed)
    store = MetadataStore.open(internal(crashed))
    again = store.apply_al()
    assert (again.bits_newly_set, again.changed) == (0, False)
    store.close()
    assert tail(crashed) == image


def test_a_crash_between_any_two_writes_of_apply_al_converges(crashed: Path, monkeypatch: pytest.MonkeyPatch):
    original = tail(crashed)[-65536:]
    real_write = BackingDisk.write
    finished = None
    for allowed in (3, 0, 1, 2):
        with crashed.open("r+b") as image:
            image.seek(DISK_BYTES - 65536)
            image.write(original)
        writes = 0

        def write(self: BackingDisk, offset_bytes: int, data: bytes, allowed: int = allowed) -> None:
            nonlocal writes
            writes += 1
            if writes > allowed:
                raise DiskIoError("power cut")
            real_write(self, offset_bytes, data)

        with monkeypatch.context() as patch:
            patch.setattr(BackingDisk, "write", write)
            store = MetadataStore.open(internal(crashed))
            if allowed < 3:
                with pytest.raises(DiskIoError):
                    store.apply_al()
            else:
                store.apply_al()
            store.close()
        store = MetadataStore.open(internal(crashed))
        store.apply_al()
        store.close()
        finished = finished or tail(crashed)
        assert tail(crashed) == finished


def test_a_secondarys_log_marks_nothing(disk: Path):
    with disk.open("r+b") as image:
        image.seek(DISK_BYTES - 65536)
        image.write((GOLDEN / "down-with-2-bits-set.tail64k.bin").read_bytes())
    store = MetadataStore.open(internal(disk))
    applied = store.apply_al()
    assert (applied.was_primary, applied.bits_newly_set, applied.changed) == (False, 0, True)
    assert store.bits_set() == 2
    store.close()


def test_a_damaged_log_is_refused_and_force_marks_everything(crashed: Path):
    store = MetadataStore.open(internal(crashed))
    with crashed.open("r+b") as image:
        image.seek(store.layout.al_offset_bytes)
        image.write(bytes(8192))
    before = tail(crashed)
    with pytest.raises(ActivityLogDamagedError, match=f"{crashed}.*apply-al --force") as caught:
        store.apply_al()
    assert caught.value.exit_code == 2
    assert tail(crashed) == before
    assert store.apply_al(force=True).bits_newly_set == 2048
    assert store.apply_al().changed is False
    store.close()


def test_a_crash_without_a_log_marks_everything(store: MetadataStore):
    store.write(GenerationIds(1), MdFlag.PRIMARY_IND | MdFlag.AL_DISABLED, 80_000)
    assert store.apply_al().bits_newly_set == 10_000


def test_extents_on_many_pages_of_the_bitmap_are_marked(store: MetadataStore):
    extents = (0, 31, 32, 33, 127, 500)
    store.write(GenerationIds(1), MdFlag.PRIMARY_IND, store.max_sectors)
    updates = tuple(enumerate(extents))
    transaction = serialise_transaction(Transaction(0, updates, 10, 0, (0xFFFFFFFF,) * 10))
    with store.place.disk.open("r+b") as image:
        image.seek(store.layout.al_offset_bytes)
        image.write(transaction)
    applied = store.apply_al()
    assert applied.extents == set(extents)
    last_extent_bits = -(-store.max_sectors // 8) - 127 * 1024
    assert applied.bits_newly_set == 4 * 1024 + last_extent_bits, "127 is short, 500 is behind the end"


def test_marking_clean_leaves_an_initial_ring(store: MetadataStore):
    store.write(GenerationIds(2), MdFlag.CONSISTENT, 8192)
    store.mark_clean()
    assert store.superblock.clean
    assert not store.superblock.needs_apply_al
    ring = tail(store.place.disk)[-4096 - 32768 : -4096]
    assert ring == initial_ring(8)


def test_a_shrunk_disk_under_external_metadata_is_refused(tmp_path: Path, disk: Path):
    place = MetadataPlace(disk, tmp_path / "md", MetaKind.FLEXIBLE, made_by_us=True)
    store = MetadataStore.create(place, 1)
    store.write(GenerationIds(2), MdFlag.CONSISTENT, DISK_BYTES // 512)
    store.close()
    os.truncate(disk, 100 * MIB)
    with pytest.raises(DiskTooSmallError, match="has shrunk"):
        MetadataStore.open(place)


def test_the_engine_gets_descriptors_of_its_own_that_keep_the_lock(store: MetadataStore, disk: Path):
    engine_disk = store.engine_disk(16384, 65534)
    assert engine_disk.al_extents == 6433
    assert engine_disk.al_sequence == 0
    assert engine_disk.bm_offset_bytes == 536817664
    assert engine_disk.size_sectors == 16384
    store.close()
    assert os.pread(engine_disk.md_fd, 0, 0) == b""
    with pytest.raises(DiskInUseError):
        MetadataStore.open(internal(disk))
    os.close(engine_disk.data_fd)
    os.close(engine_disk.md_fd)
    MetadataStore.open(internal(disk)).close()


def test_who_has_the_disk_is_named(store: MetadataStore, disk: Path):
    with pytest.raises(DiskInUseError, match=rf"{disk} is in use by .* \(pid {os.getpid()}\)") as caught:
        MetadataStore.open(internal(disk))
    assert caught.value.exit_code == 20
    assert f"(pid {os.getpid()})" in (store.user() or "")


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda _: bytes(4096), NoMetadataError),
        (lambda block: block[:60] + b"\x83\x74\x02\x6d" + block[64:], OnDiskError),
        (lambda block: block[:200] + b"\1" + block[201:], GarbledSuperblockError),
        (lambda block: block[:64] + b"\0\0\0\x70" + block[68:], GarbledSuperblockError),
    ],
)
def test_a_bad_superblock_is_refused_with_the_disks_name_and_not_touched(
    store: MetadataStore, disk: Path, damage: Callable[[bytes], bytes], error: type[OnDiskError]
):
    store.close()
    with disk.open("r+b") as image:
        image.seek(DISK_BYTES - 4096)
        block = damage(image.read(4096))
        image.seek(DISK_BYTES - 4096)
        image.write(block)
    with pytest.raises(error, match=str(disk)) as caught:
        MetadataStore.open(internal(disk))
    assert caught.value.exit_code == 255
    assert tail(disk)[-4096:] == block
    with disk.open() as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path):
    for path, said in ((tmp_path / "none", "does not exist"), (tmp_path, "neither a block device nor a file")):
        with pytest.raises(DiskUnusableError, match=said):
            MetadataStore.open(internal(path))


def test_a_disk_too_small_is_not_written_to(tmp_path: Path):
    small = sparse(tmp_path / "small", 40960)
    with pytest.raises(DiskTooSmallError, match=f"{small}: the disk is too small"):
        MetadataStore.create(internal(small), 1)
    assert small.read_bytes() == bytes(40960)


def test_create_leaves_no_old_bit_behind(store: MetadataStore, disk: Path):
    store.write(GenerationIds(1), MdFlag(0), 16384)
    assert store.set_all_bits() == 2048
    store.close()
    new = MetadataStore.create(internal(disk), 2)
    assert new.bits_set() == 0
    assert new.superblock.ids == GenerationIds()
    new.close()


def test_erase_takes_any_version_and_says_when_there_is_none(store: MetadataStore, disk: Path):
    store.close()
    assert erase(internal(disk))
    assert not erase(internal(disk))
    assert not any(tail(disk)[-4096:])


def test_reads_and_writes_are_whole_blocks_or_refused(tmp_path: Path):
    disk = BackingDisk.open(sparse(tmp_path / "odd", 3 * MIB + 700))
    disk.write(4096, b"x" * 2 * MIB)
    disk.flush()
    assert disk.read(4000, 200) == bytes(96) + b"x" * 104
    assert disk.read(3 * MIB + 600, 1000) == bytes(100), "the end of the disk is the end"
    assert len(disk.read(0, 3 * MIB)) == 3 * MIB
    for offset, size in ((512, 4096), (0, 512)):
        with pytest.raises(DiskIoError, match="whole blocks"):
            disk.write(offset, bytes(size))
    disk.close()
    disk.close()


def test_a_failing_write_is_an_error_of_that_disk(store: MetadataStore):
    readonly = BackingDisk.open(store.place.disk, exclusive=False, writable=False)
    with pytest.raises(DiskIoError, match=f"writing {store.place.disk} at byte 0 failed"):
        readonly.write(0, bytes(4096))
    readonly.close()
