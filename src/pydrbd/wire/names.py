"""Packet numbers as words, for logs."""

from __future__ import annotations

from pydrbd.model.commands import Command

OPTIONAL_FROM = 0x100
"""Numbers above this one, the handshake's own apart, may be passed over by a node that does not know them (8.4
`P_MAY_IGNORE`)."""


def name_of(number: int) -> str:
    """Return DRBD's name of a packet number without the ``P_``, or the number in hex."""
    try:
        return Command(number).name
    except ValueError:
        return f"{number:#x}"


def is_optional(number: int) -> bool:
    """Whether a node may pass over a packet of this number without understanding it."""
    return OPTIONAL_FROM < number < Command.INITIAL_META
