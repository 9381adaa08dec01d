"""Text -> description, the whole way; files that it includes come from a reader that is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydrbd.config.description import Configuration
from pydrbd.config.resources import read_configuration

if TYPE_CHECKING:
    from pydrbd.config.syntax.dialect84 import IncludeReader


def no_includes(pattern: str, file: str) -> Sequence[tuple[str, str]]:
    """Refuse to read any file: the reader for a text that is all there is."""
    raise OSError(f"{file or 'this text'} stands alone, {pattern} cannot be read from it")


def parse(text: str, file: str = "drbd.conf", reader: IncludeReader = no_includes) -> Configuration:
    """Return what `text` says, in either dialect; `file` is its name in errors. Raise `ConfigError`, nothing else."""
    # Only now: the grammars take longer to import than most commands, which need no file, take to run.
    from pydrbd.config.syntax.detection import read_statements  # noqa: PLC0415

    dialect, root = read_statements(text, file, reader)
    return read_configuration(root, dialect, file)
