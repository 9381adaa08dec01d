"""What both dialects are read into: settings and sections, with the place of every word. It knows no key's meaning."""

from __future__ import annotations

from dataclasses import dataclass

from pydrbd.config.errors import Place


@dataclass(frozen=True, slots=True)
class Word:
    """One word, unquoted; `quoted` says that it was written in double quotes."""

    text: str
    place: Place
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """``key value ...;`` or ``key = value``. A bare key has no values."""

    key: Word
    values: tuple[Word, ...]

    @property
    def place(self) -> Place:
        """Return where the key stands."""
        return self.key.place


@dataclass(frozen=True, slots=True)
class Section:
    """``keyword name ... { ... }``. The file itself is a section without a keyword."""

    keyword: Word
    names: tuple[Word, ...]
    body: tuple[Setting | Section, ...]

    @property
    def place(self) -> Place:
        """Return where the keyword stands."""
        return self.keyword.place

    @property
    def title(self) -> str:
        """Return the section as a person calls it: ``on castor``."""
        return " ".join([self.keyword.text, *(name.text for name in self.names)])

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Return the settings of the body, in order."""
        return tuple(statement for statement in self.body if isinstance(statement, Setting))

    @property
    def sections(self) -> tuple[Section, ...]:
        """Return the sections of the body, in order."""
        return tuple(statement for statement in self.body if isinstance(statement, Section))
