"""Daemons of one node see each other's resyncs by locks on files: of a dead one there are none."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.daemon_node import Node
from fakes.loop import run
from fakes.resource import view_of, write_configuration
from pydrbd.config.description import ResourceView
from pydrbd.model.effects import Effect
from pydrbd.model.events import Event, OthersResync, PacketReceived, TimerFired
from pydrbd.model.packets import SyncUuid
from pydrbd.node.performer import Performer
from pydrbd.node.resync_order import FILE_NAME, ResyncOrder
from pydrbd.state.node_state import NodeState

RESYNCING_DAEMON = """
import sys, time
from pathlib import Path
from fakes.resource import view_of
from pydrbd.node.resync_order import ResyncOrder
order = ResyncOrder(view_of(Path(sys.argv[1])), Path(sys.argv[2]), None)
order.open()
order.publish(resyncing=True)
print("x", end="", flush=True)
time.sleep(60)
"""


def follow(state: NodeState, event: Event, _: int) -> tuple[NodeState, tuple[Effect, ...]]:
    """Stand in for the rules: remember who is waited for."""
    return (replace(state, waits_for=event.waits_for) if isinstance(event, OthersResync) else state), ()


class Folder:
    """A run directory."""

    def __init__(self, path: Path) -> None:
        self.run = path / "run"
        self.configuration = write_configuration(path)
        self.view = view_of(self.configuration)
        self.performer = Performer(NodeState(), follow, {})

    def order(self, name: str, **options: object) -> ResyncOrder:
        own = self.run / name
        own.mkdir(parents=True, exist_ok=True)
        return ResyncOrder(named(self.view, name, **options), own, self.performer)


def named(view: ResourceView, name: str, **options: object) -> ResourceView:
    volume = view.local.volumes[0]
    volume = replace(volume, options=replace(volume.options, **options))
    return replace(view, resource=replace(view.resource, name=name), local=replace(view.local, volumes=(volume,)))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_who_resyncs_is_seen_by_who_comes_after_as_long_as_it_does(folder: Folder) -> None:
    async def main() -> list[tuple[str, ...]]:
        root, home = folder.order("root"), folder.order("home", resync_after="root/0")
        root.open()
        home.open()
        seen = [home.look()]
        root.publish(resyncing=True)
        seen.append(home.look())
        root.publish(resyncing=False)
        seen.append(home.look())
        root.publish(resyncing=True)
        root.close()
        seen.append(home.look())
        home.close()
        return seen

    assert run(main()) == [(), ("root",), (), ()]
    assert not list(folder.run.glob(f"*/{FILE_NAME}"))


def test_nobody_waits_for_a_daemon_that_was_killed_although_its_file_is_there(folder: Folder) -> None:
    (folder.run / "drbd0").mkdir(parents=True)
    words = [sys.executable, "-c", RESYNCING_DAEMON, str(folder.configuration), str(folder.run / "drbd0")]
    path = os.pathsep.join(sys.path)
    home = folder.order("home", resync_after="drbd0")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.read(1) == b"x"
            assert home.look() == ("drbd0",)
        finally:
            daemon.kill()
    assert (folder.run / "drbd0" / FILE_NAME).exists()
    assert home.look() == ()


def test_the_rules_hear_of_every_change_and_of_nothing_else(folder: Folder) -> None:
    async def main() -> list[tuple[str, ...]]:
        performing = asyncio.ensure_future(folder.performer.run())
        heard: list[tuple[str, ...]] = []
        root, home = folder.order("root"), folder.order("home", sync_group=1)
        home.open()
        root.open()
        for resyncing in (True, False):
            root.publish(resyncing=resyncing)
            await folder.performer.wait_until(lambda state, wanted=resyncing: bool(state.waits_for) == wanted)
            heard.append(folder.performer.state.waits_for)
        root.close()
        home.close()
        performing.cancel()
        return heard

    assert run(main()) == [("root",), ()]


def test_an_event_that_may_begin_a_resync_says_who_resyncs_at_that_moment(folder: Folder) -> None:
    async def main() -> tuple[Event, Event, Event]:
        root, home = folder.order("root"), folder.order("home", resync_after="root")
        root.open()
        root.publish(resyncing=True)
        begins, other = PacketReceived(SyncUuid(1), 0), TimerFired("x")
        found = home.completed(begins), home.completed(other), root.completed(begins)
        root.close()
        return found

    begins, other, first = run(main())
    assert begins == PacketReceived(SyncUuid(1), 0, waits_for=("root",))
    assert other == TimerFired("x")
    assert first == PacketReceived(SyncUuid(1), 0), "who comes after nobody need not look"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"after": [1], "group": "x"}', "\x00\xff"])
def test_a_file_that_says_nothing_sensible_is_nobodys(
    folder: Folder, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> tuple[str, ...]:
        root, home = folder.order("root"), folder.order("home", resync_after="root")
        root.open()
        root.publish(resyncing=True)
        (folder.run / "root" / FILE_NAME).write_text(text)
        found = home.look()
        root.close()
        return found

    assert run(main()) == ()
    assert "cannot be read" in caplog.text


def test_orders_that_contradict_each_other_are_told_once(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[str, ...]:
        root, home = folder.order("root", resync_after="home"), folder.order("home", resync_after="root")
        root.open()
        root.publish(resyncing=True)
        found = [home.look() for _ in range(3)]
        root.close()
        return found[-1]

    assert run(main()) == ()
    assert caplog.text.count("home, root have read orders that make a cycle") == 1


def test_a_daemon_is_in_the_order_while_it_is_up(tmp_path: Path) -> None:
    async def body(node: Node) -> None:
        watching = ResyncOrder(
            named(node.view, "after", resync_after="run"), tmp_path / "after", Performer(NodeState(), follow, {})
        )
        assert watching.look() == ()
        assert (await node.ask("pause-sync"))["exit"] == 0
        assert watching.look() == ("run",)
        assert (await node.ask("resume-sync"))["exit"] == 0
        assert watching.look() == ()
        assert (await node.ask("down"))["exit"] == 0

    playing(tmp_path, body)


def playing(tmp_path: Path, body: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(tmp_path)
        await node.live(lambda: body(node))

    run(main())


def test_another_place_is_taken_at_once_and_a_cycle_is_seen_before(folder: Folder) -> None:
    async def main() -> list[object]:
        performing = asyncio.ensure_future(folder.performer.run())
        root, home = folder.order("root"), folder.order("home")
        root.open()
        home.open()
        root.publish(resyncing=True)
        after_root, after_home = (named(folder.view, "x", resync_after=name) for name in ("root", "home"))
        found: list[object] = [home.would_cycle(after_root), home.look()]
        home.adjust(after_root)
        await folder.performer.wait_until(lambda state: bool(state.waits_for))
        found += [root.would_cycle(after_home), root.would_cycle(named(folder.view, "x", resync_after="root"))]
        home.adjust(folder.view)
        await folder.performer.wait_until(lambda state: not state.waits_for)
        found.append(root.would_cycle(after_home))
        root.close()
        home.close()
        performing.cancel()
        return found

    assert run(main()) == [False, (), True, True, False]
