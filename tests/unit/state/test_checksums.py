"""A resync by checksums, as the rules order it: when, and what is said of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from helpers.transcript import said_by
from pydrbd.model import effects
from pydrbd.model.commands import Command
from pydrbd.model.events import Connect, Invalidate, Promote, ResyncDone
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import SyncParam
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def make_pair(**options: object) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    both = []
    for name in ("castor", "pollux"):
        disk = Disk(64, [0] * 8, GenerationIds(0x10), GOOD, 64)
        both.append(Node(name, disk, Options(node_name=name, **options), uuids))  # type: ignore[arg-type]
    pair = ResourcePair(*both)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.run()
    pair.castor.command(Promote)
    pair.run()
    return pair


def starts(node: Node) -> list[effects.StartResync]:
    return [effect for effect in node.performed if isinstance(effect, effects.StartResync)]


@pytest.mark.parametrize(
    ("csums_alg", "after_crash_only", "crashed", "by_checksums"),
    [
        ("", False, True, False),
        ("sha1", False, False, True),
        ("sha1", True, False, False),
        ("sha1", True, True, True),
    ],
)
def test_the_target_asks_by_checksums(
    csums_alg: str, after_crash_only: bool, crashed: bool, by_checksums: bool
) -> None:
    pair = make_pair(sync=SyncParam(250, csums_alg=csums_alg), csums_after_crash_only=after_crash_only)
    pair.pollux.state = replace(pair.pollux.state, crashed_primary=crashed)
    pair.pollux.command(Invalidate)
    pair.run()
    assert starts(pair.pollux) == [effects.StartResync(target=True, by_checksums=by_checksums)]
    assert starts(pair.castor) == [effects.StartResync(target=False)]


def test_both_say_what_two_kernels_said() -> None:
    pair = make_pair(sync=SyncParam(250, csums_alg="crc32c"))
    for each in pair.nodes:
        each.sent.clear()
    pair.pollux.command(Invalidate)
    pair.run()
    for each in pair.nodes:
        ours = [Command(command) for _, command, _ in each.sent]
        assert ours == [command for command, _ in said_by("12-csums-resync", each.name)]


@pytest.mark.parametrize(("percent", "said"), [(99, ["99 % had equal checksums, eliminated: 400K"]), (-1, [])])
def test_how_much_was_equal_is_said(percent: int, said: list[str]) -> None:
    pair = make_pair(sync=SyncParam(250, csums_alg="crc32c"))
    pair.pollux.command(Invalidate)
    while not starts(pair.pollux):
        pair.deliver(*pair.deliverable()[0])
    pair.pollux.post(ResyncDone(0, 100, percent))
    assert [each.sentence for each in pair.pollux.said if each.rule == "resync-equal-checksums"] == said


def test_how_much_was_discarded_is_said() -> None:
    pair = make_pair()
    pair.pollux.command(Invalidate)
    while not starts(pair.pollux):
        pair.deliver(*pair.deliverable()[0])
    pair.pollux.post(ResyncDone(0, thin_bits=16))
    (said,) = [each.sentence for each in pair.pollux.said if each.rule == "resync-thin"]
    assert said == "64K were zeroes: discarded, not sent"
