"""The books of a resource's generations: which of them began on this node, in which way, and when.

The counters are those that administrators of 0.6 know (human, timeout, connected, arbitrary); there they decided who
was right, here the generation identifiers do, and the books are only for people to read. They are a small JSON file
in the state directory, replaced whole. What cannot be read is put aside; what cannot be written is said in the log and
never stops a write.
"""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydrbd.model.generation import Beginning

log = logging.getLogger(__name__)

GENERATIONS_MAX = 32
_VERSION = 1


def books_path(state_dir: Path, resource: str) -> Path:
    """Return where the books of a resource are."""
    return state_dir / f"{resource}.generations.json"


def for_people(unix_s: float) -> str:
    """Return a time as it is shown."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


@dataclass(frozen=True, slots=True)
class Entry:
    """One generation that began here. `current` is its identifier without the mark "was Primary"."""

    current: int
    way: Beginning
    unix_s: float


@dataclass(slots=True)
class GenerationBooks:
    """The books in memory; every change is written at once."""

    path: Path
    counts: dict[Beginning, int] = field(default_factory=lambda: dict.fromkeys(Beginning, 0))
    entries: list[Entry] = field(default_factory=list)
    split_brain_since: float | None = None
    """When the split brain that stands now was first seen, even by an earlier process."""

    @classmethod
    def open(cls, path: Path, *, writable: bool = True) -> GenerationBooks:
        """Read the books, or begin them. Raises nothing for what is in the file.

        `writable`: what cannot be read is put aside, so that it is not overwritten.
        """
        books = cls(path)
        try:
            books._read(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read (%s); the books begin anew", path, error)
            books = cls(path)
            if writable:
                books._put_aside()
        return books

    def _put_aside(self) -> None:
        try:
            self.path.replace(self.path.with_suffix(".unreadable"))
        except OSError as error:
            log.warning("%s cannot be put aside: %s", self.path, error.strerror)

    def _read(self, data: dict[str, Any]) -> None:
        if data["version"] != _VERSION:
            raise ValueError(f"version {data['version']}")
        self.counts = {way: int(data["counters"][way.value]) for way in Beginning}
        self.entries = [
            Entry(int(each["current"], 16), Beginning(each["way"]), float(each["since"]))
            for each in data["generations"]
        ]
        since = data["split-brain-since"]
        self.split_brain_since = None if since is None else float(since)

    def begun(self, current: int, way: Beginning, unix_s: float) -> None:
        """Enter a generation."""
        self.counts[way] += 1
        self.entries = [*self.entries, Entry(current & ~1, way, unix_s)][-GENERATIONS_MAX:]
        self._write()

    def split_brain(self, unix_s: float) -> float:
        """Enter that there is one; return since when."""
        if self.split_brain_since is None:
            self.split_brain_since = unix_s
            self._write()
        return self.split_brain_since

    def healed(self) -> None:
        """Enter that there is none any more."""
        if self.split_brain_since is not None:
            self.split_brain_since = None
            self._write()

    def last(self, way: Beginning) -> float | None:
        """Return when a generation began in this way for the last time, as far as is remembered."""
        return max((each.unix_s for each in self.entries if each.way is way), default=None)

    def _write(self) -> None:
        data = {
            "version": _VERSION,
            "counters": {way.value: count for way, count in self.counts.items()},
            "generations": [
                {"current": f"{each.current:016X}", "way": each.way.value, "since": each.unix_s}
                for each in self.entries
            ],
            "split-brain-since": self.split_brain_since,
        }
        new = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w", encoding="utf-8") as file:
                json.dump(data, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror)

    def text(self) -> str:
        """Return what `show-gi` shows of them."""
        lines = ["Generations that began on this node, by 0.6's counters:"]
        for way, count in self.counts.items():
            last = self.last(way)
            lines.append(f"  {way.value:<10}{count:>6}" + (f"  last {for_people(last)}" if last else ""))
        if self.entries:
            lines.append("Newest first:")
            lines += [
                f"  {each.current:016X}  {each.way.value:<10} since {for_people(each.unix_s)}"
                for each in reversed(self.entries)
            ]
        return "\n".join(lines) + "\n"
