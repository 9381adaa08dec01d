"""The compiled core, loaded, and its return codes.

The only module of the project that imports `pydrbd.core._core`. `Any` is tolerated here and in the calls made through
`Binding`, because cffi's objects have no types; everything that leaves the room is typed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Binding:
    """cffi's two objects: `ffi` makes C values, `lib` has the functions and constants of `core_api.h`."""

    ffi: Any
    lib: Any


def load() -> Binding:
    """Load the compiled core. Raises `ImportError`, with the command that builds it, when it is not there."""
    try:
        core = import_module("pydrbd.core._core")
    except ImportError as error:
        message = (
            f"the compiled core of pydrbd is missing or does not fit this Python ({error}); build it with `make build`"
        )
        raise ImportError(message) from error
    return Binding(core.ffi, core.lib)


def check(result: int, what: str) -> int:
    """Return `result` if it is not negative; raise `OSError` with errno ``-result``, otherwise."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
    return result
