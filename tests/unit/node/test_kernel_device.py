"""The daemon and its kernel device, which is a fake: when it appears and goes, who holds it, what a successor does."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.daemon_node import Node
from fakes.fake_core import FakeLib
from fakes.loop import run
from fakes.resource import view_of
from pydrbd.device import links, openers
from pydrbd.device.kind import Attached, DeviceBusyError, DeviceError, Made, Queue, Wish
from pydrbd.device.openers import Opener
from pydrbd.device.state_file import StateFile
from pydrbd.node.kernel import kernel_device, take_over


class FakeWatch:
    """What the kernel says of the device's socket: 2 is that it is lost."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.closed = False

    def say(self, what: int) -> None:
        os.eventfd_write(self._fd, what)

    def fileno(self) -> int:
        return self._fd

    def was_told(self) -> bool:
        return os.eventfd_read(self._fd) == 2

    def close(self) -> None:
        os.close(self._fd)
        self.closed = True


class FakeKind:
    """A kind that keeps a list of what it was asked."""

    name = "fuse"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.busy = 0
        self.broken = ""
        self.whole = True
        self.heard: FakeWatch | None = None
        self.served_fd: int | None = None

    def missing(self) -> str | None:
        return None

    def attach(self, wish: Wish) -> Made:
        self.asked.append("attach")
        if self.broken:
            raise DeviceError(self.broken)
        assert wish.server.is_socket()
        return Made(Attached(self.name, "/dev/fake0", wish.size_bytes, wish.identifier))

    def take_over(self, wish: Wish, device: Attached, *, served: bool) -> Made | None:
        self.asked.append("take over, served" if served else "take over")
        return Made(device, self.served_fd) if self.whole and device.identifier == wish.identifier else None

    def watch(self, _: Attached) -> FakeWatch | None:
        return self.heard

    def detach(self, _wish: Wish, device: Attached, *, force: bool) -> None:
        self.asked.append("force" if force else "detach")
        if not force and self.busy:
            self.busy -= 1
            raise DeviceBusyError(f"{device.path} is held open")

    def clear(self, _wish: Wish) -> None:
        self.asked.append("clear")


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeKind:
    made = FakeKind()
    monkeypatch.setattr(kernel_device, "kinds", lambda _: (made,))
    monkeypatch.setattr(links, "BY_RESOURCE", tmp_path / "by-res")
    monkeypatch.setattr(kernel_device, "BUSY_S", 0.1)
    monkeypatch.setattr(take_over, "PEER_S", 0.01)
    return made


@pytest.fixture
def held_by(monkeypatch: pytest.MonkeyPatch) -> list[Opener]:
    found: list[Opener] = []
    monkeypatch.setattr(openers, "openers_of", lambda _: list(found))
    return found


def fuse_node(directory: Path, *, fresh: bool = True) -> Node:
    node = Node(directory, metadata=fresh, again=not fresh)
    if fresh:
        text = node.configuration.read_text().replace("attach = none", "attach = fuse")
        node.configuration.write_text(text.replace("/dev/nb0", str(directory / "nb0")))
        node.view = view_of(node.configuration)
    return node


def playing(node: Node, body: Callable[[Node, FakeLib], Awaitable[None]]) -> None:
    run(node.live(lambda: body(node, node.lib)))


def device_of(status: dict[str, Any]) -> dict[str, Any]:
    return dict(status["data"]["devices"][0].get("kernel-device", {}))


def test_it_appears_with_the_role_and_goes_with_it(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    link = tmp_path / "nb0"

    async def body(node: Node, lib: FakeLib) -> None:
        assert device_of(await node.ask("status")) == {}
        assert (await node.ask("primary", force=True))["exit"] == 0
        assert str(link.readlink()) == "/dev/fake0"
        status = await node.ask("status", verbose=True)
        assert device_of(status)["path"] == "/dev/fake0"
        assert "kernel-device:/dev/fake0 attach:fuse" in status["text"]
        reader, writer = await asyncio.open_unix_connection(str(node.places.run / "device.sock"))
        await asyncio.sleep(0.02)
        ((_, fd, in_transmission),) = [call for call in lib.calls if call[0] == "core_export_device"]
        assert in_transmission == 0
        lib.taken_fds.append(fd)
        writer.close()
        assert (await node.ask("secondary"))["exit"] == 0
        assert not link.is_symlink()
        assert not (node.places.run / "device.sock").exists()
        assert (await node.ask("down"))["exit"] == 0
        del reader

    playing(fuse_node(tmp_path), body)
    assert not held_by
    assert kind.asked == ["attach", "detach"]


def test_who_holds_it_open_is_named_and_keeps_the_role(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    async def body(node: Node, _lib: FakeLib) -> None:
        await node.ask("primary", force=True)
        held_by[:] = [Opener(0, "mounted on /opt", "/nowhere"), Opener(42, "mysqld (pid 42)")]
        refused = await node.ask("secondary")
        assert refused["exit"] == 11
        assert refused["sentence"] == (
            "drbd0: State change failed: Device is held open by someone (mounted on /opt, mysqld (pid 42))"
        )
        assert (await node.ask("down"))["exit"] == 11
        assert device_of(await node.ask("status"))["openers"] == ["mounted on /opt", "mysqld (pid 42)"]
        assert (await node.ask("secondary", force=True))["exit"] == 0
        await node.ask("down")

    playing(fuse_node(tmp_path), body)
    assert kind.asked == ["attach", "force"]


def test_one_who_only_looks_does_not_hold_it(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    async def body(node: Node, _lib: FakeLib) -> None:
        await node.ask("primary", force=True)
        kind.busy = 1
        assert (await node.ask("down"))["exit"] == 0

    playing(fuse_node(tmp_path), body)
    assert not held_by
    assert kind.asked == ["attach", "detach", "detach"]


def test_a_promotion_without_its_device_says_so_and_serves_the_socket(
    tmp_path: Path, kind: FakeKind, held_by: list[Opener]
):
    async def body(node: Node, _lib: FakeLib) -> None:
        kind.broken = "losetup failed: no free loop device"
        said = await node.ask("primary", force=True)
        assert said["exit"] == 20
        assert said["sentence"] == "drbd0: Primary, but without a device: losetup failed: no free loop device"
        assert (await node.ask("role"))["text"].startswith("Primary")
        assert (node.places.run / "nbd.sock").is_socket()
        assert device_of(await node.ask("status")) == {
            "kind": "none",
            "problem": "losetup failed: no free loop device",
        }
        await node.ask("down")

    playing(fuse_node(tmp_path), body)
    assert not held_by


class CrashError(Exception):
    """The daemon is to end as by a crash."""


def leave_primary(directory: Path) -> None:
    """Let a daemon end as Primary with its device in place."""

    async def body(node: Node, _lib: FakeLib) -> None:
        await node.ask("primary", force=True)
        raise CrashError

    with pytest.raises(CrashError):
        playing(fuse_node(directory), body)


def test_a_successor_becomes_primary_and_takes_the_device_over(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    leave_primary(tmp_path)

    async def body(node: Node, _lib: FakeLib) -> None:
        assert (await node.ask("role"))["text"] == "Primary/Unknown\n"
        assert (await node.ask("down"))["exit"] == 0

    playing(fuse_node(tmp_path, fresh=False), body)
    assert not held_by
    assert kind.asked == ["attach", "take over", "detach"]
    assert StateFile(tmp_path / "run").load() is None


@pytest.mark.parametrize(("left", "loaded"), [("nbd", ["nbd", "attach"]), ("fuse", [])])
def test_what_the_take_over_of_nbd_needs_is_loaded_before_anything_is_asked_of_the_device(
    tmp_path: Path,
    kind: FakeKind,
    held_by: list[Opener],
    monkeypatch: pytest.MonkeyPatch,
    left: str,
    loaded: list[str],
):
    leave_primary(tmp_path)
    state = StateFile(tmp_path / "run")
    device = state.load()
    assert device is not None
    state.save(replace(device, kind=left))
    found: list[str] = []

    monkeypatch.setattr(kernel_device.nbd, "load_control", lambda: found.extend(["nbd", *kind.asked]))

    async def body(node: Node, _lib: FakeLib) -> None:
        assert (await node.ask("role"))["text"] == "Primary/Unknown\n"
        await node.ask("down")

    playing(fuse_node(tmp_path, fresh=False), body)
    assert not held_by
    assert found == loaded
    assert len(kind.asked) > 1


def test_a_device_that_is_not_whole_is_made_anew(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    leave_primary(tmp_path)
    kind.whole = False

    async def body(node: Node, _lib: FakeLib) -> None:
        assert (await node.ask("role"))["text"] == "Primary/Unknown\n"
        await node.ask("down")

    playing(fuse_node(tmp_path, fresh=False), body)
    assert not held_by
    assert kind.asked == ["attach", "take over", "clear", "attach", "detach"]


def test_who_may_not_be_primary_any_more_clears_the_device_away(
    tmp_path: Path, kind: FakeKind, held_by: list[Opener], monkeypatch: pytest.MonkeyPatch
):
    leave_primary(tmp_path)
    monkeypatch.setattr(take_over, "PATIENCE_S", 0.05)
    monkeypatch.setitem(take_over.COMMANDS, "primary", take_over.COMMANDS["resume-sync"])  # refused: it is not paused

    async def body(node: Node, _lib: FakeLib) -> None:
        assert (await node.ask("role"))["text"] == "Secondary/Unknown\n"
        await node.ask("down")

    playing(fuse_node(tmp_path, fresh=False), body)
    assert not held_by
    assert kind.asked == ["attach", "clear"]
    assert not (tmp_path / "nb0").is_symlink()


def test_a_device_that_loses_its_socket_gets_another_at_once(tmp_path: Path, kind: FakeKind, held_by: list[Opener]):
    kind.heard = watch = FakeWatch()

    async def body(node: Node, lib: FakeLib) -> None:
        await node.ask("primary", force=True)
        watch.say(1)  # of another device
        await asyncio.sleep(0.02)
        assert kind.asked == ["attach"]
        for _ in range(2):
            kind.served_fd = os.open("/dev/null", os.O_RDWR)
            watch.say(2)
            await asyncio.sleep(0.05)
            name, fd, in_transmission = lib.calls[-1]
            assert (name, fd, in_transmission) == ("core_export_device", kind.served_fd, 1)
            lib.taken_fds.append(fd)
        assert device_of(await node.ask("status"))["reconnects"] == 1  # it began with none
        kind.whole = False
        watch.say(2)
        await asyncio.sleep(0.02)
        assert device_of(await node.ask("status"))["reconnects"] == 1
        await node.ask("down")

    playing(fuse_node(tmp_path), body)
    assert not held_by
    assert kind.asked == ["attach", "take over", "take over", "take over", "detach"]
    assert watch.closed


class QueueKind(FakeKind):
    """A kind whose device comes by a queue, as ublk's does."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal = ""
        self.seen: list[str] = []
        self.lib: FakeLib | None = None

    def attach(self, wish: Wish) -> Made:
        return self._made(super().attach(wish))

    def _made(self, made: Made) -> Made:
        return Made(made.device, queue=Queue(os.open("/dev/null", os.O_RDWR), 128, self._start))

    def _start(self) -> None:
        self.asked.append("start")
        assert self.lib is not None
        self.seen = [name for name in self.lib.names() if name == "core_export_ublk"]
        if self.refusal:
            raise DeviceError(self.refusal)


@pytest.fixture
def queue_kind(monkeypatch: pytest.MonkeyPatch, kind: FakeKind) -> QueueKind:
    made = QueueKind()
    del kind
    monkeypatch.setattr(kernel_device, "kinds", lambda _: (made,))
    return made


def close_queue(lib: FakeLib) -> None:
    for call in lib.calls:
        if call[0] == "core_export_ublk":
            assert call[3] == 128
            os.close(call[2])


def test_a_queue_is_started_when_the_engine_serves_it(tmp_path: Path, queue_kind: QueueKind, held_by: list[Opener]):
    async def body(node: Node, lib: FakeLib) -> None:
        queue_kind.lib = lib
        assert (await node.ask("primary", force=True))["exit"] == 0
        assert queue_kind.seen == ["core_export_ublk"]
        assert device_of(await node.ask("status"))["path"] == "/dev/fake0"
        close_queue(lib)
        assert (await node.ask("down"))["exit"] == 0

    playing(fuse_node(tmp_path), body)
    assert not held_by
    assert queue_kind.asked == ["attach", "start", "detach"]


@pytest.mark.parametrize("by_engine", [True, False])
def test_a_queue_that_is_refused_leaves_no_device(
    tmp_path: Path, queue_kind: QueueKind, held_by: list[Opener], *, by_engine: bool
):
    async def body(node: Node, lib: FakeLib) -> None:
        queue_kind.lib = lib
        if by_engine:
            lib.results["core_export_ublk"] = -errno.EOPNOTSUPP
        else:
            queue_kind.refusal = "the kernel does not start it"
        assert (await node.ask("primary", force=True))["exit"] == 20
        problem = device_of(await node.ask("status"))["problem"]
        expected = "the queue of the device is not served: it needs io_uring"
        assert problem == (expected if by_engine else "the kernel does not start it")
        assert not (node.places.run / "device.json").exists()
        close_queue(lib)
        assert (await node.ask("down"))["exit"] == 0

    playing(fuse_node(tmp_path), body)
    assert not held_by
    assert queue_kind.asked[-1] == "clear"
