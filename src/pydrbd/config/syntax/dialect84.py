"""The reader of the dialect of drbd 8.4 and 9: `key value;`, quoted strings, `skip`, and `include`.

It opens no file: what an `include` names comes from a reader that is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from lark import Token, Tree

from pydrbd.config.errors import SYNTAX, ConfigError, Place, shown
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.reader import read, words_of
from pydrbd.config.syntax.statements import Section, Setting, Word

DEEPEST_INCLUDE = 8

# (pattern, file that includes) -> (name, text) of each file that the pattern names, in order. It may raise `OSError`.
IncludeReader = Callable[[str, str], Sequence[tuple[str, str]]]


def read_84(text: str, file: str, reader: IncludeReader) -> Section:
    """Return the statements of `text` with those of the files that it includes in their place.

    `file` is its name for errors and what relative includes are relative to. Raise `ConfigError` if it is not of this
    dialect, or an include cannot be read.
    """
    return _with_includes(text, file, reader, ())


def _with_includes(text: str, file: str, reader: IncludeReader, above: tuple[str, ...]) -> Section:
    root = read(text, file, Dialect.V84, _word, _settings)
    body: list[Setting | Section] = []
    for statement in root.body:
        if isinstance(statement, Setting) and statement.key.text == "include":
            body.extend(_included(statement, file, reader, (*above, file)))
        else:
            body.append(statement)
    return replace(root, body=tuple(body))


def _included(setting: Setting, file: str, reader: IncludeReader, above: tuple[str, ...]) -> list[Setting | Section]:
    if len(setting.values) != 1:
        raise ConfigError(setting.place, "include takes one file name or pattern, in quotes", exit_code=SYNTAX)
    pattern = setting.values[0].text
    try:
        found = reader(pattern, file)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(setting.place, f"cannot include {shown(pattern)}: {reason}") from None
    statements: list[Setting | Section] = []
    for name, text in found:
        if name in above or len(above) > DEEPEST_INCLUDE:
            raise ConfigError(setting.place, f"{shown(name)} includes itself", exit_code=SYNTAX)
        statements.extend(_with_includes(text, name, reader, above).body)
    return statements


def _word(token: Token, file: str) -> Word:
    place = Place(file, token.line or 0, token.column or 0)
    if token.type == "STRING":
        return Word(re.sub(r"\\(.)", r"\1", token[1:-1]), place, quoted=True)
    return Word(str(token), place)


def _settings(tree: Tree[Token], file: str) -> list[Setting]:
    key, *values = words_of(tree, file, _word)
    return [Setting(key, tuple(values))]
