"""What is wrong with a text that a grammar refused, said as a person would say it, at the line that needs mending."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lark import Token

from pydrbd.config.errors import SYNTAX, ConfigError, Place, shown
from pydrbd.config.layout import Dialect, parents


@dataclass(frozen=True, slots=True)
class _Opened:
    """A section whose closing brace has not come yet."""

    words: tuple[str, ...]
    place: Place

    @property
    def keyword(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def title(self) -> str:
        return " ".join(self.words)


def explain(tokens: Iterable[Token], at: Token, file: str, dialect: Dialect) -> ConfigError:
    """Return the error for a text whose token `at` (`$END` at its end) fits nowhere. `tokens` are all of the text's."""
    layout = parents(dialect)
    opened: list[_Opened] = []
    misplaced: tuple[_Opened, _Opened] | None = None
    pending: list[Token] = []
    for token in tokens:
        if at.type != "$END" and (token.line, token.column) == (at.line, at.column):
            break
        match token.type:
            case "LBRACE":
                start = pending[0] if pending else token
                section = _Opened(tuple(str(word) for word in pending), _place(start, file))
                outer = opened[-1] if opened else None
                if misplaced is None and outer and outer.keyword in layout:
                    allowed = layout.get(section.keyword, (outer.keyword,))
                    misplaced = None if outer.keyword in allowed else (outer, section)
                opened.append(section)
                pending = []
            case "RBRACE":
                opened = opened[:-1]
                pending = []
            case "SEMICOLON" | "KEY_VALUE" | "_NL":
                pending = []
            case _:
                pending.append(token)
    return _sentence(at, pending, _Unclosed(opened, misplaced), file, dialect)


@dataclass(frozen=True, slots=True)
class _Unclosed:
    opened: list[_Opened]
    misplaced: tuple[_Opened, _Opened] | None


def _sentence(at: Token, pending: list[Token], unclosed: _Unclosed, file: str, dialect: Dialect) -> ConfigError:
    here = _place(at, file)
    said = shown(" ".join(str(word) for word in pending))
    if at.type == "UNCLOSED":
        return ConfigError(here, "a quote is not closed on its line", exit_code=SYNTAX)
    if pending and dialect is Dialect.V84:
        last = _place(pending[-1], file)
        hint = "a section's name needs its '{'" if pending[0] in parents(dialect) else ""
        return ConfigError(last, f"';' is missing after {said}", hint, exit_code=SYNTAX)
    if at.type == "$END":
        return _not_closed(unclosed, file)
    if at.type == "RBRACE":
        hint = "one '}' too many, or a '{' is missing above"
        return ConfigError(here, "'}' closes no section", hint, exit_code=SYNTAX)
    if at.type == "LBRACE":
        return ConfigError(here, "'{' opens a section that has no name", exit_code=SYNTAX)
    if at.type == "SEMICOLON":
        return ConfigError(here, "';' ends nothing here", exit_code=SYNTAX)
    return ConfigError(here, f"{shown(at)} is not expected here", exit_code=SYNTAX)


def _not_closed(unclosed: _Unclosed, file: str) -> ConfigError:
    """Return which section lacks its brace.

    Where a section stands in one that cannot hold it, the outer one was most likely meant to be closed before; that
    is a better place to look at than the outermost section, which is what is left open in the end.
    """
    if unclosed.misplaced and unclosed.opened:
        outer, inner = unclosed.misplaced
        hint = f"put it before {shown(inner.title)} on line {inner.place.line}"
        return ConfigError(
            outer.place, f"section {shown(outer.title)} is not closed: '}}' is missing", hint, exit_code=SYNTAX
        )
    if unclosed.opened:
        section = unclosed.opened[-1]
        name = f"section {shown(section.title)}" if section.words else "a section"
        return ConfigError(section.place, f"{name} is not closed: '}}' is missing", exit_code=SYNTAX)
    return ConfigError(Place(file), "the file ends too early", exit_code=SYNTAX)


def _place(token: Token, file: str) -> Place:
    return Place(file, token.line or 0, token.column or 0)
