"""Where the daemon's sentences go: stderr in the foreground (the journal, under systemd), else a file.

One line is one sentence. A decision names its rule. Under the journal, which stamps lines itself, each begins with the
priority that it understands (``<4>``) and carries no time.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from logging.handlers import WatchedFileHandler
from pathlib import Path

_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class _Lines(logging.Formatter):
    """``2026-11-23 10:20:30.123 drbd0 warning: sentence``, UTC."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ {resource} %(levelname)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


class _Journal(logging.Formatter):
    """The journal's form."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>{super().format(record)}"


def set_up(resource: str, log_file: Path | None) -> None:
    """Send the log to the file, or to stderr where there is none. Raises `OSError` if the file cannot be written."""
    if log_file is None:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Journal() if "JOURNAL_STREAM" in os.environ else _Lines(resource))
    else:
        # A log rotated away under us is followed.
        handler = WatchedFileHandler(log_file, encoding="utf-8")
        handler.setFormatter(_Lines(resource))
        fd = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        os.dup2(fd, 2)
        os.close(fd)
    faulthandler.enable()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(os.environ.get("PYDRBD_LOG_LEVEL", "INFO").upper())
