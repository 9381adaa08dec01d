"""An application: an NBD client on an export, over a simulated stream, with the ledger of what it was promised."""

import asyncio
import struct

from sim.ledger import SECTOR_BYTES, Ledger, Write
from sim.node import SimNode
from sim.world import World

READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_ROOM = 1 << 18


class GoneError(Exception):
    """The connection to the export is gone; what was not answered may or may not have taken place."""


class Client:
    """One connection. Requests overlap as the caller likes."""

    def __init__(self, world: World, node: SimNode, ledger: Ledger) -> None:
        self.world = world
        self.node = node
        self.ledger = ledger
        ends = world.ffi.new("int32_t[2]")
        assert world.lib.sim_stream_new(world.handle, node.number, world.lib.SIM_NODES, ends) == 0
        self.fd = ends[1]
        self._data = bytearray()
        self._buffer = world.ffi.new("uint8_t[]", _ROOM)
        self._more = asyncio.Event()
        self._gone = False
        self._cookie = 0
        self._flights: dict[int, tuple[asyncio.Future[bytes], int]] = {}
        self._reading: asyncio.Task[None] | None = None
        world.listeners.append(self._drain)
        node.clients.append(self)
        node.daemon._engine.export_client(ends[0])

    @classmethod
    async def connect(cls, world: World, node: SimNode, ledger: Ledger) -> "Client":
        """Connect to the export of a Primary. Raises GoneError."""
        client = cls(world, node, ledger)
        await client._exactly(18)
        client._send(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
        await client._exactly(10)
        client._reading = asyncio.ensure_future(client._read_replies())
        return client

    def close(self) -> None:
        """Leave without a word; what is open stays unknown. Twice is fine."""
        self._go()
        self.world.lib.sim_stream_close(self.world.handle, self.fd)

    @property
    def gone(self) -> bool:
        """Whether nothing can be asked any more: we left, or the export did."""
        return self._gone

    # --- requests ----------------------------------------------------------------------------------------------------

    async def write(self, sector: int, sectors: int = 8, *, zeroes: bool = False, fua: bool = False) -> None:
        """Write, and note the promise. Raises GoneError."""
        write = self.ledger.begin(sector, sectors, zeroes=zeroes, fua=fua)
        self.world.say(f"client: write {write.number} sector {sector}+{sectors}{' fua' if fua else ''}")
        peer = self.node.wire.peer_of(self.node)
        had_power, boots = peer.has_power, peer.boots
        payload = b"" if zeroes else self.ledger.payload(write)
        kind = WRITE_ZEROES if zeroes else WRITE
        await self._request(kind, FUA if fua else 0, sector, sectors, payload)
        self.ledger.acknowledge(write)
        self._check_generation(write, had_power, boots)
        self.world.say(f"client: write {write.number} acknowledged")

    def _check_generation(self, write: Write, had_power: bool, boots: int) -> None:
        """Whoever acknowledges a write that the peer does not have has durable identifiers that say so."""
        peer = self.node.wire.peer_of(self.node)
        if peer.has_power != had_power or peer.boots != boots:
            return  # it died meanwhile, and what it had is lost or not
        there = peer.disks.data.peek(write.sector * SECTOR_BYTES, SECTOR_BYTES, durable=False)
        if write.zeroes or struct.unpack_from(">Q", there)[0] >= write.number:
            return
        ids = self.node.disks.durable_ids()
        overwritten = self.ledger.may_hold(write.sector, durable_only=False) != {write.number}
        assert ids.bitmap or overwritten, (
            f"write {write.number} was acknowledged by {self.node.name} alone, and its identifiers do not say so"
        )

    async def flush(self) -> None:
        covered = self.ledger.begin_flush()
        self.world.say("client: flush")
        await self._request(FLUSH, 0, 0, 0, b"")
        self.ledger.flushed(covered)
        self.world.say("client: flush acknowledged")

    async def read(self, sector: int, sectors: int, *, durable_only: bool = False) -> None:
        """Read and compare with what may be there."""
        data = await self._request(READ, 0, sector, sectors, b"")
        for index in range(sectors):
            part = data[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES]
            self.ledger.check(sector + index, part, f"read on {self.node.name}", durable_only=durable_only)

    async def read_all(self, *, durable_only: bool = False) -> None:
        """Read every sector that was ever written to."""
        runs = _runs(sorted(self.ledger.by_sector))
        await asyncio.gather(*(self.read(first, count, durable_only=durable_only) for first, count in runs))

    async def _request(self, kind: int, flags: int, sector: int, sectors: int, payload: bytes) -> bytes:
        if self._gone:
            raise GoneError
        self._cookie += 1
        answer: asyncio.Future[bytes] = self.world.loop.create_future()
        self._flights[self._cookie] = (answer, sectors * SECTOR_BYTES if kind == READ else 0)
        length = sectors * SECTOR_BYTES
        header = _REQUEST.pack(0x25609513, flags, kind, self._cookie, sector * SECTOR_BYTES, length)
        self._send(header + payload)
        return await answer

    # --- the stream --------------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        sent = self.world.lib.sim_stream_send(self.world.handle, self.fd, data, len(data))
        if sent < 0:
            self._go()
        else:
            assert sent == len(data)

    def _drain(self) -> None:
        while not self._gone:
            got = self.world.lib.sim_stream_receive(self.world.handle, self.fd, self._buffer, _ROOM)
            if got == -11:
                return
            if got <= 0:
                self._go()
                return
            self._data += self.world.ffi.buffer(self._buffer, got)
            self._more.set()

    def _go(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.world.listeners.remove(self._drain)
        self._more.set()
        if self._reading is not None:
            self._reading.cancel()
        for answer, _ in self._flights.values():
            if not answer.done():
                answer.set_exception(GoneError())
                answer.exception()
        self._flights.clear()

    async def _exactly(self, count: int) -> bytes:
        while len(self._data) < count:
            if self._gone:
                raise GoneError
            self._more.clear()
            await self._more.wait()
        part = bytes(self._data[:count])
        del self._data[:count]
        return part

    async def _read_replies(self) -> None:
        try:
            while True:
                magic, error, cookie = _REPLY.unpack(await self._exactly(_REPLY.size))
                assert magic == 0x67446698
                answer, length = self._flights.pop(cookie)
                data = await self._exactly(length) if error == 0 and length else b""
                if answer.done():
                    continue
                if error == 108:  # ESHUTDOWN: the export is closing
                    answer.set_exception(GoneError())
                elif error:
                    answer.set_exception(AssertionError(f"a request was answered with error {error}"))
                else:
                    answer.set_result(data)
        except GoneError:
            pass


def _runs(sectors: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for sector in sectors:
        if runs and runs[-1][0] + runs[-1][1] == sector and runs[-1][1] < 256:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((sector, 1))
    return runs
