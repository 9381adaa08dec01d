"""The oracle of the crash tests: which contents each block may have after a crash.

A block may hold the last write that was acknowledged, or one that was sent later and never answered. Reading it fixes
it: from then on it must stay what was read. A content is a tile of 16 bytes, repeated over the block; no two writes use
the same tile, so a read tells which write it sees.
"""

from __future__ import annotations

import random
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

from helpers.nbd_client import FLAG_FUA, FLUSH, READ, WRITE, WRITE_ZEROES, NbdClient

BLOCK_BYTES = 4096
TILE_BYTES = 16
ZERO = bytes(TILE_BYTES)


class LostWriteError(AssertionError):
    """A block holds something that nobody was promised and nobody sent last."""


@dataclass(slots=True)
class Ledger:
    """What each of `blocks` may hold. One thread at a time uses it."""

    blocks: list[int]
    acknowledged: int = 0
    sequence: int = 0
    allowed: dict[int, set[bytes]] = field(default_factory=dict)

    def begin(self, blocks: list[int], zeroes: bool) -> bytes:
        """A write to `blocks` is about to be sent; return its payload."""
        self.sequence += 1
        payload = b""
        for block in blocks:
            tile = ZERO if zeroes else struct.pack(">QQ", block, self.sequence)
            self.allowed.setdefault(block, {ZERO}).add(tile)
            payload += tile * (BLOCK_BYTES // TILE_BYTES)
        return payload

    def acknowledge(self, blocks: list[int], payload: bytes) -> None:
        """The write of `payload` to `blocks` was acknowledged."""
        self.acknowledged += 1
        for index, block in enumerate(blocks):
            self.allowed[block] = {payload[index * BLOCK_BYTES :][:TILE_BYTES]}

    def check(self, block: int, data: bytes, where: str) -> None:
        """`data` was read from `block`: raise LostWriteError unless it may be there."""
        tile = data[:TILE_BYTES]
        allowed = self.allowed.get(block, {ZERO})
        if tile not in allowed or data != tile * (BLOCK_BYTES // TILE_BYTES):
            raise LostWriteError(f"{where}: block {block} holds {tile.hex()}, allowed are {[a.hex() for a in allowed]}")
        self.allowed[block] = {tile}

    def check_export(self, socket: Path, where: str) -> None:
        """Read every block through NBD and check it."""
        with NbdClient.connect(socket) as client:
            for first in range(0, len(self.blocks), 64):
                batch = {client.submit(READ, b * BLOCK_BYTES, BLOCK_BYTES): b for b in self.blocks[first : first + 64]}
                while batch:
                    cookie, error, data = client.receive()
                    block = batch.pop(cookie)
                    assert error == 0, f"{where}: reading block {block} failed with {error}"
                    self.check(block, data, where)

    def check_disk(self, disk: Path) -> None:
        """Read every block from a node's disk, whose daemon is down, and check it."""
        with disk.open("rb") as image:
            for block in self.blocks:
                image.seek(block * BLOCK_BYTES)
                self.check(block, image.read(BLOCK_BYTES), str(disk))


@dataclass(slots=True)
class _Flight:
    blocks: list[int]
    payload: bytes
    reading: bool


class Writer(threading.Thread):
    """Writes to the ledger's blocks, several requests in flight, until it is stopped or the server goes away.

    Requests that overlap are never in flight together, so what a block may hold is exact. Now and then it flushes, asks
    for FUA, writes zeroes, or reads back what it was promised.
    """

    def __init__(self, socket: Path, ledger: Ledger, seed: int, depth: int = 8) -> None:
        super().__init__(name=f"writer-{seed}", daemon=True)
        self.client = NbdClient.connect(socket)
        self.ledger = ledger
        self.random = random.Random(seed)
        self.depth = depth
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.flights: dict[int, _Flight] = {}
        self.busy: set[int] = set()

    def run(self) -> None:
        try:
            while not self.stopping.is_set() or self.flights:
                while len(self.flights) < self.depth and not self.stopping.is_set():
                    self._submit()
                self._receive()
            self.client.close()
        except ConnectionError:
            self.client.sock.close()
        except BaseException as failure:  # noqa: BLE001 - handed to the test by finish()
            self.failure = failure

    def finish(self) -> None:
        """Stop, wait until it is over, and raise what went wrong in it."""
        self.stopping.set()
        self.join(60)
        assert not self.is_alive(), "requests hang"
        if self.failure:
            raise self.failure

    def _pick(self) -> list[int]:
        start = self.random.randrange(len(self.ledger.blocks))
        run = [self.ledger.blocks[start]]
        for block in self.ledger.blocks[start + 1 : start + self.random.choice((1, 1, 1, 2, 4, 16))]:
            if block != run[-1] + 1:
                break
            run.append(block)
        return [] if self.busy.intersection(run) else run

    def _submit(self) -> None:
        chance = self.random.random()
        blocks = [] if chance < 0.02 else self._pick()
        flags = FLAG_FUA if 0.02 <= chance < 0.04 else 0
        offset = blocks[0] * BLOCK_BYTES if blocks else 0
        length = len(blocks) * BLOCK_BYTES
        payload = b""
        reading = False
        if not blocks:
            cookie = self.client.submit(FLUSH)
        elif chance < 0.15:
            reading = True
            cookie = self.client.submit(READ, offset, length)
        elif chance < 0.18:
            payload = self.ledger.begin(blocks, zeroes=True)
            cookie = self.client.submit(WRITE_ZEROES, offset, length)
        else:
            payload = self.ledger.begin(blocks, zeroes=False)
            cookie = self.client.submit(WRITE, offset, payload=payload, flags=flags)
        self.busy.update(blocks)
        self.flights[cookie] = _Flight(blocks, payload, reading)

    def _receive(self) -> None:
        cookie, error, data = self.client.receive()
        flight = self.flights.pop(cookie)
        self.busy.difference_update(flight.blocks)
        assert error == 0, f"request on blocks {flight.blocks} was answered with error {error}"
        if flight.reading:
            for index, block in enumerate(flight.blocks):
                self.ledger.check(block, data[index * BLOCK_BYTES :][:BLOCK_BYTES], "while writing")
        elif flight.payload:
            self.ledger.acknowledge(flight.blocks, flight.payload)
