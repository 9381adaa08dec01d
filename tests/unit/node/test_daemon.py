"""The whole daemon over a fake engine: its start and its end, its verbs, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fakes.daemon_node import Node
from fakes.fake_core import CONSTANTS, FakeLib
from fakes.loop import run
from pydrbd.model import effects
from pydrbd.node.admin import overview
from pydrbd.node.backing import disk_arrival, late_disk
from pydrbd.node.daemon import Daemon
from pydrbd.node.process import Readiness, StartError


def playing(tmp_path: Path, body: Callable[[Node, FakeLib], Awaitable[None]]) -> Node:
    async def main() -> Node:
        node = Node(tmp_path)
        await node.live(lambda: body(node, node.lib))
        return node

    return run(main())


def test_up_primary_secondary_down(tmp_path: Path):
    async def body(node: Node, lib: FakeLib) -> None:
        assert "disk:Inconsistent" in (await node.ask("status"))["text"]
        assert (await node.ask("role"))["text"] == "Secondary/Unknown\n"
        assert (await node.ask("cstate"))["text"] == "Connecting\n"
        refused = await node.ask("primary")
        assert refused["exit"] == 17
        assert refused["sentence"] == "drbd0: State change failed: Need access to UpToDate data"
        assert (await node.ask("primary", force=True))["exit"] == 0
        assert (await node.ask("dstate"))["text"].startswith("UpToDate/")
        assert (node.places.run / "nbd.sock").is_socket()
        await hand_over_a_client(node, lib)
        assert (await node.ask("secondary"))["exit"] == 0
        assert not (node.places.run / "nbd.sock").exists()
        assert (await node.ask("down"))["exit"] == 0

    node = playing(tmp_path, body)
    names = node.lib.names()
    assert names.index("core_export_open") < names.index("core_export_close") < names.index("core_al_retire")
    assert names.index("core_al_retire") < names.index("core_detach") < names.index("core_engine_stop")
    assert not list(node.places.run.iterdir())


async def hand_over_a_client(node: Node, lib: FakeLib) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(node.places.run / "nbd.sock"))
        await asyncio.sleep(0.02)
        (taken,) = [call[1] for call in lib.calls if call[0] == "core_export_client"]
        os.close(taken)


def test_a_primary_that_is_held_open_stays_until_told_twice(tmp_path: Path):
    async def body(node: Node, lib: FakeLib) -> None:
        await node.ask("primary", force=True)
        lib.put(CONSTANTS.CORE_FACT_CLIENTS, a=1, b=1)
        await asyncio.sleep(0.02)
        assert (await node.ask("secondary"))["exit"] == 11
        held = await node.ask("down")
        assert (held["exit"], held["sentence"]) == (11, "drbd0: State change failed: Device is held open by someone")
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        assert (await node.ask("role"))["text"] == "Primary/Unknown\n"
        os.kill(os.getpid(), signal.SIGTERM)

    playing(tmp_path, body)


def test_sigterm_takes_a_secondary_down(tmp_path: Path):
    async def body(_node: Node, _lib: FakeLib) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    playing(tmp_path, body)


def test_waiting_for_the_peer_ends_with_exit_code_5(tmp_path: Path):
    async def body(node: Node, _: FakeLib) -> None:
        assert (await node.ask("wait-connect", timeout_s=0.05))["exit"] == 5
        waiting = asyncio.ensure_future(node.ask("wait-sync", timeout_s=0))
        await asyncio.sleep(0.02)
        assert (await node.ask("disconnect"))["exit"] == 0
        assert "StandAlone" in (await waiting)["sentence"]
        assert (await node.ask("disconnect"))["exit"] == 10
        await node.ask("down")

    playing(tmp_path, body)


@pytest.mark.parametrize(
    ("verb", "arguments", "sentence"),
    [
        ("frobnicate", {}, "there is no verb 'frobnicate'"),
        ("primary", {"foce": True}, "primary: argument foce is not one of this verb's"),
        ("primary", {"force": "yes"}, "primary: argument force is not one of this verb's"),
        ("wait-connect", {"timeout_s": "long"}, "wait-connect: timeout_s is not a number of seconds"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path: Path, verb: str, arguments: dict[str, object], sentence: str):
    async def body(node: Node, _: FakeLib) -> None:
        reply = await node.ask(verb, **arguments)
        assert (reply["exit"], reply["sentence"]) == (1, sentence)
        await node.ask("down")

    playing(tmp_path, body)


def size_of(path: str) -> int:
    return Path(path).stat().st_size


def test_a_backing_disk_that_grows_is_offered_to_resize(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(overview, "SAMPLE_MS", 5)
    caplog.set_level("INFO")

    async def grown(node: Node) -> object:
        return (await node.ask("status"))["data"]["devices"][0].get("backing-grown")

    async def body(node: Node, _: FakeLib) -> None:
        disk = node.view.local.volumes[0].disk
        size = size_of(disk)
        assert await grown(node) is None
        for more_kib in (1024, 3072):
            os.truncate(disk, size + more_kib * 1024)
            assert await grown(node) == more_kib
            await asyncio.sleep(0.05)
        await node.ask("resize")
        assert await grown(node) is None
        await node.ask("down")

    playing(tmp_path, body)
    told = [line for line in caplog.messages if "lets the device have it" in line]
    assert [line.partition(" has grown by ")[2].partition(";")[0] for line in told] == ["1024 KiB", "3072 KiB"]


def refused(node: Node) -> StartError:
    with pytest.raises(StartError) as caught:
        run(Daemon(node.view, node.places, node.binding).run(Readiness(None)))
    assert not list(node.places.run.iterdir())
    return caught.value


def test_a_port_in_use_is_known_before_the_disk_is_touched(tmp_path: Path):
    async def make() -> Node:
        return Node(tmp_path)

    node = run(make())
    assert node.metadata is not None
    before = node.metadata.metadata.read_bytes()
    with socket.socket() as other:
        other.bind((node.view.local.address, node.view.local.port))
        other.listen()
        error = refused(node)
    assert error.exit_code == 10
    assert "Address already in use" in error.sentence
    assert "core_attach" not in node.lib.names()
    assert node.metadata.metadata.read_bytes() == before


def test_a_disk_without_metadata_is_refused_with_the_command_that_helps(tmp_path: Path):
    error = refused(Node(tmp_path, metadata=False))
    assert error.exit_code == 10
    assert "create-md" in error.sentence


def test_a_disk_that_the_engine_does_not_take_is_said(tmp_path: Path):
    node = Node(tmp_path)
    node.lib.results["core_attach"] = -12
    error = refused(node)
    assert error.exit_code == 20
    assert "castor.disk" in error.sentence


def test_a_missing_disk_is_said_and_attached_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (disk_arrival, late_disk):
        monkeypatch.setattr(module, "POLL_S", 0.02)

    node = Node(tmp_path)
    disk = Path(node.view.local.volumes[0].disk)
    elsewhere = disk.rename(tmp_path / "elsewhere")

    async def main() -> None:
        daemon = Daemon(node.view, node.places, node.binding)
        reader, writer = os.pipe()
        running = asyncio.ensure_future(daemon.run(Readiness(writer)))
        said = json.loads(await asyncio.get_running_loop().run_in_executor(None, os.read, reader, 1000))
        os.close(reader)
        sentence = f"drbd0: up without its disk: {disk} is not there; it is attached when it comes"
        assert (said["exit"], said["sentence"]) == (16, sentence)
        assert (await node.ask("dstate"))["text"] == "Diskless/DUnknown\n"
        assert (await node.ask("cstate"))["text"] == "Connecting\n"
        asyncio.get_running_loop().call_soon(elsewhere.rename, disk)
        await asyncio.wait_for(daemon._performer.wait_until(lambda state: state.has_disk), 5)
        assert (await node.ask("dstate"))["text"] == "Inconsistent/DUnknown\n"
        await node.ask("down")
        await asyncio.wait_for(running, 5)

    run(main())


def test_a_daemon_whose_engine_dies_ends_and_says_why(tmp_path: Path):
    async def main() -> Daemon:
        node = Node(tmp_path)
        daemon = Daemon(node.view, node.places, node.binding)
        reader, writer = os.pipe()
        running = asyncio.ensure_future(daemon.run(Readiness(writer)))
        await asyncio.get_running_loop().run_in_executor(None, os.read, reader, 1000)
        os.close(reader)
        await node.ask("primary", force=True)
        node.lib.put(CONSTANTS.CORE_FACT_DIED, result=-9)
        await asyncio.wait_for(running, 5)
        assert "core_export_close" not in node.lib.names(), "who uses the device waits for the next daemon"
        return daemon

    assert run(main()).died == "the engine has died: Bad file descriptor"


def test_metadata_that_cannot_be_written_gives_the_disk_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pydrbd.node.metadata_store import MetadataStore
    from pydrbd.ondisk.errors import OnDiskError

    async def body(node: Node, lib: FakeLib) -> None:
        def fail(*_arguments: object, **_more: object) -> None:
            raise OnDiskError("no space left on the metadata's disk")

        monkeypatch.setattr(MetadataStore, "write", fail)
        reply = await node.ask("primary", force=True)
        assert reply["exit"] == 20
        await asyncio.sleep(0.02)
        assert "core_detach" in lib.names()
        assert "core_al_retire" not in lib.names()
        assert (await node.ask("dstate"))["text"].startswith("Diskless/")
        await node.ask("down")

    playing(tmp_path, body)


def test_who_uses_the_device_is_known_before_a_handshake_can_take_the_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def main() -> list[str]:
        daemon = Daemon(node.view, node.places, node.binding)
        order: list[str] = []

        async def note(what: str) -> None:
            order.append(what)

        monkeypatch.setattr(daemon._device, "look", lambda: note("look"))
        monkeypatch.setattr(daemon._link, "adopt", lambda: note("adopt"))
        await daemon._doers()[effects.AdoptSockets](effects.AdoptSockets())
        return order

    async def make() -> Node:
        return Node(tmp_path)

    node = run(make())
    assert run(main()) == ["look", "adopt"]
