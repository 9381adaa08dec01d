"""Small pieces that several packets are made of: struct formats, texts of fixed length, flags that are 0 or 1."""

from __future__ import annotations

import struct

from pydrbd.wire.errors import WireError

U32 = struct.Struct(">I")
I32 = struct.Struct(">i")
U64 = struct.Struct(">Q")
ALGORITHM_BYTES = 64
"""Room for the name of a digest, its NUL included (8.4 `SHARED_SECRET_MAX`)."""


def exactly(payload: bytes, length_bytes: int, name: str) -> None:
    """Raise `WireError` unless the payload has this many bytes."""
    if len(payload) != length_bytes:
        raise WireError(f"a {name} packet has {len(payload)} bytes instead of {length_bytes}")


def text_of(raw: bytes, name: str) -> str:
    """Return the text before the first NUL.

    Raises `WireError` if there is no NUL or what is before it is not printable ASCII.
    """
    text, nul, _rest = raw.partition(b"\0")
    if not nul:
        raise WireError(f"a text in a {name} packet does not end")
    if not all(0x20 < byte < 0x7F for byte in text):
        raise WireError(f"a text in a {name} packet is not a name")
    return text.decode("ascii")


def padded(text: str, length_bytes: int) -> bytes:
    """Return the text with NULs up to a length. Raises `WireError` if it does not fit with one NUL."""
    raw = text.encode("ascii", "replace")
    if len(raw) >= length_bytes:
        raise WireError(f"the name {text!r} is longer than {length_bytes - 1} bytes")
    return raw.ljust(length_bytes, b"\0")


def flag(number: int, what: str) -> bool:
    """Return a number that must be 0 or 1 as bool. Raises `WireError`."""
    if number not in {0, 1}:
        raise WireError(f"the peer says {number} for {what}, which is yes or no")
    return number == 1
