"""The dialogues of `tests/golden/dialogues`: captured packets, one object per line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydrbd.model.commands import Command

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "dialogues"
CONTROL = frozenset(
    {
        Command.PROTOCOL,
        Command.SYNC_PARAM89,
        Command.SIZES,
        Command.UUIDS,
        Command.STATE,
        Command.SYNC_UUID,
        Command.STATE_CHG_REQ,
        Command.STATE_CHG_REPLY,
        Command.CONN_ST_CHG_REQ,
        Command.CONN_ST_CHG_REPLY,
    }
)
"""The packets that the rules send."""
FIRST = frozenset(
    {
        Command.INITIAL_DATA,
        Command.INITIAL_META,
        Command.CONNECTION_FEATURES,
        Command.AUTH_CHALLENGE,
        Command.AUTH_RESPONSE,
    }
)
"""The packets before them."""
_LINE = re.compile(
    r"\s*(?P<seconds>[\d.]+) (?P<sender>\S+) +(?P<socket>\S+) +(?P<header>\S+) +vol=\S+ (?P<name>\S+) +"
    r"len=(?P<length>\d+) *(?P<hex>[0-9a-f ]*)(?P<cut>\.\.\.)?"
)


@dataclass(frozen=True)
class Captured:
    """One captured packet; `payload` is cut for the hot ones."""

    seconds: float
    sender: str
    socket: str
    header: str
    command: Command
    length: int
    payload: bytes


def dialogue(name: str) -> list[Captured]:
    """Return the packets of a dialogue, e.g. ``01-first-connect``."""
    found = []
    for text in (FOLDER / f"{name}.packets").read_text(encoding="utf-8").splitlines():
        match = _LINE.match(text)
        if match is not None:
            found.append(
                Captured(
                    float(match["seconds"]),
                    match["sender"],
                    match["socket"],
                    match["header"],
                    Command[match["name"]],
                    int(match["length"]),
                    bytes.fromhex(match["hex"]),
                )
            )
    return found


def names() -> list[str]:
    """Return the names of all dialogues."""
    return sorted(path.stem for path in FOLDER.glob("*.packets"))


def said_by(name: str, sender: str) -> list[tuple[Command, bytes]]:
    """Return what the rules of one node would have said in a dialogue, in order."""
    return [
        (each.command, each.payload) for each in dialogue(name) if each.sender == sender and each.command in CONTROL
    ]


def identifiers(name: str, section: int = -1) -> list[tuple[int, int, int, int]]:
    """Return castor's and pollux's identifiers as `drbdadm get-gi` printed them; `section` counts the times it did."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    printed = re.findall(r"^([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16}):[01:]+", text, re.MULTILINE)
    pairs = [
        [tuple(int(each, 16) for each in line) for line in printed[at : at + 2]] for at in range(0, len(printed), 2)
    ]
    return pairs[section]  # type: ignore[return-value]
