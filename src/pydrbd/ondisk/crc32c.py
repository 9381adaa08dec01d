"""CRC-32C as the activity log uses it: Castagnoli's polynomial, reflected, seed 0, nothing inverted.

The kernel's `crc32c(0, block, 4096)` inverts neither the seed nor the result, so this is not the usual CRC-32C
of iSCSI or ext4 (there both are inverted; `core_crc32c` computes that one).

`crcmod` builds a C extension when it finds a compiler and falls back to pure Python without a word. The answers are
the same, a hundred times slower: `crc_extension_in_use` tells, so that those who start something can say it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

import crcmod

POLYNOMIAL = 0x11EDC6F41


@cache
def _function(seed: int, inverted: int) -> Callable[[bytes], int]:
    function: Callable[[bytes], int] = crcmod.mkCrcFun(POLYNOMIAL, initCrc=seed, rev=True, xorOut=inverted)
    return function


def crc32c_kernel(data: bytes) -> int:
    """Return the checksum of an activity log block whose checksum field is zero (`libcrc32c`, seed 0)."""
    return _function(0, 0)(data)


def crc32c(data: bytes) -> int:
    """Return the usual CRC-32C, seed and result inverted: 0xe3069283 for b"123456789"."""
    return _function(0, 0xFFFFFFFF)(data)


def crc_extension_in_use() -> bool:
    """Tell whether crcmod runs its C extension."""
    return bool(import_module("crcmod.crcmod")._usingExtension)  # noqa: SLF001 - it has no public name
