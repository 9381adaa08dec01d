"""The engine as a typed object: one method per order of `core_api.h`.

An order with a completion is a coroutine: it returns when the engine says that its effect is complete, and raises
`OSError` if it failed. An order without one is a plain method. Orders reach the engine strictly in the order of the
calls: when its ring is full the next ones queue here, behind each other, and go down as soon as there is room. All
methods belong to the event loop's thread.

Knows neither rules nor packets: facts are handed, as values, to the callable given to `start`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from pydrbd.core import facts
from pydrbd.core.binding import Binding, check, load
from pydrbd.core.facts import Fact, FactType

log = logging.getLogger(__name__)

NO_SECTOR = (1 << 64) - 1
"""Behind the end of any device."""
_RETRY_S = 0.001
"""A full ring is looked at again after this long even when no fact arrives: the engine takes orders without saying so.
"""


class Digest(IntEnum):
    """`enum core_digest`: verify-alg, csums-alg, data-integrity-alg."""

    NONE = 0
    CRC32C = 1
    MD5 = 2
    SHA1 = 3
    SHA256 = 4
    SHA384 = 5
    SHA512 = 6

    @classmethod
    def named(cls, name: str | None) -> Digest:
        """Return the digest that the configuration names; NONE for none."""
        return cls[name.upper()] if name else cls.NONE


class ResyncEnd(IntEnum):
    """`enum core_resync`: which end of a resync we are, and how a target asks."""

    SOURCE = 0
    TARGET = 1
    TARGET_BY_CHECKSUMS = 2


class Io(IntEnum):
    """`enum core_io`: which of the engine's ways to the kernel."""

    AUTO = 0
    URING = 1
    THREADS = 2


@dataclass(frozen=True, slots=True)
class Options:
    """`struct core_options`."""

    io: Io = Io.AUTO
    requests: int = 1024
    pool_bytes: int = 64 << 20
    lock_memory: bool = False
    spin_us: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """`struct core_disk`. Once `Engine.attach` has been called both descriptors are the engine's."""

    data_fd: int
    md_fd: int
    size_sectors: int
    al_offset_bytes: int = 0
    al_blocks: int = 0
    al_stripes: int = 0
    al_stripe_size_4k: int = 0
    al_extents: int = 0
    al_sequence: int = 0
    flush: int = 1
    bm_offset_bytes: int = 0
    bm_bytes: int = 0
    timeout_ms: int = 0
    rs_discard_sectors: int = 0


@dataclass(frozen=True, slots=True)
class Peer:
    """`struct core_peer`. Once `Engine.peer_connect` has been called both descriptors are the engine's."""

    data_fd: int
    meta_fd: int
    agreed_version: int
    features: int
    ping_int_ms: int
    ping_timeout_ms: int
    timeout_ms: int
    ko_count: int
    max_epoch_size: int
    max_buffers: int
    verify_alg: int = Digest.NONE
    csums_alg: int = Digest.NONE
    integrity_alg: int = Digest.NONE
    congestion_fill_sectors: int = 0
    congestion_extents: int = 0


@dataclass(frozen=True, slots=True)
class Parked:
    """A client's socket between two requests, for the engine of the next process. `fd` is the holder's."""

    fd: int
    structured: bool = False
    """Structured replies were negotiated."""
    device: bool = False
    """It is our own kernel device's."""
    rest: bytes = b""
    """What had come of the next request."""


@dataclass(frozen=True, slots=True)
class Counters:
    """`struct core_counters`: running sums since the engine began, and gauges."""

    read_sectors: int = 0
    written_sectors: int = 0
    sent_sectors: int = 0
    received_sectors: int = 0
    al_writes: int = 0
    bm_writes: int = 0
    application_requests: int = 0
    resync_sectors: int = 0
    resync_same_sectors: int = 0
    resync_thin_sectors: int = 0
    mended_sectors: int = 0
    out_of_sync_bits: int = 0
    upper_pending: int = 0
    lower_pending: int = 0
    pending: int = 0
    unacked: int = 0
    unstable: int = 0
    clients: int = 0
    resync_in_flight_sectors: int = 0
    verify_left_sectors: int = 0
    turns: int = 0
    enters: int = 0


@dataclass(slots=True)
class _Order:
    """An order that waits for room in the ring."""

    what: str
    call: Callable[[], int]
    done: asyncio.Future[int] | None


class Engine:
    """One engine: one resource's data plane."""

    def __init__(self, options: Options | None = None, binding: Binding | None = None) -> None:
        """Allocate the engine with all its memory. Raises `OSError`."""
        binding = binding or load()
        self._ffi, self._lib = binding.ffi, binding.lib
        out = self._ffi.new("core_engine **")
        fields = asdict(options or Options())
        check(self._lib.core_engine_new(self._ffi.new("struct core_options *", fields), out), "start of the engine")
        self._engine: Any = out[0]
        self._batch = self._ffi.new("struct core_fact[]", self._lib.CORE_FACT_BATCH)
        self._pending: dict[int, asyncio.Future[int]] = {}
        self._parked: list[Parked] = []
        self._backlog: deque[_Order] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._token = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_fact: Callable[[Fact], None] = lambda _: None

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self, on_fact: Callable[[Fact], None]) -> None:
        """Start the engine's thread. Facts go to `on_fact`, from the running event loop. Raises `OSError`."""
        self._on_fact = on_fact
        self._loop = asyncio.get_running_loop()
        check(self._lib.core_engine_start(self._engine), "start of the engine")
        self._loop.add_reader(self._lib.core_engine_event_fd(self._engine), self._drain)

    def stop(self) -> None:
        """Stop and free the engine; it closes every descriptor it has.

        Orders still under way fail with ESHUTDOWN. Twice is fine.
        """
        if self._engine is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._lib.core_engine_event_fd(self._engine))
            self._lib.core_engine_stop(self._engine)
        if self._retry is not None:
            self._retry.cancel()
        self._lib.core_engine_free(self._engine)
        self._engine = None
        self._backlog.clear()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(OSError(errno.ESHUTDOWN, "the engine has stopped"))
        self._pending.clear()

    @property
    def io_name(self) -> str:
        """Return the way to the kernel in use, ``io_uring`` or ``threads``."""
        name: bytes = self._ffi.string(self._lib.core_engine_io_name(self._engine))
        return name.decode()

    def counters(self) -> Counters:
        """Return the counters of this moment."""
        if self._engine is None:
            return Counters()
        out = self._ffi.new("struct core_counters *")
        self._lib.core_engine_counters(self._engine, out)
        return Counters(**{name: int(getattr(out, name)) for name in Counters.__slots__})

    # --- orders: the disk ---------------------------------------------------------------------------------------------

    async def attach(self, disk: Disk) -> None:
        """Take the backing disk, load its bitmap."""
        struct = self._ffi.new("struct core_disk *", asdict(disk))
        await self._order("attach", lambda token: self._lib.core_attach(self._engine, token, struct))

    async def detach(self) -> None:
        """Give the backing disk up; writes that wait for it complete by their other leg."""
        await self._order("detach", lambda token: self._lib.core_detach(self._engine, token))

    def keep_disk(self) -> None:
        """Go on with a disk that failed to read or write: failed writes complete by their other leg."""
        self._submit("keep", lambda: self._lib.core_keep_disk(self._engine))

    def give_up_disk(self) -> None:
        """Let what is under way on the disk fail now, whenever it may end."""
        self._submit("give up", lambda: self._lib.core_give_up_disk(self._engine))

    async def resize(self, size_sectors: int) -> None:
        """Set the device's size; it shrinks only before the export opens. Clients see it after `export_resize`."""
        await self._order("resize", lambda token: self._lib.core_resize(self._engine, token, size_sectors))

    async def metadata_hold(self) -> None:
        """Return when nothing is under way on the metadata; nothing begins there until `metadata_place`."""
        await self._order("metadata hold", lambda token: self._lib.core_metadata_hold(self._engine, token))

    async def metadata_place(self, al_offset_bytes: int, bm_offset_bytes: int, bm_bytes: int) -> None:
        """Go on with the metadata, which is there from now on."""
        place = {"al_offset_bytes": al_offset_bytes, "bm_offset_bytes": bm_offset_bytes, "bm_bytes": bm_bytes}
        struct = self._ffi.new("struct core_disk *", place | {"data_fd": -1, "md_fd": -1})
        await self._order("metadata place", lambda token: self._lib.core_metadata_place(self._engine, token, struct))

    async def flush(self) -> None:
        """Make all completed writes of the backing disk stable."""
        await self._order("flush", lambda token: self._lib.core_flush(self._engine, token))

    async def bitmap_set(self, sector: int, sectors: int) -> None:
        """Mark a range out of sync, in memory."""
        await self._order("bitmap set", lambda token: self._lib.core_bitmap_set(self._engine, token, sector, sectors))

    async def bitmap_clear(self, sector: int, sectors: int) -> None:
        """Mark a range in sync, in memory."""
        await self._order(
            "bitmap clear", lambda token: self._lib.core_bitmap_clear(self._engine, token, sector, sectors)
        )

    async def bitmap_write(self) -> None:
        """Flush the data, then write the changed pages of the bitmap, durable."""
        await self._order("bitmap write", lambda token: self._lib.core_bitmap_write(self._engine, token))

    async def al_retire(self) -> None:
        """Empty the activity log, on disk too; nothing may be in flight."""
        await self._order("activity log", lambda token: self._lib.core_al_retire(self._engine, token))

    # --- orders: the peer ---------------------------------------------------------------------------------------------

    async def peer_connect(self, peer: Peer) -> None:
        """Take both sockets; reading begins."""
        struct = self._ffi.new("struct core_peer *", asdict(peer))
        await self._order("connect", lambda token: self._lib.core_peer_connect(self._engine, token, struct))

    async def peer_disconnect(self) -> None:
        """Send what is queued, close both sockets; the fact PEER_LOST follows."""
        await self._order("disconnect", lambda token: self._lib.core_peer_disconnect(self._engine, token))

    def peer_send(self, socket: int, command: int, payload: bytes) -> None:
        """Queue a control packet in the socket's stream."""
        self._submit("send", lambda: self._lib.core_peer_send(self._engine, socket, command, payload, len(payload)))

    def peer_resume(self) -> None:
        """Read on after a packet."""
        self._submit("resume", lambda: self._lib.core_peer_resume(self._engine))

    def peer_accept(self, accept: int) -> None:
        """Say what the peer may ask (`CORE_ACCEPT_*`, added up)."""
        self._submit("accept", lambda: self._lib.core_peer_accept(self._engine, accept))

    async def release(self) -> None:
        """After PEER_LOST: mark what is unstable out of sync, complete what is held."""
        await self._order("release", lambda token: self._lib.core_release(self._engine, token))

    def replicate(self, mode: int, protocol: int) -> None:
        """Say where writes go besides the disk (`enum core_replication`); `protocol` is 1 for A, 2 for B, 3 for C."""
        self._submit("replicate", lambda: self._lib.core_replicate(self._engine, mode, protocol))

    def reads(self, source: int) -> None:
        """Say where reads are served from (`enum core_reads`)."""
        self._submit("reads", lambda: self._lib.core_reads(self._engine, source))

    def read_balancing(self, policy: int) -> None:
        """Say which of two good disks serves a read (`enum core_read_balancing`)."""
        self._submit("read balancing", lambda: self._lib.core_read_balancing(self._engine, policy))

    def gate(self, gate: int) -> None:
        """Say what the export lets through (`enum core_gate`)."""
        self._submit("gate", lambda: self._lib.core_gate(self._engine, gate))

    # --- orders: resync -----------------------------------------------------------------------------------------------

    async def bitmap_announce(self) -> None:
        """Tell the peer of every block that is out of sync; returns when the last packet is queued."""
        await self._order("announce", lambda token: self._lib.core_bitmap_announce(self._engine, token))

    async def bitmap_send(self, *, use_rle: bool) -> None:
        """Send the whole bitmap; returns when its last packet is queued."""
        await self._order("bitmap send", lambda token: self._lib.core_bitmap_send(self._engine, token, int(use_rle)))

    def resync_start(self, *, target: bool, by_checksums: bool = False) -> None:
        """Begin: as target ask for blocks, as source mark in sync what is acknowledged."""
        asks = ResyncEnd.TARGET_BY_CHECKSUMS if by_checksums else ResyncEnd.TARGET
        end = asks if target else ResyncEnd.SOURCE
        self._submit("resync", lambda: self._lib.core_resync_start(self._engine, end.value))

    def resync_rate(self, rate_kib_s: int, in_flight_sectors: int) -> None:
        """Set the pace; 0 KiB/s is no limit, 0 sectors in flight is as before. A source keeps to the latter alone."""
        self._submit("resync rate", lambda: self._lib.core_resync_rate(self._engine, rate_kib_s, in_flight_sectors))

    async def resync_stop(self) -> None:
        """Ask for no more; returns when no resync write is in flight."""
        await self._order("resync stop", lambda token: self._lib.core_resync_stop(self._engine, token))

    def verify_start(self, *, source: bool, start_sector: int = 0, stop_sector: int | None = None) -> None:
        """Begin: as source ask and compare, up to `stop_sector` (None: the end), as target answer."""
        stop = NO_SECTOR if stop_sector is None else stop_sector
        self._submit("verify", lambda: self._lib.core_verify_start(self._engine, int(source), start_sector, stop))

    def verify_until(self, stop_sector: int) -> None:
        """As source: end there, or at once."""
        self._submit("verify end", lambda: self._lib.core_verify_until(self._engine, stop_sector))

    async def verify_stop(self) -> None:
        """Compare no more; returns when no block is in flight."""
        await self._order("verify stop", lambda token: self._lib.core_verify_stop(self._engine, token))

    # --- orders: the export -------------------------------------------------------------------------------------------

    def export_block(self, block_bytes: int) -> None:
        """Say what the next `export_open` lets through: nothing smaller. A power of two, 512 to 65536."""
        self._submit("block size", lambda: self._lib.core_export_block(self._engine, block_bytes))

    async def export_open(self, name: str, *, read_only: bool) -> None:
        """Let NBD clients in."""
        text = self._ffi.new("char[]", name.encode())
        await self._order("export", lambda token: self._lib.core_export_open(self._engine, token, text, int(read_only)))

    def export_client(self, fd: int) -> None:
        """Hand an accepted stream socket over."""
        self._submit("client", lambda: self._lib.core_export_client(self._engine, fd))

    def export_device(self, fd: int, *, in_transmission: bool) -> None:
        """Hand over a stream socket of our own kernel device, which is no client; without negotiation, if so said."""
        self._submit("device", lambda: self._lib.core_export_device(self._engine, fd, int(in_transmission)))

    async def export_ublk(self, fd: int, depth: int) -> None:
        """Hand over the queue of our own ublk device, `/dev/ublkcN`; returns when it may be started."""
        await self._order("ublk queue", lambda token: self._lib.core_export_ublk(self._engine, token, fd, depth))

    def export_resize(self) -> None:
        """Let clients use the size that `resize` set."""
        self._submit("export resize", lambda: self._lib.core_export_resize(self._engine))

    async def export_park(self) -> list[Parked]:
        """Take no request any more; return the sockets, the caller's now, when all that was taken is answered.

        What was written is then safe from a power cut at the peer. Waits as long as it takes, unless `export_unpark`
        is called: then raises `OSError` (ECANCELED), and all is as before.
        """
        await self._order("park", lambda token: self._lib.core_export_park(self._engine, token))
        parked, self._parked = self._parked, []
        return parked

    def export_unpark(self) -> None:
        """Take requests again."""
        self._submit("unpark", lambda: self._lib.core_export_unpark(self._engine))

    def export_adopt(self, parked: Parked) -> None:
        """Go on with a socket that another engine has parked."""
        lib = self._lib
        flags = lib.CORE_PARKED_STRUCTURED * parked.structured + lib.CORE_PARKED_DEVICE * parked.device
        rest = self._ffi.new("uint8_t[]", list(parked.rest))
        length = len(parked.rest)
        self._submit("adopt", lambda: lib.core_export_adopt(self._engine, parked.fd, flags, rest, length))

    async def export_close(self) -> None:
        """Let no new request in; returns when none is in flight."""
        await self._order("export close", lambda token: self._lib.core_export_close(self._engine, token))

    # --- the two rings ------------------------------------------------------------------------------------------------

    async def _order(self, what: str, call: Callable[[int], int]) -> None:
        if self._loop is None or self._engine is None:
            raise OSError(errno.ESHUTDOWN, f"{what}: the engine does not run")
        self._token += 1
        token = self._token
        done: asyncio.Future[int] = self._loop.create_future()
        self._pending[token] = done
        try:
            self._submit(what, lambda: call(token), done)
            check(await done, what)
        finally:
            self._pending.pop(token, None)

    def _submit(self, what: str, call: Callable[[], int], done: asyncio.Future[int] | None = None) -> None:
        if self._engine is None:
            raise OSError(errno.ESHUTDOWN, f"{what}: the engine does not run")
        order = _Order(what, call, done)
        if self._backlog or not self._try(order):
            self._backlog.append(order)
            self._schedule_retry()

    def _try(self, order: _Order) -> bool:
        """Give the order to the engine. False: the ring is full."""
        result = order.call()
        if result == -errno.EAGAIN:
            return False
        if result < 0 and order.done is not None:
            if not order.done.done():
                order.done.set_result(result)
        elif result < 0:
            check(result, order.what)
        return True

    def _schedule_retry(self) -> None:
        if self._retry is None and self._loop is not None:
            self._retry = self._loop.call_later(_RETRY_S, self._on_retry)

    def _on_retry(self) -> None:
        self._retry = None
        self._flush_backlog()

    def _flush_backlog(self) -> None:
        while self._backlog:
            try:
                if not self._try(self._backlog[0]):
                    self._schedule_retry()
                    return
            except OSError:
                log.exception("the engine refused an order")
            self._backlog.popleft()

    def _drain(self) -> None:
        while self._engine is not None:
            count = self._lib.core_engine_drain(self._engine, self._batch, self._lib.CORE_FACT_BATCH)
            for index in range(count):
                self._deliver(facts.from_struct(self._ffi, self._batch[index]))
            self._flush_backlog()
            if count < self._lib.CORE_FACT_BATCH:
                return

    def _deliver(self, fact: Fact) -> None:
        if fact.type is FactType.PARKED:
            structured = bool(fact.b & self._lib.CORE_PARKED_STRUCTURED)
            self._parked.append(Parked(fact.a, structured, bool(fact.b & self._lib.CORE_PARKED_DEVICE), fact.payload))
            return
        if fact.type is not FactType.DONE:
            self._on_fact(fact)
            return
        done = self._pending.pop(fact.token, None)
        if done is not None and not done.done():
            done.set_result(fact.result)
