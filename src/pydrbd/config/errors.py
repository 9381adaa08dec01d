"""What is wrong with a configuration, where, and what would mend it.

Everything that this room refuses is a `ConfigError`; nothing else leaves it, whatever the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

SYNTAX = 2
INVALID = 10


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in a file. Lines and columns count from 1; 0 is the whole file, an empty `file` no file at all."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        """Return ``drbd.conf:7``, the form editors jump to."""
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE = Place()


class ConfigError(Exception):
    """One sentence for the user, with file and line where there are any, and drbdadm's exit code.

    `exit_code` is 2 where the text cannot be read as a configuration, 10 where what it says is not valid
    (drbdadm, `E_SYNTAX` and `E_CONFIG_INVALID`).
    """

    def __init__(self, place: Place, sentence: str, hint: str = "", *, exit_code: int = INVALID) -> None:
        super().__init__(place, sentence, hint)
        self.place = place
        self.sentence = sentence
        self.hint = hint
        self.exit_code = exit_code

    @property
    def file(self) -> str:
        """Return the file's name as it was given, empty if there is none."""
        return self.place.file

    @property
    def line(self) -> int:
        """Return the line, counted from 1; 0 for the file as a whole."""
        return self.place.line

    @property
    def column(self) -> int:
        """Return the column, counted from 1; 0 if unknown."""
        return self.place.column

    def __str__(self) -> str:
        """Return ``drbd.conf:7: unknown key 'protokol' in resource drbd0; did you mean 'protocol'?``."""
        text = f"{self.sentence}; {self.hint}" if self.hint else self.sentence
        place = str(self.place)
        return f"{place}: {text}" if place else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'protocol'?`` for the nearest known word, or nothing if none is near."""
    # Very long words cannot be misspelt keys, and comparing them takes time that grows with the square of their length.
    near = get_close_matches(word[:64], list(known), n=1) if len(word) <= 64 else []
    return f"did you mean '{near[0]}'?" if near else ""


def shown(text: str, longest: int = 60) -> str:
    """Return text of a file in single quotes, fit for one line on a terminal: nothing unprintable, not too long."""
    clear = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"'{clear}'" if len(clear) <= longest else f"'{clear[: longest - 3]}...'"


def listed(words: Iterable[str], last: str = "and") -> str:
    """Return the words as a person writes a list: ``A, B or C``."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else "none"
