"""Effects are done one after another; what happens when one fails, or waits for a peer that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fakes.loop import run
from pydrbd.model import effects, events
from pydrbd.model.effects import Effect, Replication
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.performer import Performer
from pydrbd.ondisk.errors import OnDiskError

LOST = events.PeerLost(events.Lost.CLOSED, 1, 1)


def persist(number: int) -> effects.PersistMetadata:
    return effects.PersistMetadata(GenerationIds(number), MdFlag.CONSISTENT, 8)


class Stage:
    """A performer whose rules are a table from event to effects, and whose doers write down what they do."""

    def __init__(self, table: dict[events.Event, list[Effect]]) -> None:
        self.done: list[object] = []
        self.table = table
        self.seen: list[events.Event] = []
        doers = dict.fromkeys(effects.Effect.__args__, self.do)
        self.slow: dict[type, Callable[[], Awaitable[None]]] = {}
        self.performer = Performer(0, self.step, doers)

    def step(self, state: int, event: events.Event, _now_ms: int) -> tuple[int, list[Effect]]:
        self.seen.append(event)
        return state + 1, self.table.get(event, [])

    async def do(self, effect: Effect) -> None:
        if type(effect) in self.slow:
            await self.slow[type(effect)]()
        self.done.append(effect)

    async def play(self, *posted: events.Event) -> None:
        running = asyncio.ensure_future(self.performer.run())
        for event in posted:
            self.performer.post(event)
        settled = asyncio.ensure_future(self.performer.settle())
        await asyncio.wait({settled, running}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        settled.cancel()


def test_an_effect_ends_before_the_next_begins():
    async def body() -> None:
        first, second = events.ClientsChanged(1), events.ClientsChanged(2)
        stage = Stage({first: [effects.FlushDisk(), effects.OpenExport()], second: [effects.Exit()]})
        stage.slow[effects.FlushDisk] = lambda: asyncio.sleep(0.02)
        await stage.play(first, second)
        assert stage.done == [effects.FlushDisk(), effects.OpenExport(), effects.Exit()]

    run(body())


def test_metadata_that_cannot_be_written_drops_the_rest_and_is_the_next_event():
    async def body() -> None:
        first, second = events.ClientsChanged(1), events.ClientsChanged(2)
        answer = effects.Answer(3)
        stage = Stage({first: [persist(1), effects.OpenExport(), answer]})

        async def fail() -> None:
            raise OnDiskError("the disk is full")

        stage.slow[effects.PersistMetadata] = fail
        await stage.play(first, second)
        failed = events.MetadataFailed("the disk is full", dropped=(effects.OpenExport(), answer))
        assert stage.seen == [first, failed, second]
        assert stage.done == []

    run(body())


def test_another_effect_that_fails_does_not_stop_those_behind_it():
    async def body() -> None:
        first = events.ClientsChanged(1)
        stage = Stage({first: [effects.AdoptSockets(), effects.Answer(3)]})

        async def fail() -> None:
            raise OSError(5, "broken")

        stage.slow[effects.AdoptSockets] = fail
        await stage.play(first)
        assert stage.done == [effects.Answer(3)]

    run(body())


def test_the_peers_loss_is_dealt_with_while_the_export_closes_and_overtakes_older_orders():
    async def body() -> None:
        demote = events.Demote(1)
        packet = events.PacketReceived("of the lost connection", 0)
        outer = [effects.CloseExport(), persist(1), effects.SetReplication(Replication.PEER), effects.Answer(1)]
        inner = [persist(2), effects.Release(), effects.SetReplication(Replication.NONE)]
        stage = Stage({demote: list(outer), LOST: list(inner)})
        released = asyncio.Event()

        async def close() -> None:
            stage.performer.post(packet)
            stage.performer.post(LOST)
            await released.wait()

        async def release() -> None:
            released.set()

        stage.slow[effects.CloseExport] = close
        stage.slow[effects.Release] = release
        await stage.play(demote)
        assert stage.seen == [demote, LOST]
        stage.done.remove(effects.CloseExport())
        assert stage.done == [*inner, effects.Answer(1)]

    run(body())


def test_a_loss_before_the_export_closes_waits_its_turn_when_closing_is_quick():
    async def body() -> None:
        demote = events.Demote(1)
        stage = Stage({demote: [effects.CloseExport(), effects.Answer(1)], LOST: [effects.Release()]})
        await stage.play(demote, LOST)
        assert set(stage.done) == {effects.CloseExport(), effects.Answer(1), effects.Release()}
        assert stage.seen == [demote, LOST]

    run(body())


def test_a_condition_on_the_state_is_awaited():
    async def body() -> None:
        stage = Stage({})
        running = asyncio.ensure_future(stage.performer.run())
        waiting = asyncio.ensure_future(stage.performer.wait_until(lambda state: state >= 2))
        stage.performer.post(events.ClientsChanged(1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        stage.performer.post(events.ClientsChanged(2))
        await waiting
        running.cancel()

    run(body())


def test_a_first_write_that_is_held_does_not_keep_the_export_from_closing():
    async def body() -> None:
        demote, held = events.Demote(1), events.FirstWriteHeld(7)
        stage = Stage({demote: [effects.CloseExport(), effects.Answer(1)], held: [effects.SetGate(effects.Gate.OPEN)]})
        opened = asyncio.Event()

        async def close() -> None:
            stage.performer.post(held)
            await opened.wait()

        async def open_gate() -> None:
            opened.set()

        stage.slow[effects.CloseExport] = close
        stage.slow[effects.SetGate] = open_gate
        await stage.play(demote)
        assert stage.seen == [demote, held]
        assert effects.Answer(1) in stage.done

    run(body())


@pytest.mark.parametrize("word", [events.HandlerEnded("fence-peer", 7), events.SuspendIo(2, suspended=False)])
def test_the_fence_that_held_writes_wait_for_does_not_wait_for_the_export_to_close(word: events.Event):
    async def body() -> None:
        demote = events.Demote(1)
        stage = Stage({demote: [effects.CloseExport(), effects.Answer(1)], word: [effects.SetGate(effects.Gate.OPEN)]})
        opened = asyncio.Event()

        async def close() -> None:
            stage.performer.post(word)
            await opened.wait()

        async def open_gate() -> None:
            opened.set()

        stage.slow[effects.CloseExport] = close
        stage.slow[effects.SetGate] = open_gate
        await stage.play(demote)
        assert stage.seen == [demote, word]
        assert effects.Answer(1) in stage.done

    run(body())
