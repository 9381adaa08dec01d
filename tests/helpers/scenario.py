"""Scenarios as text: a command, `----`, what both nodes said and answered. Played on `ResourcePair`.

Commands (one per line; NODE is castor or pollux):

    start fresh|synced [OPTION=VALUE ...]    two nodes with new disks, or with good ones that are equal; connected
    NODE primary|secondary|connect|disconnect|invalidate|invalidate-remote|outdate|pause-sync|resume-sync
         |new-current-uuid|down [force|discard-my-data|tentative|clear-bitmap]
    NODE write BLOCK VALUE                   through the export
    NODE kill                                kill -9; NODE up starts it again
    NODE up
    NODE disk-fails OPERATION
    NODE barrier                             what the peer has acknowledged is stable there
    cut                                      both lose the connection, and what is on its way
    deliver N                                N things arrive, acknowledgements first
    settle                                   until nothing moves any more
    show                                     both nodes' words, identifiers, marked blocks and data
"""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import Any

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.model import events
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.policies import AfterSplitBrain, OnIoError, RrConflict, WireProtocol
from pydrbd.model.states import DiskState
from pydrbd.state.node_state import Options

BLOCKS = 8
GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
COMMANDS: dict[str, tuple[type, dict[str, Any]]] = {
    "primary": (events.Promote, {}),
    "secondary": (events.Demote, {}),
    "connect": (events.Connect, {}),
    "disconnect": (events.Disconnect, {}),
    "invalidate": (events.Invalidate, {}),
    "invalidate-remote": (events.Invalidate, {"peer": True}),
    "outdate": (events.Outdate, {}),
    "pause-sync": (events.PauseSync, {"paused": True}),
    "resume-sync": (events.PauseSync, {"paused": False}),
    "new-current-uuid": (events.NewCurrentUuid, {}),
    "down": (events.Down, {}),
}
KINDS = {
    "wire_protocol": WireProtocol.__getitem__,
    "after_sb_0pri": AfterSplitBrain.from_word,
    "after_sb_1pri": AfterSplitBrain.from_word,
    "after_sb_2pri": AfterSplitBrain.from_word,
    "rr_conflict": RrConflict,
    "on_io_error": OnIoError,
}


class Scenario:
    """One file being played."""

    def __init__(self) -> None:
        self.pair = ResourcePair(_node("castor", {}, fresh=True), _node("pollux", {}, fresh=True))
        self.heard = {"castor": 0, "pollux": 0}

    def play(self, line: str) -> str:
        """Run one command; return what was said, or what is shown."""
        words = shlex.split(line)
        tokens = [(each, each.tokens) for each in self.pair.nodes]
        match words:
            case ["start", kind, *options]:
                self._start(kind, options)
                tokens = []
            case ["cut"]:
                self.pair.cut()
            case ["deliver", number]:
                self._deliver(int(number))
            case ["settle"]:
                self.pair.run()
            case ["show"]:
                return "".join(_shown(each) for each in self.pair.nodes)
            case [name, *rest] if name in self.heard:
                self._order(self.pair.castor if name == "castor" else self.pair.pollux, rest)
            case _:
                raise ValueError(f"no such command: {line}")
        return self._said() + "".join(_answers(each, before) for each, before in tokens)

    def _start(self, kind: str, words: list[str]) -> None:
        fields: dict[str, dict[str, Any]] = {"castor": {}, "pollux": {}}
        for word in words:
            name, _, value = word.partition("=")
            who, _, key = name.rpartition(".")
            key = key.replace("-", "_")
            for node in [who] if who else fields:
                fields[node][key] = KINDS[key](value) if key in KINDS else int(value)
        self.pair = ResourcePair(*(_node(name, fields[name], fresh=kind == "fresh") for name in fields))
        self.heard = dict.fromkeys(self.heard, 0)
        for each in self.pair.nodes:
            each.attach()
            each.command(events.Connect)
        self.pair.run()

    def _order(self, node: Node, words: list[str]) -> None:
        match words:
            case ["write", block, value]:
                if not node.write(int(block), int(value)):
                    raise ValueError(f"{node.name} has no export to write to")
            case ["kill"]:
                self.pair.crash(node)
            case ["up"]:
                if node.exited:
                    node.reset()
                node.attach()
                node.command(events.Connect)
            case ["disk-fails", operation]:
                node.post(events.DiskFailed(operation, 8, 5, next(node.uuids)))
            case ["barrier"]:
                node.barrier()
            case [verb, *flags]:
                kind, fixed = COMMANDS[verb]
                given = {flag.replace("-", "_"): True for flag in flags}
                if kind is events.NewCurrentUuid:
                    given["new_uuid"] = next(node.uuids)
                node.command(kind, **fixed, **given)

    def _deliver(self, number: int) -> None:
        for _ in range(number):
            ready = self.pair.deliverable()
            if ready:
                self.pair.deliver(*max(ready, key=lambda found: found[1].value))
            elif self.pair.may_connect():
                self.pair.connect()

    def _said(self) -> str:
        lines = []
        for each in self.pair.nodes:
            new = each.said[self.heard[each.name] :]
            self.heard[each.name] = len(each.said)
            lines += [f"{each.name}: {said.sentence} ({said.rule})\n" for said in new if said.level >= 20]
        return "".join(lines)


def _node(name: str, fields: dict[str, Any], *, fresh: bool) -> Node:
    peer = "pollux" if name == "castor" else "castor"
    sectors = fields.pop("sectors", BLOCKS * 8)
    if fresh:
        disk = Disk(sectors, [0] * BLOCKS, bits=set(range(BLOCKS)))
    else:
        disk = Disk(sectors, [0] * BLOCKS, GenerationIds(0x10, 0, 0x20, 0x30), GOOD, BLOCKS * 8)
    uuids = itertools.count(0xA000 if name == "castor" else 0xB000, 0x10)
    return Node(name, disk, Options(resource="drbd0", node_name=name, peer_name=peer, **fields), uuids)


def _answers(node: Node, before: int) -> str:
    lines = []
    for token in range(before + 1, node.tokens + 1):
        sentences = [each.refusal.sentence if each.refusal else "done" for each in node.answers[token]]
        lines += [f"{node.name} answers: {sentence}\n" for sentence in sentences]
        if not node.answers[token]:
            lines.append(f"{node.name} has not answered yet\n")
    return "".join(lines)


def _shown(node: Node) -> str:
    state = node.state
    ids = node.disk.ids
    words = f"{state.role} {state.disk} {state.connection} {state.replication} peer:{state.peer_role}/{state.peer_disk}"
    names = " ".join(f"{each:X}" for each in (ids.current, ids.bitmap, ids.history0, ids.history1))
    bits = node.bits if state.has_disk else node.disk.bits
    marked = " ".join(map(str, sorted(bits))) or "none"
    data = " ".join(map(str, node.disk.blocks))
    worth = "" if state.disk >= DiskState.INCONSISTENT else " (not attached)"
    return f"{node.name}: {words}\n  ids {names}, marked {marked}\n  data {data}{worth}\n"


def played(text: str) -> str:
    """Play a scenario's text; return it with the output that came out."""
    scenario = Scenario()
    parts = []
    for block in text.split("\n\n"):
        lines = block.strip("\n").split("\n")
        comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
        commands = list(itertools.takewhile(lambda line: line != "----", lines[len(comments) :]))
        if not commands:
            parts.append("\n".join(comments))
            continue
        output = "".join(scenario.play(line) for line in commands)
        parts.append("\n".join([*comments, *commands, "----", output.rstrip("\n") or "ok"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def files(folder: Path) -> list[Path]:
    """Return the scenarios of a folder."""
    return sorted(folder.glob("*.txt"))
