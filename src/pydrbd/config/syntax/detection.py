"""Which dialect a text is written in, and its statements."""

from __future__ import annotations

import re

from pydrbd.config.errors import SYNTAX, ConfigError, Place
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.dialect06 import read_06
from pydrbd.config.syntax.dialect84 import IncludeReader, read_84
from pydrbd.config.syntax.statements import Section

_QUOTED_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"|#[^\n]*')
_KEY_EQUALS = re.compile(r"\s*(?:[\w-]+\s*\{\s*|[\w-]+\s+[\w.-]+\s*\{\s*)?[\w-]+\s*=")


def detect(text: str) -> Dialect:
    """Return the dialect of `text`: that of the first line that tells.

    A line that begins with ``key =`` is 0.6's, one that has a `;` outside of quotes and comments 8.4's. A text
    without either is 8.4's, where the missing `;` can be named.
    """
    for line in _QUOTED_OR_COMMENT.sub("", text).split("\n"):
        if _KEY_EQUALS.match(line):
            return Dialect.V06
        if ";" in line:
            return Dialect.V84
    return Dialect.V84


def read_statements(text: str, file: str, reader: IncludeReader) -> tuple[Dialect, Section]:
    """Return the dialect of `text` and its statements; `ConfigError` if it cannot be read."""
    if not text.strip():
        raise ConfigError(Place(file), "the file is empty: no resource is configured", exit_code=SYNTAX)
    dialect = detect(text)
    root = read_06(text, file) if dialect is Dialect.V06 else read_84(text, file, reader)
    return dialect, root
