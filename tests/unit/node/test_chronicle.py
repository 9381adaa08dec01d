"""The books of generations survive whatever is in their file; the chronicle hears decisions and tells them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pydrbd.model.effects import PersistMetadata, Say
from pydrbd.model.generation import Beginning, GenerationIds, MdFlag
from pydrbd.model.states import ConnectionState, DiskState
from pydrbd.node.chronicle.decisions import Chronicle
from pydrbd.node.chronicle.generation_books import GenerationBooks, books_path, for_people
from pydrbd.state.node_state import Because, NodeState, Options, SplitBrain

OPTIONS = Options(resource="drbd0", node_name="castor", peer_name="pollux")
SPLIT = NodeState(
    options=OPTIONS,
    disk=DiskState.UP_TO_DATE,
    because=Because("bitmap-both", "Split brain is not solved by a policy", SplitBrain(1, 3)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return books_path(tmp_path / "state", "drbd0")


def persisted(current: int, began: Beginning | None) -> PersistMetadata:
    return PersistMetadata(GenerationIds(current), MdFlag.CONSISTENT, 8, began)


def test_only_a_generation_that_began_here_is_entered(path: Path) -> None:
    chronicle = Chronicle(GenerationBooks.open(path), lambda: 1000.0)
    chronicle.persisted(persisted(0x11, None))
    assert not path.exists()
    chronicle.persisted(persisted(0x21, Beginning.HUMAN))
    chronicle.persisted(persisted(0x30, Beginning.CONNECTED))
    chronicle.persisted(persisted(0x41, Beginning.CONNECTED))
    books = GenerationBooks.open(path)
    assert {way.value: count for way, count in books.counts.items()} == {
        "human": 1,
        "timeout": 0,
        "connected": 2,
        "arbitrary": 0,
    }
    assert [entry.current for entry in books.entries] == [0x20, 0x30, 0x40]
    text = books.text()
    assert f"connected      2  last {for_people(1000)}" in text
    assert text.index("0000000000000040  connected") < text.index("0000000000000020  human")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"version": 2}', "\0\0", '{"version": 1, "counters": 3}'])
def test_books_that_cannot_be_read_are_put_aside_and_begin_anew(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    GenerationBooks.open(path, writable=False)
    assert path.read_text() == content
    books = GenerationBooks.open(path)
    assert path.with_suffix(".unreadable").read_text() == content
    books.begun(0x20, Beginning.TIMEOUT, 5.0)
    assert GenerationBooks.open(path).counts[Beginning.TIMEOUT] == 1


def test_a_state_directory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    books = GenerationBooks(books_path(tmp_path / "state", "drbd0"))
    books.begun(0x20, Beginning.HUMAN, 5.0)
    assert books.counts[Beginning.HUMAN] == 1


def test_the_books_forget_the_oldest_but_keep_the_counts(path: Path) -> None:
    books = GenerationBooks.open(path)
    for number in range(40):
        books.begun(0x100 + 2 * number, Beginning.ARBITRARY, float(number))
    again = GenerationBooks.open(path)
    assert again.counts[Beginning.ARBITRARY] == 40
    assert [entry.unix_s for entry in again.entries] == [float(number) for number in range(8, 40)]


def test_a_split_brain_is_known_since_it_was_first_seen_until_both_are_connected_again(path: Path) -> None:
    first = Chronicle(GenerationBooks.open(path), lambda: 1000.0)
    first.said(Say("Split brain", "bitmap-both", 40), SPLIT)
    again = Chronicle(GenerationBooks.open(path), lambda: 9000.0)
    connecting = replace(SPLIT, because=None, connection=ConnectionState.CONNECTING)
    assert f"A split brain has been standing since {for_people(1000)}" in " ".join(again.why(connecting, 1))
    again.said(Say("Split brain", "bitmap-both", 40), SPLIT)
    assert again.given_up(SPLIT)["split-brain"]["since"] == for_people(1000)
    assert json.loads(path.read_text())["split-brain-since"] == 1000.0
    again._books.healed()
    assert json.loads(path.read_text())["split-brain-since"] is None


def test_given_up_has_both_cures_with_the_exact_commands(path: Path) -> None:
    chronicle = Chronicle(GenerationBooks.open(path), lambda: 1000.0)
    chronicle.said(Say("Split brain", "bitmap-both", 40), SPLIT)
    split = chronicle.given_up(SPLIT)["split-brain"]
    assert (split["own-blocks"], split["peer-blocks"]) == (1, 3)
    assert split["cures"][1] == {
        "keeps": "pollux",
        "discards": "castor",
        "commands": [
            {"node": "castor", "command": "pydrbd secondary drbd0 && pydrbd connect --discard-my-data drbd0"},
            {"node": "pollux", "command": "pydrbd connect drbd0"},
        ],
    }
    assert chronicle.given_up(NodeState()) == {"given-up": None, "split-brain": None}
