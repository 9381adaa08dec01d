"""The engine object against a fake core: orders, completions, a full ring, facts."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable

import pytest

from fakes.fake_core import CONSTANTS, FakeLib, fake_binding
from pydrbd.core.engine import Disk, Engine, Io, Options, Parked
from pydrbd.core.facts import Fact, FactType, Translator
from pydrbd.model import events


def run(body: Callable[[Engine, FakeLib, list[Fact]], Awaitable[None]]) -> None:
    async def main() -> None:
        binding, lib = fake_binding()
        engine = Engine(Options(io=Io.THREADS), binding)
        seen: list[Fact] = []
        engine.start(seen.append)
        try:
            await body(engine, lib, seen)
        finally:
            engine.stop()

    asyncio.run(main())


def test_an_order_returns_when_its_completion_arrives():
    async def body(engine: Engine, lib: FakeLib, _: list[Fact]) -> None:
        await engine.attach(Disk(data_fd=-1, md_fd=-1, size_sectors=8))
        assert lib.calls[0][0] == "core_attach"
        assert lib.calls[0][2]["size_sectors"] == 8
        assert lib.options["io"] == CONSTANTS.CORE_IO_THREADS

    run(body)


def test_a_failed_order_raises_its_errno():
    async def body(engine: Engine, lib: FakeLib, _: list[Fact]) -> None:
        lib.results["core_bitmap_write"] = -errno.EIO
        with pytest.raises(OSError, match="bitmap write") as caught:
            await engine.bitmap_write()
        assert caught.value.errno == errno.EIO

    run(body)


def test_orders_that_find_the_ring_full_go_down_later_in_their_order():
    async def body(engine: Engine, lib: FakeLib, _: list[Fact]) -> None:
        lib.ring_room = 1
        engine.gate(0)
        engine.gate(1)
        flush = asyncio.ensure_future(engine.flush())
        await asyncio.sleep(0.005)
        engine.gate(2)
        assert lib.names() == ["core_gate"]
        lib.ring_room = 100
        await flush
        await asyncio.sleep(0.005)
        assert [call[:2] for call in lib.calls if call[0] == "core_gate"] == [("core_gate", g) for g in (0, 1, 2)]
        assert lib.names() == ["core_gate", "core_gate", "core_flush", "core_gate"]

    run(body)


def test_parking_returns_the_sockets_and_they_can_be_adopted():
    async def body(engine: Engine, lib: FakeLib, seen: list[Fact]) -> None:
        lib.put(CONSTANTS.CORE_FACT_PARKED, a=7, b=CONSTANTS.CORE_PARKED_STRUCTURED)
        lib.put(CONSTANTS.CORE_FACT_PARKED, a=8, b=CONSTANTS.CORE_PARKED_DEVICE, payload=b"half a header")
        lib.silent.add("core_export_park")
        parking = asyncio.ensure_future(engine.export_park())
        await asyncio.sleep(0.005)
        lib.put(CONSTANTS.CORE_FACT_DONE, token=lib.calls[-1][1])
        first, second = await parking
        assert (first, second) == (Parked(7, structured=True), Parked(8, device=True, rest=b"half a header"))
        assert seen == []
        engine.export_adopt(first)
        engine.export_adopt(second)
        assert lib.calls[-2:] == [
            ("core_export_adopt", 7, CONSTANTS.CORE_PARKED_STRUCTURED, b"", 0),
            ("core_export_adopt", 8, CONSTANTS.CORE_PARKED_DEVICE, b"half a header", 13),
        ]

    run(body)


def test_stopping_fails_the_orders_under_way():
    async def body(engine: Engine, lib: FakeLib, _: list[Fact]) -> None:
        lib.silent.add("core_flush")
        flush = asyncio.ensure_future(engine.flush())
        await asyncio.sleep(0)
        engine.stop()
        with pytest.raises(OSError) as caught:
            await flush
        assert caught.value.errno == errno.ESHUTDOWN
        with pytest.raises(OSError):
            engine.gate(0)
        engine.stop()

    run(body)


def test_more_facts_than_a_batch_arrive_in_order():
    async def body(_: Engine, lib: FakeLib, seen: list[Fact]) -> None:
        for number in range(200):
            lib.put(CONSTANTS.CORE_FACT_CLIENTS, a=number)
        await asyncio.sleep(0.01)
        assert [fact.a for fact in seen] == list(range(200))

    run(body)


def test_a_packet_keeps_its_payload_and_socket():
    async def body(_: Engine, lib: FakeLib, seen: list[Fact]) -> None:
        lib.put(CONSTANTS.CORE_FACT_PACKET, socket=1, command=7, volume=0, payload=b"\x00abc")
        await asyncio.sleep(0.01)
        assert (seen[0].socket, seen[0].command, seen[0].payload) == (1, 7, b"\x00abc")

    run(body)


def translator() -> Translator:
    return Translator(lambda command, payload: (command, payload), lambda: 77, lambda: 5)


@pytest.mark.parametrize(
    ("fact", "event"),
    [
        (Fact(FactType.PACKET, command=3, payload=b"x"), events.PacketReceived((3, b"x"), 5, 77)),
        (Fact(FactType.PEER_LOST, result=3, a=2, b=9), events.PeerLost(events.Lost.PING, 2, 9, 77)),
        (Fact(FactType.FIRST_WRITE), events.FirstWriteHeld(77)),
        (Fact(FactType.BITMAP_RECEIVED, a=4), events.BitmapReceived(4, 77)),
        (Fact(FactType.RESYNC_DONE, result=-1, a=1), events.ResyncDone(1)),
        (Fact(FactType.RESYNC_DONE, result=-1, b=9), events.ResyncDone(0, thin_bits=9)),
        (Fact(FactType.RESYNC_DONE, result=99, b=70), events.ResyncDone(0, 70, 99)),
        (Fact(FactType.VERIFY_DONE, result=-125, a=3, b=64), events.VerifyDone(3, 64, 125, 5, 77)),
        (Fact(FactType.OUT_OF_SYNC, a=800, b=16), events.OutOfSyncFound(800, 16)),
        (Fact(FactType.DIGEST_FAILED, a=8, b=16), events.DigestFailed(8, 16)),
        (Fact(FactType.MENDED, a=8, b=16), events.BlockMended(8, 16)),
        (Fact(FactType.MENDED, result=-61, a=8, b=16), events.BlockMended(8, 16, 61)),
        (Fact(FactType.DISK_FAILED, result=-5, a=8, b=1), events.DiskFailed("write", 8, 5, 77)),
        (Fact(FactType.PEER_DISK_FAILED, a=8), events.PeerDiskFailed(8, 77)),
        (Fact(FactType.CLIENTS, a=2, b=3), events.ClientsChanged(2)),
    ],
)
def test_each_fact_becomes_its_event(fact: Fact, event: events.Event):
    assert translator().to_event(fact) == event


def test_a_packet_for_another_volume_is_refused():
    with pytest.raises(ValueError, match="volume 3"):
        translator().to_event(Fact(FactType.PACKET, volume=3))
