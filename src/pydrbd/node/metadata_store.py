"""The metadata of one volume on its disk: opened, checked, written whole, in an order that a crash may cut.

- The superblock is one aligned 4 KiB write, flushed, and `write` returns only then.
- Applying the activity log: the bitmap is durable first, then the ring is initialised, then the superblock says so. Cut
  between any two of these, the next run does the rest; run twice, it changes nothing.
- Creating: the old superblock goes first, so that no moment shows old identifiers over an empty bitmap.

Knows DRBD's v08 format through `pydrbd.ondisk`, and neither roles nor rules.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from pydrbd.core.engine import Disk
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing import metadata_move
from pydrbd.node.backing.metadata_file import grow_file, make_file
from pydrbd.node.backing.metadata_move import KnownSize
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import BackingDisk, DiskIoError
from pydrbd.ondisk import activity_log, superblock
from pydrbd.ondisk.bitmap import EXTENT_BYTES, apply_activity_log, count, device_bits, set_range
from pydrbd.ondisk.errors import ActivityLogDamagedError, DiskTooSmallError, NoMetadataError, OnDiskError
from pydrbd.ondisk.layout import (
    BLOCK_BYTES,
    DEFAULT_AL_STRIPE_SIZE_4K,
    DEFAULT_AL_STRIPES,
    SECTOR_BYTES,
    Layout,
    MetaKind,
    bitmap_bytes,
    flexible_bytes,
    layout_for,
    superblock_offset,
)
from pydrbd.ondisk.superblock import Superblock

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_EXTENTS_PER_PAGE = BLOCK_BYTES // EXTENT_BYTES


@dataclass(frozen=True, slots=True)
class LogApplied:
    """What applying the activity log did. `was_primary`: the superblock had the mark, so that the log counted."""

    was_primary: bool
    extents: frozenset[int]
    bits_newly_set: int
    changed: bool


class MetadataStore:
    """A volume's open disks and its superblock. Not thread-safe; a method that writes returns when it is durable."""

    def __init__(self, place: MetadataPlace, data: BackingDisk, metadata: BackingDisk, layout: Layout) -> None:
        """Take over the open disks; for internal metadata both are the same. Use `open` or `create`."""
        self.place = place
        self.layout = layout
        self._data = data
        self._metadata = metadata
        self._superblock: Superblock | None = None

    @classmethod
    def open(cls, place: MetadataPlace, *, exclusive: bool = True, writable: bool = True) -> MetadataStore:
        """Open the disks, read and check the superblock; write nothing. Raise an `OnDiskError` that names the disk.

        Without `exclusive` nobody is locked out: for reading beside a daemon that has the disk.
        """
        disks = _open_disks(place, exclusive=exclusive, writable=writable)
        return cls.over(place, *disks, moves=exclusive and writable)

    @classmethod
    def over(
        cls, place: MetadataPlace, data: BackingDisk, metadata: BackingDisk, *, moves: bool = False
    ) -> MetadataStore:
        """Take over disks that are open, read and check the superblock. They are closed when it is refused.

        Internal metadata of a disk that has grown since is found where it was; with `moves` it goes to the new end.
        """
        try:
            found, size_bytes = _find(place, metadata)
            layout = superblock.check_against_disk(
                found, place.kind, size_bytes, backing_bytes=data.size_bytes, index=place.index
            )
            _require_agreed_size(place, found, layout)
            store = cls(place, data, metadata, layout)
            store._superblock = found
            if moves and place.known is not None:
                store._follow_the_end()
        except BaseException as error:
            _close_disks(data, metadata)
            if isinstance(error, OnDiskError) and not isinstance(error, DiskIoError):
                raise _naming(error, place.metadata) from None
            raise
        return store

    @classmethod
    def create(
        cls,
        place: MetadataPlace,
        device_uuid: int,
        *,
        al_stripes: int = DEFAULT_AL_STRIPES,
        al_stripe_size_4k: int = DEFAULT_AL_STRIPE_SIZE_4K,
    ) -> MetadataStore:
        """Write fresh metadata over whatever is there, and return it opened. Raise an `OnDiskError`.

        The file of a place `made_by_us` is made or grown, its folder too. Nothing is written if the metadata does not
        fit.
        """
        if place.made_by_us:
            make_file(place, al_stripes * al_stripe_size_4k)
        data, metadata = _open_disks(place, exclusive=True, writable=True)
        try:
            layout = layout_for(
                place.kind,
                metadata.size_bytes,
                backing_bytes=data.size_bytes,
                index=place.index,
                al_stripes=al_stripes,
                al_stripe_size_4k=al_stripe_size_4k,
            )
            store = cls(place, data, metadata, layout)
            store._initialise(superblock.fresh(layout, device_uuid))
            store._remember()
        except BaseException as error:
            _close_disks(data, metadata)
            if isinstance(error, OnDiskError) and not isinstance(error, DiskIoError):
                raise _naming(error, place.metadata) from None
            raise
        return store

    @property
    def superblock(self) -> Superblock:
        """Return the superblock as it is on disk."""
        if self._superblock is None:
            raise DiskIoError(f"{self.place.metadata}: the superblock has not been read")
        return self._superblock

    @property
    def max_sectors(self) -> int:
        """Return the largest device that disk and metadata have room for."""
        return self.layout.max_sectors

    @property
    def direct(self) -> bool:
        """Whether the data is reached with O_DIRECT."""
        return self._data.direct

    def write(
        self,
        ids: GenerationIds,
        flags: MdFlag,
        agreed_sectors: int,
        *,
        peer_max_bio_bytes: int | None = None,
        al_extents: int | None = None,
    ) -> None:
        """Write the superblock as one who is attached: whole, flushed, unclean. Raise `OnDiskError`.

        What is left out stays. Nothing is written when nothing would change.
        """
        old = self.superblock
        self._write_superblock(
            superblock.attached(
                replace(
                    old,
                    ids=ids,
                    flags=flags,
                    agreed_sectors=agreed_sectors,
                    peer_max_bio_bytes=old.peer_max_bio_bytes if peer_max_bio_bytes is None else peer_max_bio_bytes,
                    al_extents=old.al_extents if al_extents is None else al_extents,
                )
            )
        )

    def apply_al(self, *, force: bool = False) -> LogApplied:
        """Mark every active extent out of sync if this node was primary; initialise the ring; say so in the superblock.

        Raise `ActivityLogDamagedError` if extents may be missing; with `force` the whole device is marked instead. So
        it is after a primary's crash with `al-updates no`, which the flag AL_DISABLED tells.
        """
        was_primary = MdFlag.PRIMARY_IND in self.superblock.flags
        ring = self._metadata.read(self.layout.al_offset_bytes, self.layout.al_blocks * BLOCK_BYTES)
        extents: frozenset[int] = frozenset()
        everything = was_primary and MdFlag.AL_DISABLED in self.superblock.flags
        try:
            extents = activity_log.replay(ring, self.layout.al_stripes).extents
        except ActivityLogDamagedError as error:
            if was_primary and not force:
                raise _naming(error, self.place.metadata) from None
            everything = was_primary
        bits_newly_set = 0
        if everything:
            bits_newly_set = self.set_all_bits()
        elif was_primary and extents:
            bits_newly_set = self._mark(extents)
        initial = activity_log.initial_ring(self.layout.al_blocks)
        changed = bits_newly_set > 0 or ring != initial
        if ring != initial:
            self._metadata.write(self.layout.al_offset_bytes, initial)
            self._metadata.flush()
        if self.superblock.needs_apply_al:
            changed = True
            self._write_superblock(superblock.log_applied(self.superblock))
        return LogApplied(was_primary, extents if was_primary else frozenset(), bits_newly_set, changed)

    def mark_clean(self) -> None:
        """Say that nobody is attached, after the engine has retired the log and gone. Not for a primary."""
        initial = activity_log.initial_ring(self.layout.al_blocks)
        self._metadata.write(self.layout.al_offset_bytes, initial)
        self._metadata.flush()
        self._write_superblock(superblock.log_applied(self.superblock))

    # --- a disk that has another size now ----------------------------------------------------------------------------

    def grown_bytes(self) -> int:
        """Return by how much the data's disk has grown since it was looked at; 0 if it has not, or cannot tell."""
        return self._data.grown_bytes()

    def look_again(self) -> Layout:
        """Return the layout that the disks have room for now. Nothing is written, but a file of our own grows."""
        self._data.look_again()
        if self.place.made_by_us:
            needed_bytes = flexible_bytes(self._data.size_bytes // SECTOR_BYTES, self.layout.al_blocks)
            grow_file(self.place.metadata, needed_bytes)
        if self._metadata is not self._data:
            self._metadata.look_again()
        return self._layout_on(self._metadata.size_bytes)

    def move_to(self, new: Layout) -> None:
        """Put the metadata there; durable on return. Nobody else writes to it meanwhile. Raise an `OnDiskError`."""
        if self.place.kind is MetaKind.INTERNAL and new.superblock_offset_bytes != self.layout.superblock_offset_bytes:
            old = self.layout
            self._superblock = metadata_move.copy(self._metadata, old, new, self.superblock)
            self.layout = new
            metadata_move.wipe(self._metadata, old)
            self._remember()
            return
        self.layout = new
        self._write_superblock(replace(self.superblock, md_size_sectors=new.md_size_sectors))

    def shrink_to(self, sectors: int) -> int:
        """Make the device this small, for good; return the bytes that its disk has to keep. Raise an `OnDiskError`.

        The superblock says so first. Then internal metadata goes to where the end of the disk is going to be; before
        the old place is wiped it is recorded where the new one is, for that is not the end of the disk yet.
        """
        if self.place.kind is not MetaKind.INTERNAL:
            self._write_superblock(replace(self.superblock, agreed_sectors=sectors))
            return sectors * SECTOR_BYTES
        kept_bytes, new = self._smallest_for(sectors)
        old = self.layout
        metadata_move.require_apart(old, new)
        self._write_superblock(replace(self.superblock, agreed_sectors=sectors))
        self._superblock = metadata_move.copy(self._metadata, old, new, self.superblock)
        known = KnownSize(kept_bytes, self.superblock.device_uuid)
        known.save(self.place.known, self.place.disk)
        if KnownSize.load(self.place.known) != known:
            raise DiskIoError(f"{self.place.known} cannot be written: the metadata stays where it is")
        self.layout = new
        metadata_move.wipe(self._metadata, old)
        return kept_bytes

    def _smallest_for(self, sectors: int) -> tuple[int, Layout]:
        """Return how large the disk has to be for a device, in whole MiB, and the layout on it."""
        size_bytes = -(-sectors * SECTOR_BYTES // _CHUNK_BYTES) * _CHUNK_BYTES
        while (layout := self._layout_on(size_bytes)).max_sectors < sectors:
            size_bytes += _CHUNK_BYTES
        return size_bytes, layout

    def _layout_on(self, size_bytes: int) -> Layout:
        return layout_for(
            self.place.kind,
            size_bytes,
            backing_bytes=self._data.size_bytes,
            index=self.place.index,
            al_stripes=self.layout.al_stripes,
            al_stripe_size_4k=self.layout.al_stripe_size_4k,
        )

    def _follow_the_end(self) -> None:
        """Move the metadata of a disk that grew while nobody had it; finish a move that was cut short."""
        known = KnownSize.load(self.place.known)
        new = self._layout_on(self._metadata.size_bytes)
        if new.superblock_offset_bytes == self.layout.superblock_offset_bytes:
            metadata_move.wipe_left_over(self._metadata, known, self.superblock)
        else:
            try:
                metadata_move.require_apart(self.layout, new)
            except DiskTooSmallError as error:
                log.warning("%s has grown: %s; it stays where it is", self.place.disk, error)
                return
            log.warning("%s has grown: its metadata moves to the new end", self.place.disk)
            self.move_to(new)
        self._remember()

    def _remember(self) -> None:
        KnownSize(self._metadata.size_bytes, self.superblock.device_uuid).save(self.place.known, self.place.disk)

    def user(self) -> str | None:
        """Return "name (pid N)" of another process that has the disk, None if none is seen to."""
        return self._data.user()

    def set_all_bits(self) -> int:
        """Mark the whole device out of sync, durably; return how many blocks were not before."""
        bits = device_bits(self._device_sectors())
        bitmap = bytearray(self.read_bitmap())
        newly_set = set_range(bitmap, 0, bits)
        self._metadata.write(self.layout.bm_offset_bytes, bitmap)
        self._metadata.flush()
        return newly_set

    def read_bitmap(self) -> bytes:
        """Return the bitmap of the device, in whole 4 KiB blocks."""
        size_bytes = min(bitmap_bytes(self._device_sectors()), self.layout.bm_bytes)
        return self._metadata.read(self.layout.bm_offset_bytes, size_bytes)

    def bits_set(self) -> int:
        """Return how many blocks of the device are out of sync on disk."""
        return count(self.read_bitmap(), device_bits(self._device_sectors()))

    def restore(self, values: Superblock, bitmap: bytes) -> None:
        """Write the superblock's values and the bitmap of a dump over what is there; the offsets stay this disk's."""
        if len(bitmap) > self.layout.bm_bytes or values.agreed_sectors > self.layout.max_sectors:
            raise DiskTooSmallError(
                f"{self.place.metadata}: the dump is of a device larger than this disk has room for"
            )
        fresh = replace(
            values,
            md_size_sectors=self.layout.md_size_sectors,
            al_offset_sectors=self.layout.al_offset_sectors,
            bm_offset_sectors=self.layout.bm_offset_sectors,
            al_stripes=self.layout.al_stripes,
            al_stripe_size_4k=self.layout.al_stripe_size_4k,
        )
        self._initialise(fresh, bitmap)

    def engine_disk(self, size_sectors: int, al_extents: int, *, flush: bool = True) -> Disk:
        """Return what the engine needs, with two new descriptors that are the engine's once it has taken them.

        The ring must be initialised (`apply_al`). `al_extents` beyond what the ring remembers is cut down to that.
        """
        layout = self.layout
        data_fd = self._data.duplicate()
        try:
            md_fd = self._metadata.duplicate()
        except OSError:
            os.close(data_fd)
            raise
        return Disk(
            data_fd=data_fd,
            md_fd=md_fd,
            size_sectors=size_sectors,
            al_offset_bytes=layout.al_offset_bytes,
            al_blocks=layout.al_blocks,
            al_stripes=layout.al_stripes,
            al_stripe_size_4k=layout.al_stripe_size_4k,
            al_extents=min(al_extents, activity_log.max_extents(layout.al_blocks)),
            al_sequence=activity_log.FIRST_SEQUENCE,
            flush=int(flush),
            bm_offset_bytes=layout.bm_offset_bytes,
            bm_bytes=layout.bm_bytes,
        )

    def close(self) -> None:
        """Close the disks; the locks go when the engine has closed its descriptors, too. Twice is fine."""
        _close_disks(self._data, self._metadata)

    def _device_sectors(self) -> int:
        """Return the size the bitmap is about: the agreed one, or all there is room for while none was agreed."""
        return self.superblock.agreed_sectors or self.layout.max_sectors

    def _write_superblock(self, new: Superblock) -> None:
        if new == self._superblock:
            return
        self._metadata.write(self.layout.superblock_offset_bytes, superblock.serialise(new))
        self._metadata.flush()
        self._superblock = new

    def _initialise(self, new: Superblock, bitmap: bytes = b"") -> None:
        block = superblock.serialise(new)
        self._metadata.write(self.layout.superblock_offset_bytes, bytes(BLOCK_BYTES))
        self._metadata.flush()
        self._metadata.write(self.layout.al_offset_bytes, activity_log.initial_ring(self.layout.al_blocks))
        zeros = bytes(_CHUNK_BYTES)
        for start in range(0, self.layout.bm_bytes, _CHUNK_BYTES):
            size_bytes = min(_CHUNK_BYTES, self.layout.bm_bytes - start)
            part = bitmap[start : start + size_bytes]
            chunk = part + zeros[: size_bytes - len(part)]
            self._metadata.write(self.layout.bm_offset_bytes + start, chunk)
        self._metadata.flush()
        self._metadata.write(self.layout.superblock_offset_bytes, block)
        self._metadata.flush()
        self._superblock = new

    def _mark(self, extents: frozenset[int]) -> int:
        """Set the extents' bits in the bitmap on disk, page by page, durably; return how many were not set."""
        pages: defaultdict[int, list[int]] = defaultdict(list)
        for extent in sorted(extents):
            pages[extent // _EXTENTS_PER_PAGE].append(extent)
        newly_set = 0
        for page, members in pages.items():
            offset = page * BLOCK_BYTES
            if offset >= self.layout.bm_bytes:
                continue  # An extent behind the end of the device, which shrank since.
            window = bytearray(self._metadata.read(self.layout.bm_offset_bytes + offset, BLOCK_BYTES))
            added = apply_activity_log(window, members, self._device_sectors(), first_bit=offset * 8)
            if added:
                self._metadata.write(self.layout.bm_offset_bytes + offset, window)
            newly_set += added
        self._metadata.flush()
        return newly_set


def erase(place: MetadataPlace) -> bool:
    """Overwrite the superblock with zeros, durably; return False if there is none, of any version.

    Raise `OnDiskError` if someone has the disk or it cannot be written.
    """
    data, metadata = _open_disks(place, exclusive=True, writable=True)
    try:
        at_bytes = superblock_offset(place.kind, metadata.size_bytes, place.index)
        if superblock.found_version(metadata.read(at_bytes, BLOCK_BYTES)) is None:
            return False
        metadata.write(at_bytes, bytes(BLOCK_BYTES))
        metadata.flush()
        metadata_move.forget(place.known)
    finally:
        _close_disks(data, metadata)
    return True


def _open_disks(place: MetadataPlace, *, exclusive: bool, writable: bool) -> tuple[BackingDisk, BackingDisk]:
    if place.made_by_us and place.disk.exists() and not place.metadata.exists():
        raise NoMetadataError(f"{place.metadata}: no DRBD metadata (no such file); `pydrbd create-md` makes it")
    data = BackingDisk.open(place.disk, exclusive=exclusive, writable=writable)
    if place.kind is MetaKind.INTERNAL:
        return data, data
    try:
        metadata = BackingDisk.open(place.metadata, exclusive=exclusive, writable=writable, slot=place.slot)
    except BaseException:
        data.close()
        raise
    return data, metadata


def _find(place: MetadataPlace, metadata: BackingDisk) -> tuple[Superblock, int]:
    """Return the superblock, and the size of the metadata device that it was written for."""
    if place.kind is MetaKind.INTERNAL:
        return metadata_move.find(metadata, KnownSize.load(place.known))
    at_bytes = superblock_offset(place.kind, metadata.size_bytes, place.index)
    return superblock.parse(metadata.read(at_bytes, BLOCK_BYTES)), metadata.size_bytes


def _close_disks(data: BackingDisk, metadata: BackingDisk) -> None:
    metadata.close()
    data.close()


def _naming(error: OnDiskError, path: Path) -> OnDiskError:
    return type(error)(f"{path}: {error}")


def _require_agreed_size(place: MetadataPlace, found: Superblock, layout: Layout) -> None:
    if found.agreed_sectors > layout.max_sectors:
        raise DiskTooSmallError(
            f"disk {place.disk} has shrunk: the device has {found.agreed_sectors} sectors,"
            f" the disk has room for {layout.max_sectors}"
        )
