"""The backing disk of the resource: opened and checked, its activity log applied, given to the engine, and given up.

The superblock stays with the node, bitmap and activity log are the engine's while it is attached. Refusals are one
sentence each, and say which command helps; nothing has been written then.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydrbd.config.description import ResourceView
from pydrbd.core.engine import Engine
from pydrbd.model import events
from pydrbd.model.effects import PersistMetadata
from pydrbd.model.refusals import Refusal
from pydrbd.node.backing.discard import rs_discard_sectors
from pydrbd.node.backing.disk_queue import logical_block_bytes
from pydrbd.node.backing.late import LateCalls
from pydrbd.node.backing.metadata_move import require_apart
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import DiskIoError
from pydrbd.node.metadata_store import MetadataStore
from pydrbd.node.process import EXIT_INVALID, StartError
from pydrbd.ondisk.errors import ActivityLogDamagedError, OnDiskError
from pydrbd.ondisk.layout import Layout

log = logging.getLogger(__name__)

_SMALLEST_UUID = 1 << 16
_STILL_BUSY = "the disk that was given up still has requests"
LOOK_S = 0.2
"""Nobody waits longer to hear how large the disk is."""


def new_uuid() -> int:
    """Draw a generation identifier. Bit 0 is a mark of its own, and the lowest values have meanings."""
    while (uuid := secrets.randbits(64) & ~1) < _SMALLEST_UUID:
        pass
    return uuid


class Attachment:
    """One volume's disk."""

    def __init__(
        self,
        view: ResourceView,
        engine: Engine,
        state_dir: Path,
        open_store: Callable[[MetadataPlace], MetadataStore] = MetadataStore.open,
        draw_uuid: Callable[[], int] = new_uuid,
    ) -> None:
        self._volume = view.local.volumes[0]
        self._resource = view.resource.name
        self._engine = engine
        self._place = MetadataPlace.of(self._volume, self._resource, state_dir)
        self._open_store = open_store
        self._draw_uuid = draw_uuid
        self._store: MetadataStore | None = None
        self._late = LateCalls(self._volume.options.disk_timeout_ms / 1000)
        self._grown_bytes = 0
        self._looking: asyncio.Future[None] | None = None
        self.failed = False
        """The disk has failed; set by whoever hears of it."""

    @property
    def paths(self) -> tuple[Path, Path]:
        """Return where data and metadata are; the same where the metadata is internal."""
        return self._place.disk, self._place.metadata

    @property
    def awaited(self) -> tuple[Path, ...]:
        """Return what has to be there before it can be attached. A metadata file of our own is not waited for."""
        return (self._place.disk,) if self._place.made_by_us else self.paths

    async def attach(self, token: int = 0, in_use_sectors: int = 0) -> events.Attached:
        """Open the disk, apply its activity log, give it to the engine. Raises `StartError`.

        `token` is the command's. `in_use_sectors`: the device has this size already, whatever the disk says; 0: not.
        """
        if self._store is not None:
            raise StartError(f"{self._resource}: {Refusal.DISK_IN_USE.sentence}", Refusal.DISK_IN_USE.exit_code)
        if self._late.hangs:
            raise StartError(f"cannot attach {self._volume.disk}: {_STILL_BUSY}", EXIT_INVALID)
        store = await self._open()
        self._store, self.failed, self._grown_bytes = store, False, 0
        try:
            event = await self._prepare(store, in_use_sectors)
        except StartError:
            self.close()
            raise
        if not store.direct:
            log.info("%s cannot do O_DIRECT; its pages are cached", self._volume.disk)
        return replace(event, token=token)

    async def _open(self) -> MetadataStore:
        opened: list[MetadataStore] = []
        try:
            await self._late.run(
                lambda: opened.append(self._open_store(self._place)), f"{self._place.disk}: opening it"
            )
        except OnDiskError as error:
            self._late.when_over(lambda: _close_all(opened))
            raise StartError(str(error), EXIT_INVALID) from error
        return opened[0]

    async def _prepare(self, store: MetadataStore, in_use_sectors: int) -> events.Attached:
        if store.max_sectors < in_use_sectors:
            raise StartError(
                f"{self._volume.disk} has room for {store.max_sectors} sectors, the device has {in_use_sectors}",
                EXIT_INVALID,
            )
        try:
            return await self._give_to_engine(store, in_use_sectors)
        except ActivityLogDamagedError as error:
            raise StartError(
                f"{error}; `pydrbd apply-al --force {self._resource}` marks the whole disk out of sync instead",
                EXIT_INVALID,
            ) from error
        except OnDiskError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise StartError(f"cannot attach {self._volume.disk}: {_STILL_BUSY}", EXIT_INVALID) from error
            raise StartError(f"cannot attach {self._volume.disk}: {error.strerror}") from error

    async def _give_to_engine(self, store: MetadataStore, in_use_sectors: int) -> events.Attached:
        options = self._volume.options
        applied = await self._late.run(store.apply_al, f"{self._place.metadata}: applying the activity log")
        if applied.was_primary:
            log.warning(
                "this node was Primary when it stopped: %d active extents out of sync, %d blocks (rule: apply-al)",
                len(applied.extents),
                applied.bits_newly_set,
            )
        area, block_bytes = await self._late.run(self._queue_limits, f"{self._place.disk}: a look at it")
        found = store.superblock
        size_sectors = in_use_sectors or found.agreed_sectors or store.max_sectors
        extents = options.al_extents if options.al_updates else 0
        disk = store.engine_disk(size_sectors, extents, flush=options.disk_flushes)
        await self._engine.attach(replace(disk, timeout_ms=options.disk_timeout_ms, rs_discard_sectors=area))
        return events.Attached(
            ids=found.ids,
            flags=found.flags,
            device_uuid=found.device_uuid,
            agreed_sectors=found.agreed_sectors,
            backing_sectors=store.max_sectors,
            bits_set=self._engine.counters().out_of_sync_bits,
            crashed_primary=applied.was_primary,
            new_uuid=self._draw_uuid(),
            block_bytes=block_bytes,
        )

    def _queue_limits(self) -> tuple[int, int]:
        """Return the sectors that a thin resync discards at once, and the bytes of the disk's smallest request."""
        disk = self._place.disk
        return rs_discard_sectors(self._volume.options.rs_discard_granularity_bytes, disk), logical_block_bytes(disk)

    def grown_bytes(self) -> int:
        """Return by how much the disk was larger, at the last `look`, than when it was attached; 0 without one."""
        return 0 if self._store is None or self.failed else self._grown_bytes

    async def look(self) -> None:
        """Ask how large the disk is. A disk that hangs may hold whoever asks, but not us."""
        store = self._store
        if store is None or self.failed:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_at(store))
        await asyncio.wait({self._looking}, timeout=LOOK_S)

    async def _look_at(self, store: MetadataStore) -> None:
        try:
            grown_bytes = await self._late.run(store.grown_bytes, f"{self._place.disk}: a look at it")
        except OnDiskError as error:
            log.debug("%s", error)
            return
        if store is self._store:
            self._grown_bytes = grown_bytes

    async def look_again(self) -> int:
        """Return the sectors that the disk has room for now, 0 if there is none; its metadata goes to its new end.

        Raises `OnDiskError` or `OSError` when the metadata may be damaged: the disk is to be given up.
        """
        store = self._store
        if store is None or self.failed:
            return 0
        old = store.layout
        try:
            new = await self._late.run(store.look_again, f"{self._place.disk}: a look at it")
            if new != old and new.superblock_offset_bytes != old.superblock_offset_bytes:
                require_apart(old, new)
        except OnDiskError as error:
            log.warning("%s stays as large as it was: %s", self._volume.disk, error)
            return store.max_sectors
        self._grown_bytes = 0
        if new != old:
            await self._move(store, new)
        return store.max_sectors

    async def _move(self, store: MetadataStore, new: Layout) -> None:
        """Nobody writes to the metadata while it is copied. After a failure nobody does any more."""
        log.info("the metadata of %s moves to byte %d", self._volume.disk, new.first_byte)
        try:
            await self._engine.metadata_hold()
            await self._late.run(lambda: store.move_to(new), f"{self._place.metadata}: a move")
            await self._engine.metadata_place(new.al_offset_bytes, new.bm_offset_bytes, new.bm_bytes)
        except (OSError, OnDiskError):
            self.failed = True
            raise

    async def persist(self, effect: PersistMetadata) -> None:
        """Write the superblock; durable on return. Raises `OnDiskError`, `OSError`."""
        store = self._store
        if store is None:
            raise OSError("there is no disk to write metadata to")
        if self._late.hangs:
            # It may yet write what it was asked to, over whatever is written now.
            raise DiskIoError(f"{self._place.metadata}: {_STILL_BUSY}")
        try:
            await self._late.run(
                lambda: store.write(effect.ids, effect.flags, effect.agreed_sectors), f"{self._place.metadata}: a write"
            )
        except OnDiskError:
            self.failed = True
            raise

    async def detach(self, *, clean: bool, force: bool = False) -> None:
        """Give the disk up. `clean`: this is an orderly end, the activity log is emptied and the superblock says so.

        A disk that has failed is given up without another word to it; with `force` nothing is waited for.
        """
        if self._store is None:
            return
        store, self._store = self._store, None
        clean = clean and not self.failed
        try:
            if clean:
                clean = await self._empty_log()
            if force:
                self._engine.give_up_disk()
            await self._engine.detach()
            if clean:
                await self._late.run(store.mark_clean, f"{self._place.metadata}: the last write")
        except (OSError, OnDiskError) as error:
            log.warning("%s is given up without a clean end: %s", self._volume.disk, error)
        finally:
            self._late.when_over(store.close)

    def give_up(self) -> None:
        """Wait no longer for anything that the disk was asked to do: all of it has failed."""
        self._late.give_up()
        self._engine.give_up_disk()

    async def _empty_log(self) -> bool:
        """Take every extent out of the activity log. False: it could not be done, and the next attach applies it."""
        try:
            await self._engine.al_retire()
            await self._engine.bitmap_write()
        except OSError as error:
            log.warning("the activity log of %s stays as it is: %s", self._volume.disk, error)
            return False
        return True

    def close(self) -> None:
        """Let go of the disk as a crash would, if it has not been detached."""
        if self._store is not None:
            self._late.when_over(self._store.close)
            self._store = None


def _close_all(stores: list[MetadataStore]) -> None:
    for store in stores:
        store.close()
