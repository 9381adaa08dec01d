"""What the daemon tells of itself: status and why, and how far a resync or a verify is, sampled every second."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from pydrbd.config.description import ResourceView
from pydrbd.core.engine import Engine
from pydrbd.model import effects
from pydrbd.node.admin.progress import SAMPLE_MS, SECTORS_PER_BIT, Progress
from pydrbd.node.admin.status import PACED_STATES, Json, Snapshot, as_data, left_bits
from pydrbd.node.attachment import Attachment
from pydrbd.node.backing.md_set import md_place, md_state
from pydrbd.node.chronicle.decisions import Chronicle
from pydrbd.node.kernel.kernel_device import KernelDevice
from pydrbd.node.performer import Performer

log = logging.getLogger(__name__)


class Overview:
    """One resource's. It only looks."""

    def __init__(
        self,
        view: ResourceView,
        performer: Performer,
        engine: Engine,
        device: KernelDevice,
        chronicle: Chronicle,
        disk: Attachment,
    ) -> None:
        self._view = view
        self._performer = performer
        self._engine = engine
        self._device = device
        self._chronicle = chronicle
        self._disk = disk
        self._grown_bytes = 0
        self._progress: Progress | None = None
        self._md: Path | None = None

    def watch_md(self) -> None:
        """Find out whether the backing disk, which is there now, is an md set."""
        self._md = md_place(Path(self._view.local.volumes[0].disk))

    def resync_begins(self) -> None:
        """Count from now on what is left of it."""
        self._progress = Progress(_now_ms(), self._engine.counters().out_of_sync_bits)

    def verify_begins(self, effect: effects.StartVerify, size_sectors: int) -> None:
        """Count from now on what is left of it, if we compare."""
        stop = size_sectors if effect.stop_sector is None else min(effect.stop_sector, size_sectors)
        left = max(stop - effect.start_sector, 0) // SECTORS_PER_BIT
        self._progress = Progress(_now_ms(), left if effect.source else 0)

    def status(self) -> Json:
        """Return what `status` shows, and `why`."""
        self._look_at_progress()
        state = self._performer.state
        return as_data(
            Snapshot(
                self._view,
                state,
                self._engine.counters(),
                _now_ms(),
                self._progress,
                self._engine.io_name,
                self._device.as_data(),
                md_state(self._md) if self._md else None,
                grown_bytes=self._disk.grown_bytes(),
                given_up=self._chronicle.given_up(state),
                why=self._chronicle.why(state, self._engine.counters().out_of_sync_bits),
            )
        )

    async def sample(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(SAMPLE_MS / 1000)
            self._look_at_progress()
            await self._look_at_the_disk()
            await self._device.look_now_and_then()

    async def look(self) -> None:
        """Ask the kernel what `status` shows of device and disk; for a moment at most."""
        await self._device.look()
        await self._disk.look()

    async def _look_at_the_disk(self) -> None:
        await self._disk.look()
        grown = self._disk.grown_bytes()
        if grown > self._grown_bytes:
            disk, name = self._view.local.volumes[0].disk, self._view.resource.name
            log.info("%s has grown by %d KiB; `pydrbd resize %s` lets the device have it", disk, grown // 1024, name)
        self._grown_bytes = grown

    def _look_at_progress(self) -> None:
        left = left_bits(self._performer.state, self._engine.counters())
        if self._performer.state.replication not in PACED_STATES:
            self._progress = None
        elif self._progress is None:
            self._progress = Progress(_now_ms(), left)
        else:
            self._progress.sample(_now_ms(), left)


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
