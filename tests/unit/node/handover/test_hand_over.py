"""A planned restart: what is brought to rest, in which order, what the next program gets, and when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from fakes.daemon_node import Node
from fakes.fake_core import CONSTANTS
from fakes.loop import run
from fakes.resource import view_of
from pydrbd.core.engine import Parked
from pydrbd.device import links, openers
from pydrbd.device.kind import Attached, Made, Wish
from pydrbd.device.openers import Opener
from pydrbd.node.handover import hand_over
from pydrbd.node.handover.inheritance import VARIABLE, Inheritance, load
from pydrbd.node.kernel import kernel_device, take_over


class FakeKind:
    """A device that comes by a socket."""

    name = "none"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def missing(self) -> str | None:
        return None

    def attach(self, wish: Wish) -> Made:
        self.asked.append("attach")
        return Made(Attached(self.name, "/dev/fake0", wish.size_bytes, wish.identifier))

    def take_over(self, _: Wish, device: Attached, *, served: bool) -> Made | None:
        self.asked.append("take over, served" if served else "take over")
        return Made(device)

    def watch(self, _: Attached) -> None:
        return None

    def detach(self, _wish: Wish, _device: Attached, *, force: bool) -> None:
        self.asked.append("force" if force else "detach")

    def clear(self, _: Wish) -> None:
        self.asked.append("clear")


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeKind:
    made = FakeKind()
    monkeypatch.setattr(kernel_device, "kinds", lambda _: (made,))
    monkeypatch.setattr(links, "BY_RESOURCE", tmp_path / "by-res")
    monkeypatch.setattr(openers, "openers_of", lambda _: [Opener(0, "mounted on /opt", "/nowhere")])
    monkeypatch.setattr(take_over, "PEER_S", 0.01)
    monkeypatch.setattr(take_over, "PATIENCE_S", 0.05)
    monkeypatch.setattr(hand_over, "PARK_S", 0.1)
    return made


def with_device(kind: FakeKind, directory: Path) -> Node:
    """Return a node with a device, whose name is a link in the test's directory."""
    kind.name = "fuse"
    node = Node(directory)
    text = node.configuration.read_text().replace("attach = none", "attach = fuse")
    node.configuration.write_text(text.replace("/dev/nb0", str(directory / "nb0")))
    return reread(node)


def reread(node: Node) -> Node:
    node.view = view_of(node.configuration)
    return node


async def restarted(node: Node) -> None:
    """Ask for a restart and hang up: the answer is the next program's."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.connect(str(node.places.run / "control.sock"))
        asker.send(b'{"verb": "restart"}\n')
        await asyncio.sleep(0.02)


def bequest_of(node: Node, body: Callable[[], Awaitable[None]]) -> Inheritance:
    bequest = run(node.live(body))
    assert bequest is not None
    return bequest


@contextlib.contextmanager
def given_up(bequest: Inheritance) -> Iterator[Inheritance]:
    try:
        yield bequest
    finally:
        bequest.close()
        if bequest.asker >= 0:
            os.close(bequest.asker)


def test_a_primary_comes_to_rest_goes_down_and_hands_its_sockets_on(tmp_path: Path, kind: FakeKind):
    node = with_device(kind, tmp_path)
    ours, theirs = socket.socketpair()

    async def body() -> None:
        await node.ask("primary", force=True)
        node.lib.calls.clear()
        node.lib.put(CONSTANTS.CORE_FACT_PARKED, a=theirs.detach(), b=CONSTANTS.CORE_PARKED_STRUCTURED)
        await restarted(node)

    with given_up(bequest_of(node, body)) as bequest, ours:
        order = ["core_export_park", "core_export_close", "core_al_retire", "core_detach", "core_engine_stop"]
        assert [name for name in node.lib.names() if name in order] == order
        assert bequest.was_primary
        assert set(bequest.listeners) == {"admin", "export", "device", "peer"}
        assert [client.structured for client in bequest.clients] == [True]
        assert kind.asked == ["attach"]  # who has the device open has not noticed anything
        assert {path.name for path in node.places.run.iterdir()} == {
            *("control.sock", "nbd.sock", "device.sock", "device.json")
        }
        for name in ("control.sock", "nbd.sock", "device.sock"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(node.places.run / name))  # he waits; he is not refused


def test_the_next_program_goes_on_with_all_of_it(tmp_path: Path, kind: FakeKind):
    node = with_device(kind, tmp_path)
    pairs = [socket.socketpair(), socket.socketpair()]

    async def leave() -> None:
        await node.ask("primary", force=True)
        for (_, theirs), flags in zip(pairs, (0, CONSTANTS.CORE_PARKED_DEVICE), strict=True):
            node.lib.put(CONSTANTS.CORE_FACT_PARKED, a=theirs.detach(), b=flags, payload=b"\x25\x60")
        await restarted(node)

    bequest = bequest_of(node, leave)
    inodes = {name: os.fstat(fd).st_ino for name, fd in bequest.listeners.items()}
    heir = reread(Node(tmp_path, metadata=False, again=True))

    async def go_on() -> None:
        assert (await heir.ask("role"))["text"] == "Primary/Unknown\n"
        adopted = [call for call in heir.lib.calls if call[0] == "core_export_adopt"]
        assert [call[2:] for call in adopted] == [(0, b"%`", 2), (CONSTANTS.CORE_PARKED_DEVICE, b"%`", 2)]
        heir.lib.taken_fds += [call[1] for call in adopted]
        assert set(inodes.values()) <= open_inodes()
        status = await heir.ask("status")
        assert status["data"]["devices"][0]["kernel-device"]["reconnects"] == 0
        await heir.ask("down", force=True)

    with given_up(bequest):
        run(heir.live(go_on, bequest))
        assert bequest.listeners == {}
        assert bequest.clients == []
    assert kind.asked == ["attach", "take over, served", "force"]
    for ours, _ in pairs:
        ours.close()


def open_inodes() -> set[int]:
    fds = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    return {os.fstat(fd).st_ino for fd in fds if is_open(fd)}


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_an_heir_that_may_not_be_primary_hangs_up_on_the_clients(
    tmp_path: Path, kind: FakeKind, monkeypatch: pytest.MonkeyPatch
):
    node = Node(tmp_path)
    ours, theirs = socket.socketpair()

    async def leave() -> None:
        await node.ask("primary", force=True)
        node.lib.put(CONSTANTS.CORE_FACT_PARKED, a=theirs.detach())
        await restarted(node)

    bequest = bequest_of(node, leave)
    monkeypatch.setitem(take_over.COMMANDS, "primary", take_over.COMMANDS["resume-sync"])  # refused: it is not paused
    heir = reread(Node(tmp_path, metadata=False, again=True))

    async def go_on() -> None:
        assert (await heir.ask("role"))["text"] == "Secondary/Unknown\n"
        await heir.ask("down")

    with given_up(bequest), ours:
        run(heir.live(go_on, bequest))
        assert ours.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(str(node.places.run / "nbd.sock"))
    assert kind.asked == []


def test_a_secondary_makes_room_too(tmp_path: Path, kind: FakeKind):
    node = Node(tmp_path)
    with given_up(bequest_of(node, lambda: restarted(node))) as bequest:
        assert not bequest.was_primary
        assert set(bequest.listeners) == {"admin", "peer"}
        assert "core_export_park" not in node.lib.names()
    assert kind.asked == []


def test_clients_that_do_not_come_to_rest_keep_their_daemon(tmp_path: Path, kind: FakeKind):
    node = Node(tmp_path)

    async def body() -> None:
        await node.ask("primary", force=True)
        node.lib.counter_values["clients"] = 1
        node.lib.silent.add("core_export_park")
        asking = asyncio.ensure_future(node.ask("restart"))
        await asyncio.sleep(0.2)
        token = next(call[1] for call in node.lib.calls if call[0] == "core_export_park")
        assert node.lib.names()[-1] == "core_export_unpark"
        node.lib.put(CONSTANTS.CORE_FACT_DONE, token=token, result=-errno.ECANCELED)
        refused = await asking
        assert refused["exit"] == 20
        assert "not restarted: requests of its NBD clients have not ended within 0.1 s" in refused["sentence"]
        taken = len(node.lib.calls)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(node.places.run / "nbd.sock"))
            await asyncio.sleep(0.02)
        (call,) = node.lib.calls[taken:]  # it is let in
        os.close(call[1])
        await node.ask("down", force=True)

    assert run(node.live(body)) is None
    assert kind.asked == []


def test_a_device_that_does_not_come_to_rest_is_left_as_by_a_crash(tmp_path: Path, kind: FakeKind):
    node = with_device(kind, tmp_path)

    async def body() -> None:
        await node.ask("primary", force=True)
        node.lib.results["core_export_park"] = -errno.ECANCELED
        reply = await node.ask("restart")
        assert (reply["exit"], reply["data"]) == (0, {"left": True, "supervised": False})

    assert run(node.live(body)) is None
    assert kind.asked == ["attach"]
    assert "core_al_retire" not in node.lib.names()
    assert (node.places.run / "device.json").exists()


def test_a_primary_without_a_disk_is_not_restarted(tmp_path: Path, kind: FakeKind):
    node = Node(tmp_path)

    async def body() -> None:
        await node.ask("primary", force=True)
        await node.ask("detach", force=True)
        refused = await node.ask("restart")
        assert (refused["exit"], "attach one first" in refused["sentence"]) == (10, True)
        await node.ask("down", force=True)

    assert run(node.live(body)) is None
    assert kind.asked == []


def test_a_secondary_without_a_disk_makes_room(tmp_path: Path, kind: FakeKind):
    node = Node(tmp_path)

    async def body() -> None:
        await node.ask("detach")
        await restarted(node)

    with given_up(bequest_of(node, body)) as bequest:
        assert not bequest.was_primary
    assert kind.asked == []


def test_without_the_interpreter_there_is_no_restart(tmp_path: Path, kind: FakeKind, monkeypatch: pytest.MonkeyPatch):
    node = Node(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    async def body() -> None:
        assert "is gone" in (await node.ask("restart"))["sentence"]
        await node.ask("down")

    assert run(node.live(body)) is None
    assert kind.asked == []


# --- what goes through execve ----------------------------------------------------------------------------------------


def test_an_inheritance_survives_execve_and_is_closed_to_children_again():
    (one, two), (three, four) = socket.socketpair(), socket.socketpair()
    fds = [sock.detach() for sock in (one, two, three, four)]
    made = Inheritance(True, True, fds[0], fds[1], {"peer": fds[2]}, [Parked(fds[3], True, False, b"\x25\x60")])
    environment = made.store() | {"PATH": "/bin"}
    assert all(os.get_inheritable(fd) for fd in fds)
    assert load(environment) == made
    assert environment == {"PATH": "/bin"}
    assert not any(os.get_inheritable(fd) for fd in fds)
    made.close()
    assert [is_open(fd) for fd in fds] == [True, True, False, False]  # lock and asker are not its to close
    os.close(fds[0])
    os.close(fds[1])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "lock": "x"}'])
def test_what_is_not_understood_counts_as_nothing(text: str):
    assert load({VARIABLE: text}) is None


def test_a_listener_at_another_address_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address, fd = server.getsockname(), server.detach()
    inherited = Inheritance(listeners={"peer": fd})
    assert inherited.take_listener("admin", address) is None
    assert inherited.take_listener("peer", ("127.0.0.1", 1)) is None
    assert not is_open(fd)
    assert inherited.take_listener("peer", address) is None
