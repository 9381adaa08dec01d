"""How two nodes came to differ, and who must lose: what the manual promises of the after-split-brain policies.

Written down a second time, in words and not in the code's terms, for the tests of the rules and of real daemons.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

NO_PRIMARY = (
    "disconnect",
    "discard-younger-primary",
    "discard-older-primary",
    "discard-zero-changes",
    "discard-least-changes",
    "discard-node-castor",
    "discard-node-pollux",
)
ONE_PRIMARY = ("disconnect", "consensus", "violently-as0p", "discard-secondary", "call-pri-lost-after-sb")
TWO_PRIMARIES = ("disconnect", "violently-as0p", "call-pri-lost-after-sb")
FIRST = (None, "castor", "pollux")
WROTE = ((1, 3), (2, 2), (0, 2))


@dataclass(frozen=True)
class Story:
    """How two nodes came to differ, and what their configuration says about it."""

    after_sb_0pri: str = "disconnect"
    after_sb_1pri: str = "disconnect"
    after_sb_2pri: str = "disconnect"
    first: str | None = None
    """Who was Primary when they last saw each other."""
    wrote: tuple[int, int] = (1, 3)
    """How many blocks castor and pollux have written alone; with 0 the generation began without a write."""
    primaries: frozenset[str] = frozenset()
    """Who is Primary when they meet again."""

    def __str__(self) -> str:
        """Return all of it on one line, for a failure's message and as a test's name."""
        return (
            f"{self.after_sb_0pri},{self.after_sb_1pri},{self.after_sb_2pri},"
            f"first={self.first},wrote={self.wrote},{'+'.join(sorted(self.primaries)) or 'none'}"
        )


def stories() -> list[Story]:
    """Return every combination of policies, roles, and enough ways to have come there."""
    many = []
    for policy, first, wrote in itertools.product(NO_PRIMARY, FIRST, WROTE):
        many.append(Story(policy, first=first, wrote=wrote))
        for one, name in itertools.product(ONE_PRIMARY, ("castor", "pollux")):
            many.append(Story(policy, one, first=first, wrote=wrote, primaries=frozenset({name})))
        for two in TWO_PRIMARIES:
            both = frozenset({"castor", "pollux"})
            many.append(Story(policy, "disconnect", two, first, wrote, both))
    return many


def loser_without_primary(story: Story) -> str | None:
    """Whom `after-sb-0pri` names; pollux is the one that loses ties."""
    castor, pollux = story.wrote
    zero = {True: "pollux", False: "castor" if not castor else "pollux" if not pollux else None}[not castor + pollux]
    least = "castor" if castor < pollux else "pollux"
    younger = {None: None, "castor": "pollux", "pollux": "castor"}[story.first]
    return {
        "disconnect": None,
        "discard-younger-primary": younger or zero or least,
        "discard-older-primary": story.first or zero or least,
        "discard-zero-changes": zero,
        "discard-least-changes": least,
        "discard-node-castor": "castor",
        "discard-node-pollux": "pollux",
    }[story.after_sb_0pri]


def loser(story: Story) -> str | None:
    """Whose changes are thrown away; None: nobody's, both wait for a person."""
    named = loser_without_primary(story)
    match len(story.primaries):
        case 0:
            return named
        case 1:
            (primary,) = story.primaries
            secondary = "pollux" if primary == "castor" else "castor"
            return {
                "disconnect": None,
                "consensus": named if named == secondary else None,
                # A Primary that loses does not obey: rr-conflict is "disconnect".
                "violently-as0p": named if named == secondary else None,
                "discard-secondary": secondary,
                "call-pri-lost-after-sb": named,
            }[story.after_sb_1pri]
        case _:
            return named if story.after_sb_2pri == "call-pri-lost-after-sb" else None
