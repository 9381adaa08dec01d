"""What a running daemon takes up of a changed configuration, and what it says of the rest."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fakes.daemon_node import Node
from fakes.loop import run
from helpers.configurations import R0
from pydrbd.config import Configuration, parse
from pydrbd.config.description import ResourceView
from pydrbd.node.admin.adjusting import Adjusting
from pydrbd.node.admin.admin_socket import Reply, Request
from pydrbd.state.resync_controller import Limits

OTHER = R0.replace("r0", "r1").replace("drbd0", "drbd1").replace("vdb", "vdc").replace(":7788", ":7789")


@dataclass
class Bench:
    """A daemon's configuration, and what was asked of it."""

    text: str = R0 + OTHER
    cycles: bool = False
    limits: list[Limits] = field(default_factory=list)
    after: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.adjusting = Adjusting(self.load().resource("r0").for_node("castor"), self.load, _Pacer(self), _Order(self))

    def load(self) -> Configuration:
        return parse(self.text)

    def write(self, old: str, new: str) -> None:
        assert old in self.text
        self.text = self.text.replace(old, new, 1)

    def disk(self, options: str) -> None:
        self.write("{\n", f"{{ disk {{ {options} }}\n")

    def adjust(self, **arguments: bool) -> Reply:
        return _answer(self.adjusting.adjust(Request("adjust", arguments)))

    def options(self, **options: str) -> Reply:
        given = {name.replace("_", "-"): value for name, value in options.items()}
        return _answer(self.adjusting.disk_options(Request("disk-options", {"options": given})))


def _answer(asking: Awaitable[Reply]) -> Reply:
    async def main() -> Reply:
        return await asking

    return run(main())


@dataclass
class _Pacer:
    bench: Bench

    def adjust(self, limits: Limits) -> None:
        self.bench.limits.append(limits)


@dataclass
class _Order:
    bench: Bench

    def would_cycle(self, _: ResourceView) -> bool:
        return self.bench.cycles

    def adjust(self, view: ResourceView) -> None:
        self.bench.after.append(view.local.volumes[0].options.resync_after)


def test_the_speed_and_the_order_change_at_once_and_once() -> None:
    bench = Bench()
    bench.disk("c-max-rate 100M; resync-after r1; c-plan-ahead 0;")
    reply = bench.adjust()
    assert (reply.exit, reply.text) == (
        0,
        'r0: c-plan-ahead 0 (was 20)\nr0: c-max-rate 100M (was 1G)\nr0: resync-after r1 (was "")\n',
    )
    assert [(limits.max_rate_kib_s, limits.plan_ahead_ms) for limits in bench.limits] == [(100 << 10, 0)]
    assert bench.after == ["r1"]
    assert bench.adjust() == Reply()
    assert len(bench.limits) == 1


def test_a_dry_run_changes_nothing() -> None:
    bench = Bench()
    bench.disk("c-max-rate 100M;")
    assert "c-max-rate 100M" in bench.adjust(dry_run=True).text
    assert (bench.limits, bench.after) == ([], [])
    assert "c-max-rate 100M" in bench.adjust().text


def test_what_needs_another_daemon_is_named_until_there_is_one() -> None:
    bench = Bench()
    sections = "net { timeout 50; tcp-cork no; } disk { al-extents 500; } startup { wfc-timeout 3; }"
    bench.write("{\n", f"{{ attach none; {sections}\n")
    bench.write("10.0.0.2:7788", "10.0.0.3:7788")
    bench.write("/dev/vdb", "/dev/vdd")
    needs = "needs `pydrbd restart r0`"
    lines = [
        "timeout",
        "al-extents",
        "address of pollux",
        "device or disk of castor",
        "device or disk of pollux",
        "attach",
    ]
    for _ in range(2):
        assert bench.adjust().text == "".join(f"r0: {line} {needs}\n" for line in lines)
    assert not bench.limits


def test_a_configuration_that_is_wrong_changes_nothing() -> None:
    bench = Bench()
    bench.disk("resync-after r2;")
    reply = bench.adjust()
    assert (reply.exit, reply.sentence) == (
        10,
        "drbd.conf:1: resync-after: no resource 'r2' is configured; there are r0 and r1",
    )
    bench.text = OTHER
    assert "no resource 'r0' is configured" in bench.adjust().sentence
    assert not bench.limits


def test_options_are_changed_by_name_and_taken_back_by_the_file() -> None:
    bench = Bench()
    assert bench.options(c_min_rate="8M", resync_after="r1/0").text == (
        'r0: c-min-rate 8M (was 4M)\nr0: resync-after r1/0 (was "")\n'
    )
    assert "c-min-rate 8M\n" in bench.options().text
    assert bench.options(resync_after="-1").text == 'r0: resync-after "" (was r1/0)\n'
    assert bench.adjust().text == "r0: c-min-rate 4M (was 8M)\n"
    assert bench.limits[-1].min_rate_kib_s == 4096


@pytest.mark.parametrize(
    ("options", "exit_code", "sentence"),
    [
        ({"c_max_rate": "5T"}, 10, "r0: c-max-rate 5T is out of range; it is from 0 to 4194304 KiB/s"),
        (
            {"c_plan_ahead": "soon"},
            10,
            "r0: 'soon' is not a value of c-plan-ahead; it is a number from 0 to 300, in 0.1 s",
        ),
        ({"resync_after": "r7"}, 10, "r0: drbd.conf: no resource 'r7' is configured; there are r0 and r1"),
        ({"resync_after": "r1/x"}, 10, "r0: resync-after is not RESOURCE or RESOURCE/VOLUME"),
        ({"al_extents": "500"}, 1, "disk-options: al-extents cannot be changed while the daemon runs"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, str], exit_code: int, sentence: str) -> None:
    bench = Bench()
    reply = bench.options(**options)
    assert (reply.exit, reply.sentence.partition("; did you")[0]) == (exit_code, sentence)
    assert not bench.limits


def test_a_cycle_among_the_daemons_that_run_is_refused_in_drbds_words() -> None:
    bench = Bench(cycles=True)
    reply = bench.options(resync_after="r1")
    assert (reply.exit, reply.sentence) == (10, "r0: This would cause a resync-after dependency cycle")
    assert not bench.after
    # The file has none: the others are about to be adjusted, too.
    bench.disk("resync-after r1;")
    assert bench.adjust().exit == 0
    assert bench.after == ["r1"]


def test_a_daemon_answers_both_verbs(tmp_path: Path) -> None:
    async def body(node: Node) -> None:
        assert "c-max-rate 1G" in (await node.ask("disk-options", options={}))["text"]
        assert (await node.ask("disk-options", options={"c-max-rate": "10M"}))[
            "text"
        ] == "drbd0: c-max-rate 10M (was 1G)\n"
        assert (await node.ask("disk-options"))["exit"] == 1
        text = node.configuration.read_text()
        node.configuration.write_text(
            text.replace("attach = none", "attach = none\n  net {\n    sync-max = 5M\n  }", 1)
        )
        assert (await node.ask("adjust"))["text"].splitlines() == [
            "drbd0: resync-rate 5M (was 250)",
            "drbd0: c-max-rate 5M (was 10M)",
        ]
        assert (await node.ask("down"))["exit"] == 0

    async def main() -> None:
        node = Node(tmp_path)
        await node.live(lambda: body(node))

    run(main())
