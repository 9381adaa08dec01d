"""The one module of this room that opens files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from pydrbd.config.description import Configuration
from pydrbd.config.errors import SYNTAX, ConfigError, Place, shown
from pydrbd.config.syntax.limits import LONGEST_TEXT
from pydrbd.config.text import parse


def load(path: Path) -> Configuration:
    """Return what the file at `path`, and what it includes, says. Raise `ConfigError`, also if it cannot be read."""
    try:
        text = _text(path)
    except OSError as error:
        raise ConfigError(Place(str(path)), f"cannot read the configuration: {error.strerror or error}") from None
    return parse(text, str(path), read_included)


def read_included(pattern: str, file: str) -> Sequence[tuple[str, str]]:
    """Return name and text of each file that `pattern` names, sorted by name; relative ones beside `file`.

    A pattern with wildcards may match nothing (an empty /etc/drbd.d); a plain name that is not there raises `OSError`.
    """
    folder = str(Path(file).parent)
    if glob.has_magic(pattern):
        # Not Path.glob: it would also match hidden files, such as an editor's lock beside the file it edits.
        names = sorted(glob.glob(str(Path(glob.escape(folder)) / pattern)))  # noqa: PTH207
    else:
        names = [str(Path(folder) / pattern)]
    return [(name, _text(Path(name))) for name in names]


def _text(path: Path) -> str:
    """Return a file's text, but no more of it than a configuration can have: it may be a device without end."""
    with path.open("rb") as stream:
        data = stream.read(LONGEST_TEXT + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = Place(str(path), data.count(b"\n", 0, error.start) + 1)
        raise ConfigError(place, f"{shown(path.name)} is not a text in UTF-8", exit_code=SYNTAX) from None
