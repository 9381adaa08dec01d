"""The one way in which bytes from the peer can be wrong."""

from __future__ import annotations


class WireError(ValueError):
    """The bytes are not a packet that the protocol allows. The text is one sentence for the log."""
