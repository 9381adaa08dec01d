"""Internal metadata on a disk that has another size: every power cut leaves it whole at one place or the other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing.metadata_move import KnownSize
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import BackingDisk
from pydrbd.node.metadata_store import MetadataStore, erase
from pydrbd.ondisk.activity_log import Transaction, serialise_transaction
from pydrbd.ondisk.errors import DiskTooSmallError, NoMetadataError
from pydrbd.ondisk.layout import MetaKind, superblock_offset

MIB = 1 << 20
SMALL, LARGE = 4 * MIB, 12 * MIB
IDS = GenerationIds(0x11, 0x22, 0x33, 0x44)
FLAGS = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE | MdFlag.PRIMARY_IND
AGREED = 4096
DATA = b"what an application wrote" + bytes(4071)


def place_of(folder: Path) -> MetadataPlace:
    return MetadataPlace(folder / "disk", folder / "disk", MetaKind.INTERNAL, known=folder / "state" / "r0+0.lkbd")


def sized(path: Path, size_bytes: int) -> None:
    path.touch()
    os.truncate(path, size_bytes)


@pytest.fixture
def used(tmp_path: Path) -> MetadataPlace:
    """A disk in use: a Primary's superblock, a hot extent in its log, two marked blocks, a block of data."""
    place = place_of(tmp_path)
    sized(place.disk, SMALL)
    store = MetadataStore.create(place, device_uuid=0xABCDEF)
    store.write(IDS, FLAGS, AGREED)
    layout = store.layout
    store.close()
    with place.disk.open("r+b") as image:
        image.seek(layout.bm_offset_bytes)
        image.write(b"\x81")
        image.seek(layout.al_offset_bytes)
        image.write(serialise_transaction(Transaction(0, ((0, 1),), 10, 0, (0xFFFFFFFF,) * 10)))
        image.seek(layout.first_byte - 4096)
        image.write(DATA)
    return place


def contents(place: MetadataPlace) -> tuple[object, ...]:
    """Open as one who attaches does, and return all that must not be lost."""
    store = MetadataStore.open(place)
    try:
        found = store.superblock
        ring = store._metadata.read(store.layout.al_offset_bytes, store.layout.al_blocks * 4096)
        return found.ids, found.flags, found.device_uuid, found.agreed_sectors, store.bits_set(), ring
    finally:
        store.close()


def is_at_end(place: MetadataPlace) -> bool:
    size_bytes = place.disk.stat().st_size
    store = MetadataStore.open(place, exclusive=False, writable=False)
    store.close()
    return store.layout.superblock_offset_bytes == superblock_offset(MetaKind.INTERNAL, size_bytes)


def test_a_disk_that_grew_while_it_was_down_is_found_and_its_metadata_moves(used: MetadataPlace) -> None:
    before = contents(used)
    sized(used.disk, LARGE)
    assert not is_at_end(used), "who only reads finds it where it was"
    assert contents(used) == before
    assert is_at_end(used)
    with used.disk.open("rb") as image:
        old_end = image.read(SMALL)[-4096:]
    assert old_end == bytes(4096), "there is one superblock"
    assert contents(used) == before


def test_without_the_known_size_it_is_not_guessed(used: MetadataPlace) -> None:
    sized(used.disk, LARGE)
    assert used.known is not None
    used.known.unlink()
    with pytest.raises(NoMetadataError):
        MetadataStore.open(used)


def test_what_another_device_left_at_the_new_end_is_passed_over(used: MetadataPlace, tmp_path: Path) -> None:
    before = contents(used)
    other = MetadataPlace(tmp_path / "other", tmp_path / "other", MetaKind.INTERNAL)
    sized(other.disk, LARGE)
    MetadataStore.create(other, device_uuid=0x999).close()
    sized(used.disk, LARGE)
    with other.disk.open("rb") as image, used.disk.open("r+b") as mine:
        image.seek(LARGE - 4096)
        mine.seek(LARGE - 4096)
        mine.write(image.read(4096))
    assert contents(used) == before
    assert is_at_end(used)


def test_growth_by_less_than_the_metadata_takes_leaves_it_where_it_is(used: MetadataPlace) -> None:
    before = contents(used)
    sized(used.disk, SMALL + 8192)
    assert contents(used) == before
    assert not is_at_end(used)
    sized(used.disk, LARGE)
    assert contents(used) == before
    assert is_at_end(used)


def test_an_attached_disk_moves_its_metadata_when_it_is_looked_at_again(used: MetadataPlace) -> None:
    before = contents(used)
    store = MetadataStore.open(used)
    sized(used.disk, LARGE)
    store.move_to(store.look_again())
    assert store.max_sectors > AGREED
    assert store.layout.superblock_offset_bytes == LARGE - 4096
    store.write(IDS, FLAGS, store.max_sectors)
    store.close()
    assert contents(used)[:3] == before[:3]


def test_an_external_files_room_grows_with_the_disk(tmp_path: Path) -> None:
    place = MetadataPlace(tmp_path / "disk", tmp_path / "md", MetaKind.FLEXIBLE, made_by_us=True)
    sized(place.disk, SMALL)
    store = MetadataStore.create(place, 1)
    store.write(IDS, FLAGS, SMALL // 512)
    sized(place.disk, LARGE)
    store.move_to(store.look_again())
    assert store.max_sectors == LARGE // 512
    store.write(IDS, FLAGS, LARGE // 512)
    store.close()
    again = MetadataStore.open(place)
    assert again.max_sectors == LARGE // 512
    again.close()


def test_a_device_shrinks_and_its_disk_may_be_cut(used: MetadataPlace) -> None:
    used_sectors = MIB // 512
    store = MetadataStore.open(used)
    kept_bytes = store.shrink_to(used_sectors)
    store.close()
    assert used_sectors * 512 < kept_bytes < SMALL
    os.truncate(used.disk, kept_bytes)
    assert contents(used)[3] == used_sectors
    assert is_at_end(used)


def test_a_device_that_shrank_on_a_disk_that_was_not_cut_keeps_its_size(used: MetadataPlace) -> None:
    store = MetadataStore.open(used)
    store.shrink_to(1024)
    store.close()
    assert contents(used)[3] == 1024
    assert is_at_end(used)


def test_a_shrink_by_less_than_the_metadata_takes_is_refused_and_changes_nothing(used: MetadataPlace) -> None:
    before = contents(used)
    store = MetadataStore.open(used)
    with pytest.raises(DiskTooSmallError):
        store.shrink_to(store.max_sectors - 8)
    store.close()
    assert contents(used) == before


def test_wiped_metadata_is_not_looked_for_any_more(used: MetadataPlace) -> None:
    assert erase(used)
    assert used.known is not None
    assert not used.known.exists()


# --- power cuts ------------------------------------------------------------------------------------------------------


class PowerCutError(Exception):
    """Nothing happens after this."""


@dataclass
class Power:
    """Fails before the given step; a step is a write or a flush of the disk, or a change of the recorded size.

    What was written and not flushed is then on the disk or not: `survivors` says which of these writes are.
    """

    fails_at: int
    survivors: Callable[[int, int], bool]
    steps: int = 0
    volatile: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, what was there before) of every write since the last flush."""

    def step(self) -> None:
        if self.steps == self.fails_at:
            raise PowerCutError
        self.steps += 1

    def cut(self, path: Path) -> None:
        with path.open("r+b") as image:
            count = len(self.volatile)
            for number, (offset, old) in reversed(list(enumerate(self.volatile))):
                if not self.survivors(number, count):
                    image.seek(offset)
                    image.write(old)


SURVIVORS: dict[str, Callable[[int, int], bool]] = {
    "all": lambda _, __: True,
    "none": lambda _, __: False,
    "the last": lambda number, count: number == count - 1,
    "the first": lambda number, _: number == 0,
}


def under(power: Power, patch: pytest.MonkeyPatch, body: Callable[[], object]) -> bool:
    """Run until done or until the power fails; return whether it was done."""
    real_write, real_flush, real_save = BackingDisk.write, BackingDisk.flush, KnownSize.save

    def write(self: BackingDisk, offset_bytes: int, data: bytes) -> None:
        power.step()
        with self.path.open("rb") as image:
            image.seek(offset_bytes)
            power.volatile.append((offset_bytes, image.read(len(data))))
        real_write(self, offset_bytes, data)

    def flush(self: BackingDisk) -> None:
        power.step()
        real_flush(self)
        power.volatile.clear()

    def save(self: KnownSize, path: Path | None, disk: Path) -> None:
        power.step()
        real_save(self, path, disk)

    with patch.context() as patched:
        patched.setattr(BackingDisk, "write", write)
        patched.setattr(BackingDisk, "flush", flush)
        patched.setattr(KnownSize, "save", save)
        try:
            body()
        except PowerCutError:
            return False
        return True


def every_cut(place: MetadataPlace, patch: pytest.MonkeyPatch, body: Callable[[], object]) -> Iterator[bool]:
    """Run `body` on the same disk again and again, cut one step later each time, with every kind of survivors.

    Yield after each cut, with the disk as the power left it; at last True, after a run that was not cut.
    """
    assert place.known is not None
    image, known = place.disk.read_bytes(), place.known.read_bytes()
    for fails_at in itertools.count():
        for survivors in SURVIVORS.values():
            place.disk.write_bytes(image)
            place.known.write_bytes(known)
            power = Power(fails_at, survivors)
            done = under(power, patch, body)
            if not done:
                power.cut(place.disk)
            yield done
            if done:
                assert fails_at > 5, "there were steps to cut at"
                return


def open_and_close(place: MetadataPlace) -> None:
    store = MetadataStore.open(place)
    store.close()


def data_is_there(place: MetadataPlace, offset_bytes: int) -> bool:
    with place.disk.open("rb") as image:
        image.seek(offset_bytes)
        return image.read(4096) == DATA


def test_power_lost_at_any_step_of_growing_loses_nothing(used: MetadataPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(used)
    store = MetadataStore.open(used)
    data_at = store.layout.first_byte - 4096
    store.close()
    sized(used.disk, LARGE)
    for _ in every_cut(used, monkeypatch, lambda: open_and_close(used)):
        assert contents(used) == before
        assert is_at_end(used)
        assert data_is_there(used, data_at)
        again = MetadataStore.open(used)
        again.write(IDS, FLAGS, again.max_sectors)
        assert again.bits_set() == 2, "nothing old is marked behind the old end"
        again.close()


def test_power_lost_at_any_step_of_growing_over_an_old_superblock(
    used: MetadataPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own superblock lies at the new end, from another time."""
    sized(used.disk, LARGE)
    old = MetadataStore.open(used)
    old.write(IDS, FLAGS, AGREED)
    stale = used.disk.read_bytes()[-65536:]
    old.shrink_to(AGREED)
    old.close()
    assert used.known is not None
    known = KnownSize.load(used.known)
    assert known is not None
    sized(used.disk, known.size_bytes)
    store = MetadataStore.open(used)
    store.write(replace_ids(0x55), FLAGS, AGREED)
    store.close()
    before = contents(used)
    sized(used.disk, LARGE)
    with used.disk.open("r+b") as image:
        image.seek(LARGE - 65536)
        image.write(stale[:-4096])  # its superblock was wiped when the metadata left
    for _ in every_cut(used, monkeypatch, lambda: open_and_close(used)):
        assert contents(used) == before


def replace_ids(current: int) -> GenerationIds:
    return GenerationIds(current, 0, IDS.current, IDS.history0)


def test_power_lost_at_any_step_of_shrinking_loses_nothing(
    used: MetadataPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(used)
    sectors = 1024

    def shrink() -> None:
        store = MetadataStore.open(used)
        try:
            store.shrink_to(sectors)
        finally:
            store.close()

    for done in every_cut(used, monkeypatch, shrink):
        now = contents(used)
        assert now[:3] == before[:3]
        assert now[3] == sectors if done else now[3] in {AGREED, sectors}
        assert now[4:] == before[4:]
