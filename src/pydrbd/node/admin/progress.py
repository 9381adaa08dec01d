"""How far a resync is, how fast, and how long it takes yet, from the number of bits that are set now and then.

As `drbdsetup` computes it: the speed is that of the last seconds, the time left what that speed needs for the rest.
Takes time as an argument; units are sectors of 512 bytes and milliseconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SAMPLE_MS = 1000
WINDOW_MS = 10_000
SECTORS_PER_BIT = 8
MIB_SECTORS = 2048


@dataclass(frozen=True, slots=True)
class Sample:
    """What was left at a moment."""

    at_ms: int
    left_sectors: int


class Progress:
    """One resync. Begin a new object for the next one."""

    def __init__(self, now_ms: int, left_bits: int) -> None:
        """`left_bits` is what has to be copied."""
        self.total_sectors = left_bits * SECTORS_PER_BIT
        self.begun_ms = now_ms
        self._samples = deque([Sample(now_ms, self.total_sectors)])

    def sample(self, now_ms: int, left_bits: int) -> None:
        """Take what is left now. Writes of the application can make it more than it was."""
        left = left_bits * SECTORS_PER_BIT
        self.total_sectors = max(self.total_sectors, left)
        last = self._samples[-1]
        if now_ms - last.at_ms < SAMPLE_MS and len(self._samples) > 1:
            return
        self._samples.append(Sample(now_ms, left))
        while len(self._samples) > 2 and now_ms - self._samples[1].at_ms > WINDOW_MS:
            self._samples.popleft()

    def recent(self, now_ms: int, left_bits: int) -> tuple[int, int]:
        """Return (milliseconds, sectors copied) of the last seconds."""
        first = self._samples[0]
        return now_ms - first.at_ms, first.left_sectors - left_bits * SECTORS_PER_BIT

    def whole(self, now_ms: int, left_bits: int) -> tuple[int, int]:
        """Return (milliseconds, sectors copied) since it began."""
        return now_ms - self.begun_ms, self.total_sectors - left_bits * SECTORS_PER_BIT

    def percent_done(self, left_bits: int) -> float:
        """Return how much is done, 0 to 100."""
        if self.total_sectors == 0:
            return 100.0
        return 100.0 * (self.total_sectors - left_bits * SECTORS_PER_BIT) / self.total_sectors

    def seconds_left(self, now_ms: int, left_bits: int) -> float | None:
        """Return how long it takes yet at the present speed; None while nothing moves."""
        duration_ms, sectors = self.recent(now_ms, left_bits)
        if left_bits == 0:
            return 0.0
        return left_bits * SECTORS_PER_BIT * duration_ms / sectors / 1000 if sectors > 0 else None


def mib_per_s(duration_ms: int, sectors: int) -> float:
    """Return the speed in MiB/s; of no time at all it is that of a millisecond."""
    return sectors / (duration_ms or 1) * 1000 / MIB_SECTORS
