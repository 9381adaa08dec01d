"""Choices that an administrator wrote down beforehand, in DRBD's words; numbers are 8.4's, where they travel."""

from __future__ import annotations

from enum import Enum, IntEnum


class WireProtocol(IntEnum):
    """When a write counts as done."""

    A = 1
    B = 2
    C = 3


class AfterSplitBrain(IntEnum):
    """`after-sb-0pri`, `after-sb-1pri` and `after-sb-2pri`."""

    DISCONNECT = 0
    DISCARD_YOUNGER_PRIMARY = 1
    DISCARD_OLDER_PRIMARY = 2
    DISCARD_ZERO_CHANGES = 3
    DISCARD_LEAST_CHANGES = 4
    DISCARD_LOCAL = 5
    DISCARD_REMOTE = 6
    CONSENSUS = 7
    DISCARD_SECONDARY = 8
    CALL_PRI_LOST_AFTER_SB = 9
    VIOLENTLY_AS0P = 10

    @property
    def word(self) -> str:
        """Return the word of `drbd.conf`, e.g. ``discard-zero-changes``."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def from_word(cls, word: str) -> AfterSplitBrain:
        """Return the policy of a word of `drbd.conf`. Raises `KeyError`."""
        return cls[word.upper().replace("-", "_")]

    @property
    def mirrored(self) -> AfterSplitBrain:
        """Return the same policy as the peer has to name it."""
        match self:
            case AfterSplitBrain.DISCARD_LOCAL:
                return AfterSplitBrain.DISCARD_REMOTE
            case AfterSplitBrain.DISCARD_REMOTE:
                return AfterSplitBrain.DISCARD_LOCAL
            case _:
                return self


class RrConflict(Enum):
    """`rr-conflict`: the identifiers make us target although we are Primary."""

    DISCONNECT = "disconnect"
    CALL_PRI_LOST = "call-pri-lost"
    VIOLENTLY = "violently"


class Fencing(Enum):
    """`fencing`."""

    DONT_CARE = "dont-care"
    RESOURCE_ONLY = "resource-only"
    RESOURCE_AND_STONITH = "resource-and-stonith"


class ReadBalancing(Enum):
    """`read-balancing`: which of two good disks a read is served from (`enum core_read_balancing`)."""

    PREFER_LOCAL = 0
    PREFER_REMOTE = 1
    ROUND_ROBIN = 2
    LEAST_PENDING = 3
    WHEN_CONGESTED_REMOTE = 4
    STRIPING_32K = 5
    STRIPING_64K = 6
    STRIPING_128K = 7
    STRIPING_256K = 8
    STRIPING_512K = 9
    STRIPING_1M = 10

    @classmethod
    def from_word(cls, word: str) -> ReadBalancing:
        """Return the policy that the configuration names, e.g. `32K-striping`."""
        size, _, striping = word.partition("-")
        name = f"striping-{size}" if striping == "striping" else word
        return cls[name.upper().replace("-", "_")]


class OnNoData(Enum):
    """`on-no-data-accessible`."""

    IO_ERROR = "io-error"
    SUSPEND_IO = "suspend-io"


class OnCongestion(Enum):
    """`on-congestion`."""

    BLOCK = "block"
    PULL_AHEAD = "pull-ahead"
    DISCONNECT = "disconnect"


class OnIoError(Enum):
    """`on-io-error`."""

    DETACH = "detach"
    PASS_ON = "pass_on"  # noqa: S105
    CALL_LOCAL_IO_ERROR = "call-local-io-error"
