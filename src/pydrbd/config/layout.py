"""Which section may stand in which, and which sections of DRBD have no counterpart here."""

from __future__ import annotations

from enum import Enum


class Dialect(Enum):
    """The two ways to write a configuration."""

    V06 = "0.6"
    V84 = "8.4"


# Keyword of a section -> keywords of the sections that it may stand in; "" is the file itself.
_LAYOUT_06: dict[str, tuple[str, ...]] = {
    "global": ("",),
    "resource": ("",),
    "disk": ("resource",),
    "net": ("resource",),
    "on": ("resource",),
}
_LAYOUT_84: dict[str, tuple[str, ...]] = {
    "global": ("",),
    "common": ("",),
    "resource": ("",),
    "on": ("resource",),
    "volume": ("resource", "on"),
    "disk": ("resource", "common", "volume"),
    "net": ("resource", "common"),
    "options": ("resource", "common"),
    "startup": ("resource", "common"),
    "handlers": ("resource", "common"),
    "syncer": ("resource", "common"),
}
# How many names stand between the keyword and the brace.
NAMES = {"resource": 1, "on": 1, "volume": 1}

UNSUPPORTED = {
    "floating": "name the host: on HOST { address ...; }",
    "stacked-on-top-of": "a resource has two nodes and a real disk on each",
    "connection": "the two nodes connect between the addresses of their 'on' sections",
    "connection-mesh": "a resource has two nodes",
    "path": "the two nodes connect between the addresses of their 'on' sections",
    "proxy": "the connection is direct",
    "peer-device-options": "its options stand in section disk",
}


def parents(dialect: Dialect) -> dict[str, tuple[str, ...]]:
    """Return the layout of a dialect: section -> the sections that it may stand in, "" for the file itself."""
    return _LAYOUT_06 if dialect is Dialect.V06 else _LAYOUT_84


def may_contain(dialect: Dialect, outer: str) -> list[str]:
    """Return the sections that may stand in section `outer`, "" for the file itself."""
    return [keyword for keyword, outers in parents(dialect).items() if outer in outers]
