"""Generation identifiers and what the superblock says about them (DRBD 8.4, `drbd_meta_data.h`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag

JUST_CREATED = 4
"""The current identifier of metadata that has never held data (8.4 `UUID_JUST_CREATED`)."""


class Beginning(Enum):
    """How a generation of data began, in the words of 0.6's counters."""

    HUMAN = "human"
    """A person said so: `primary --force`, `primary --human`, `new-current-uuid`."""
    TIMEOUT = "timeout"
    """The first write of a node that was promoted because nobody came in time: `primary --timeout-expired`."""
    CONNECTED = "connected"
    """A Primary lost its peer, or its peer's disk."""
    ARBITRARY = "arbitrary"
    """The first write of a node that was promoted without its peer."""


class MdFlag(IntFlag):
    """Flags of the v08 superblock (8.4 `drbd.h`, `MDF_*`)."""

    CONSISTENT = 1
    PRIMARY_IND = 2
    CONNECTED_IND = 4
    FULL_SYNC = 8
    WAS_UP_TO_DATE = 16
    PEER_OUT_DATED = 32
    CRASHED_PRIMARY = 64
    AL_CLEAN = 128
    AL_DISABLED = 256


@dataclass(frozen=True, slots=True)
class GenerationIds:
    """The four identifiers of one replica, 64 bits each.

    Bit 0 is 8.4's mark "was Primary" and does not take part in comparisons.
    """

    current: int = JUST_CREATED
    bitmap: int = 0
    history0: int = 0
    history1: int = 0
