"""How large a configuration may be, so that no text takes long to refuse."""

LONGEST_TEXT = 1 << 20
"""Bytes of one file, and of all that it includes."""
DEEPEST_SECTION = 8
"""Sections inside one another."""
