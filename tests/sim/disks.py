"""A machine's simulated disks, as the node's metadata store sees a `BackingDisk`, and metadata in use already."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import DiskIoError
from pydrbd.node.metadata_store import MetadataStore
from pydrbd.ondisk import superblock
from pydrbd.ondisk.layout import MetaKind, flexible_bytes, layout_for, superblock_offset
from sim.world import PowerCutError, World

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


@dataclass(slots=True)
class SimDisk:
    """Stands where `BackingDisk` does."""

    world: World
    number: int
    path: Path
    fd: int
    size_bytes: int
    direct: bool = True

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        size_bytes = min(size_bytes, self.size_bytes - offset_bytes)
        buffer = self.world.ffi.new("uint8_t[]", size_bytes)
        self._check(self.world.lib.sim_disk_read(self.world.handle, self.fd, offset_bytes, buffer, size_bytes))
        return bytes(self.world.ffi.buffer(buffer))

    def peek(self, offset_bytes: int, size_bytes: int, *, durable: bool) -> bytes:
        """Look from outside, be there power or not."""
        buffer = self.world.ffi.new("uint8_t[]", size_bytes)
        self.world.lib.sim_disk_peek(self.world.handle, self.fd, offset_bytes, buffer, size_bytes, int(durable))
        return bytes(self.world.ffi.buffer(buffer))

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        assert offset_bytes % 4096 == 0
        assert len(data) % 4096 == 0
        done = self.world.lib.sim_disk_write(self.world.handle, self.fd, offset_bytes, bytes(data), len(data))
        self._check(done)

    def flush(self) -> None:
        self._check(self.world.lib.sim_disk_flush(self.world.handle, self.fd))

    def duplicate(self) -> int:
        fd: int = self.world.lib.sim_disk_open(self.world.handle, self.fd)
        return fd

    def look_again(self) -> int:
        return self.size_bytes

    def user(self) -> str | None:
        return None

    def close(self) -> None:
        """The disk stays: it is the machine's."""

    def _check(self, result: int) -> None:
        if self.world.lib.sim_is_dead(self.world.handle, self.number):
            raise PowerCutError
        if result < 0:
            raise DiskIoError(f"{self.path}: error {-result}")


class DiskSet:
    """One machine's data and metadata; the same disk if the metadata is internal."""

    def __init__(self, world: World, number: int, device_sectors: int, *, internal: bool) -> None:
        self.world = world
        self.device_sectors = device_sectors
        md_bytes = flexible_bytes(device_sectors)
        data_bytes = device_sectors * 512 + (md_bytes if internal else 0)
        self.data = self._new(number, "data", data_bytes)
        self.metadata = self.data if internal else self._new(number, "md", md_bytes)
        kind = MetaKind.INTERNAL if internal else MetaKind.FLEXIBLE
        self.place = MetadataPlace(self.data.path, self.metadata.path, kind)

    def all(self) -> list[SimDisk]:
        return [self.data] if self.metadata is self.data else [self.data, self.metadata]

    def _new(self, number: int, name: str, size_bytes: int) -> SimDisk:
        fd = self.world.lib.sim_disk_new(self.world.handle, number, name.encode(), size_bytes)
        return SimDisk(self.world, number, Path(f"/sim/{number}/{name}"), fd, size_bytes)

    def create(self, ids: GenerationIds, flags: MdFlag = GOOD) -> None:
        """Write metadata of a replica that has been in sync for long."""
        layout = layout_for(self.place.kind, self.metadata.size_bytes, backing_bytes=self.data.size_bytes)
        store = MetadataStore(self.place, self.data, self.metadata, layout)  # type: ignore[arg-type]
        fresh = superblock.fresh(layout, device_uuid=self.world.new_uuid())
        bare = replace(fresh, ids=ids, flags=flags, agreed_sectors=min(self.device_sectors, layout.max_sectors))
        store._initialise(bare)

    def durable_ids(self) -> GenerationIds:
        """Return the identifiers that a power cut now would leave."""
        at_bytes = superblock_offset(self.place.kind, self.metadata.size_bytes)
        return superblock.parse(self.metadata.peek(at_bytes, 4096, durable=True)).ids

    def open(self, place: MetadataPlace) -> MetadataStore:
        return MetadataStore.over(place, self.data, self.metadata)  # type: ignore[arg-type]

    # --- power cuts --------------------------------------------------------------------------------------------------

    def volatile(self) -> list[tuple[SimDisk, int, Any]]:
        """Return every write that a power cut may lose, as (disk, index, struct), in the order in which they ended."""
        found: list[tuple[SimDisk, int, Any]] = []
        for disk in self.all():
            count = self.world.lib.sim_disk_volatile(self.world.handle, disk.fd, self.world.ffi.NULL, 0)
            items = self.world.ffi.new("struct sim_volatile[]", max(count, 1))
            self.world.lib.sim_disk_volatile(self.world.handle, disk.fd, items, count)
            listed = [(disk, index, items[index]) for index in range(count)]
            listed.sort(key=lambda item: (item[2].begun_only, item[2].order, item[1]))
            # Copies: the array dies with this call.
            found += [(disk, index, Volatile.of(item)) for disk, index, item in listed]
        return found

    def survive(self, disk: SimDisk, index: int, sector: int, sectors: int) -> None:
        self.world.lib.sim_disk_survives(self.world.handle, disk.fd, index, sector, sectors)

    def lose_the_rest(self) -> None:
        for disk in self.all():
            self.world.lib.sim_disk_cut(self.world.handle, disk.fd)

    def settle(self) -> None:
        for disk in self.all():
            self.world.lib.sim_disk_settle(self.world.handle, disk.fd)


@dataclass(frozen=True, slots=True)
class Volatile:
    """One write that a power cut may lose. `order`: when it ended; 0 if it had only begun."""

    offset_bytes: int
    sectors: int
    begun_only: bool
    order: int

    @classmethod
    def of(cls, struct: Any) -> "Volatile":
        return cls(struct.offset_bytes, struct.length_bytes // 512, bool(struct.begun_only), struct.order)
