"""Random histories of generation identifiers: both sides decide alike, and nothing diverged is resolved by itself.

PYDRBD_HISTORIES says how many (`make histories`: a million), PYDRBD_SEED where they begin. A failure names its seed.
"""

from __future__ import annotations

import os
from collections import Counter

from helpers.histories import DivergedError, History

HISTORIES = int(os.environ.get("PYDRBD_HISTORIES", "50000"))
SEED = int(os.environ.get("PYDRBD_SEED", "1"))


def test_no_history_is_decided_differently_by_two_nodes_and_none_that_diverged_by_itself() -> None:
    rules: Counter[str] = Counter()
    for seed in range(SEED, SEED + HISTORIES):
        history = History(seed)
        try:
            history.play()
        except DivergedError as error:
            raise AssertionError(f"history {seed}: {error}") from None
        rules.update(history.rules)
    # The histories are worth something only if they come by the rare repairs, too.
    for rule in (
        "same-generation",
        "source-missed-finish",
        "source-peer-missed-start",
        "crashed-self",
        "crashed-peer",
        "survived-self",
        "survived-peer",
        "bitmap-peer",
        "bitmap-self",
        "bitmap-both",
        "lost-sync-uuid-peer",
        "lost-sync-uuid-self",
        "discard-my-data",
    ):
        assert rules[rule] > 0, (rule, rules)
    # Identifiers have room for two generations of history: more is forgotten, but that must stay a curiosity.
    assert rules["unrelated"] < HISTORIES / 1000, rules
    assert rules["forgotten"] <= 1 + HISTORIES / 20_000, rules
