"""The oracle: what each sector may hold, by what was acknowledged and when.

Every write has a number of its own, and every sector that it writes is filled with (number, sector). A write is over
when it is acknowledged, or when the machine or the process that it went through is gone: then nobody knows whether it
took place. A sector may hold a write unless a later one certainly took its place: one that began after it was over, and
that counts.

- `seen`: every acknowledged write counts. So it is for whoever reads from a replica that had them all.
- `durable`: only writes count that a flush was acknowledged for (or that were FUA themselves). So it is when both
  replicas have lost their caches.

What was read once is what the sector holds from then on: `settle`.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

SECTOR_BYTES = 512
_TILE = struct.Struct(">QQ")
FOR_EVER = 1 << 62


class LostWriteError(AssertionError):
    """A sector holds what it may not."""


def fill(number: int, sector: int) -> bytes:
    """Return the contents of one sector after a write; number 0 is zeroes."""
    return bytes(SECTOR_BYTES) if number == 0 else _TILE.pack(number, sector) * (SECTOR_BYTES // _TILE.size)


@dataclass(slots=True)
class Write:
    """One write, zeroes included. Times are the ledger's own ticks."""

    number: int
    sector: int
    sectors: int
    zeroes: bool
    fua: bool
    began: int
    over: int = FOR_EVER
    acknowledged: bool = False
    durable: bool = False

    @property
    def held(self) -> int:
        """Return what a sector shows that holds this write."""
        return 0 if self.zeroes else self.number


@dataclass(slots=True)
class Ledger:
    """All writes of one run."""

    ticks: int = 0
    numbers: int = 0
    open: dict[int, Write] = field(default_factory=dict)
    by_sector: dict[int, list[Write]] = field(default_factory=dict)
    acknowledged: int = 0

    def _tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def begin(self, sector: int, sectors: int, *, zeroes: bool = False, fua: bool = False) -> Write:
        """A write is about to be sent."""
        self.numbers += 1
        write = Write(self.numbers, sector, sectors, zeroes, fua, self._tick())
        self.open[write.number] = write
        for one in range(sector, sector + sectors):
            self.by_sector.setdefault(one, [_first(one)]).append(write)
        return write

    def payload(self, write: Write) -> bytes:
        return b"".join(fill(write.number, one) for one in range(write.sector, write.sector + write.sectors))

    def acknowledge(self, write: Write) -> None:
        write.acknowledged = True
        write.durable |= write.fua
        write.over = self._tick()
        self.acknowledged += 1
        del self.open[write.number]

    def begin_flush(self) -> list[Write]:
        """A flush is about to be sent; return what it covers, for `flushed`."""
        self._tick()
        writes = {id(one): one for writes in self.by_sector.values() for one in writes}
        return [one for one in writes.values() if one.acknowledged]

    def flushed(self, covered: Iterable[Write]) -> None:
        for write in covered:
            write.durable = True

    def nobody_knows(self) -> None:
        """The way by which the open writes went is gone."""
        now = self._tick()
        for write in self.open.values():
            write.over = now
        self.open.clear()

    def may_hold(self, sector: int, *, durable_only: bool) -> set[int]:
        """Return the numbers that the sector may show."""
        writes = self.by_sector.get(sector)
        if writes is None:
            return {0}
        counting = [one for one in writes if (one.durable if durable_only else one.acknowledged)]
        latest = max((one.began for one in counting), default=-1)
        return {one.held for one in writes if one.over > latest}

    def check(self, sector: int, data: bytes, where: str, *, durable_only: bool = False) -> None:
        """Raise `LostWriteError` unless the sector may hold this; else it holds it from now on."""
        number = _TILE.unpack_from(data)[0]
        allowed = self.may_hold(sector, durable_only=durable_only)
        if data != fill(number, sector) or number not in allowed:
            shown = number if data == fill(number, sector) else data[:16].hex()
            raise LostWriteError(f"{where}: sector {sector} holds {shown}, allowed are {sorted(allowed)}")
        self._settle(sector, number, on_platter=durable_only)

    def _settle(self, sector: int, number: int, *, on_platter: bool) -> None:
        """What was read stays. What a power cut of both left is on the platter: older writes are gone for good."""
        writes = self.by_sector.get(sector)
        if writes is None:
            return
        kept = Write(number, sector, 1, number == 0, False, began=self._tick(), over=self._tick())
        kept.acknowledged = True
        kept.durable = on_platter
        under_way = [one for one in writes if one.number in self.open]
        older = [] if on_platter else [one for one in writes if one.number not in self.open]
        self.by_sector[sector] = [*older, kept, *under_way]


def _first(sector: int) -> Write:
    return Write(0, sector, 1, True, False, began=-1, over=0, acknowledged=True, durable=True)
