"""What the node remembers of its decisions, for people: the latest sentences, and since when a split brain stands.

Hears every sentence that the rules say and every superblock that begins a generation. Decides nothing, and no rule
ever asks it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pydrbd.model.effects import PersistMetadata, Say
from pydrbd.node.chronicle.generation_books import GenerationBooks, for_people
from pydrbd.state.node_state import NodeState
from pydrbd.state.why import Decision, cures, why

REMEMBERED = 64

Json = dict[str, Any]


class Chronicle:
    """One resource's."""

    def __init__(self, books: GenerationBooks, clock: Callable[[], float] = time.time) -> None:
        self._books = books
        self._clock = clock
        self._decisions: deque[Decision] = deque(maxlen=REMEMBERED)

    def said(self, effect: Say, state: NodeState) -> None:
        """Hear a sentence; `state` is what it led to."""
        now = self._clock()
        if effect.rule and effect.level >= logging.INFO:
            self._decisions.append(Decision(for_people(now), effect.sentence, effect.rule))
        if state.because is not None and state.because.split_brain is not None:
            self._books.split_brain(now)
        elif state.established:
            self._books.healed()

    def persisted(self, effect: PersistMetadata) -> None:
        """Hear of a superblock that is durable."""
        if effect.began is not None:
            self._books.begun(effect.ids.current, effect.began, self._clock())

    def why(self, state: NodeState, out_of_sync_bits: int) -> tuple[str, ...]:
        """Return what `pydrbd why` prints, a sentence per line."""
        sentences = list(why(state, out_of_sync_bits, tuple(self._decisions)))
        since = self._books.split_brain_since
        if since is not None and state.because is None and not state.established:
            peer, resource = state.options.peer_name, state.options.resource
            sentences.append(
                f"A split brain has been standing since {for_people(since)}."
                f" If {peer} is StandAlone, `pydrbd why {resource}` there says what to type."
            )
        return tuple(sentences)

    def given_up(self, state: NodeState) -> Json:
        """Return what `status` adds to the connection: why it was given up, and the split brain with both cures."""
        because = state.because
        if because is None:
            return {"given-up": None, "split-brain": None}
        reason = {"rule": because.rule, "sentence": because.sentence}
        split = because.split_brain
        if split is None:
            return {"given-up": reason, "split-brain": None}
        return {
            "given-up": reason,
            "split-brain": {
                "since": for_people(self._books.split_brain_since or self._clock()),
                "own-blocks": split.own_bits,
                "peer-blocks": split.peer_bits,
                "cures": [
                    {
                        "keeps": cure.keeps,
                        "discards": cure.discards,
                        "commands": [{"node": node, "command": command} for node, command in cure.commands],
                    }
                    for cure in cures(state.options)
                ],
            },
        }
