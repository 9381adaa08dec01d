"""The reader of drbd 0.6's dialect: `key = value`, line by line.

In 0.6 everything behind the first `=` of a line is the value, a brace too. A section that is closed, or opened, on
such a line therefore never is; who meets this trap is told so.
"""

from __future__ import annotations

import re

from lark import Token, Tree

from pydrbd.config.errors import SYNTAX, ConfigError, Place, shown
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.reader import read, words_of
from pydrbd.config.syntax.statements import Section, Setting, Word


def read_06(text: str, file: str) -> Section:
    """Return the statements of `text`; `file` is its name for errors. Raise `ConfigError` if it cannot be read."""
    _refuse_swallowed_braces(text, file)
    return read(text, file, Dialect.V06, _word, _settings)


def _refuse_swallowed_braces(text: str, file: str) -> None:
    """Look for the trap first: the grammar would only see that some section, often another one, stays open."""
    for number, line in enumerate(text.split("\n"), start=1):
        data = re.sub(r"(?:^|(?<=\s))#.*", "", line)
        key, equals, value = data.partition("=")
        if not equals:
            continue
        for brace in "{}":
            # Balanced braces are a command's own: fsckcmd = sh -c '{ true; }'.
            if brace in key or value.count("{") != value.count("}"):
                guilty = brace if brace in key else "}" if value.count("}") > value.count("{") else "{"
                place = Place(file, number, line.index(guilty) + 1)
                sentence = f"'{guilty}' on a 'key = value' line is part of the value"
                raise ConfigError(place, sentence, "in the dialect of 0.6 it needs a line of its own", exit_code=SYNTAX)


def _word(token: Token, file: str) -> Word:
    return Word(str(token), Place(file, token.line or 0, token.column or 0))


def _settings(tree: Tree[Token], file: str) -> list[Setting]:
    if tree.data == "flags":
        return [Setting(word, ()) for word in words_of(tree, file, _word)]
    return [_key_value(token, file) for token in tree.children if isinstance(token, Token)]


def _key_value(token: Token, file: str) -> Setting:
    before, _, after = token.partition("=")
    key, value = before.strip(), after.strip()
    column = token.column or 0
    key_place = Place(file, token.line or 0, column + len(before) - len(before.lstrip()))
    value_place = Place(file, token.line or 0, column + len(token) - len(after.lstrip()))
    if not key:
        raise ConfigError(key_place, "'=' without a key before it", exit_code=SYNTAX)
    if not value:
        raise ConfigError(key_place, f"{shown(key)} has no value after '='", exit_code=SYNTAX)
    if value.endswith(";"):
        sentence = f"';' at the end of {shown(f'{key} = {value}')} is part of the value"
        hint = "write 'key = value' (0.6) or 'key value;' (8.4), the same all over the file"
        raise ConfigError(value_place, sentence, hint, exit_code=SYNTAX)
    return Setting(Word(key, key_place), (Word(value, value_place),))
