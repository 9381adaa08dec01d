"""`why` says what is so, why, and what to type: of every state something, of the unpleasant ones the right thing."""

from __future__ import annotations

import itertools

import pytest

from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.node_state import Because, Link, NodeState, Options, SplitBrain
from pydrbd.state.why import Decision, why

OPTIONS = Options(resource="drbd0", node_name="castor", peer_name="pollux")
LINK = Link(101, 15, resolve_conflicts=False, sent_bits=0, established=True)


def state(**fields: object) -> NodeState:
    return NodeState(options=OPTIONS, **fields)  # type: ignore[arg-type]


def told(node: NodeState, bits: int = 0, *decisions: Decision) -> str:
    return " ".join(why(node, bits, decisions))


def connected(**fields: object) -> NodeState:
    return state(connection=ConnectionState.CONNECTED, link=LINK, **fields)


def test_every_combination_of_words_has_at_least_a_role_a_disk_and_a_connection() -> None:
    every = itertools.product(Role, DiskState, ConnectionState, ReplicationState)
    for role, disk, connection, replication in every:
        sentences = why(state(role=role, disk=disk, connection=connection, replication=replication), 3, ())
        assert len(sentences) >= 3
        assert all(sentence.endswith(".") for sentence in sentences), sentences


def test_a_healthy_pair_needs_no_command() -> None:
    healthy = connected(
        role=Role.PRIMARY,
        disk=DiskState.UP_TO_DATE,
        peer_disk=DiskState.UP_TO_DATE,
        replication=ReplicationState.ESTABLISHED,
    )
    assert "pydrbd" not in told(healthy)


def test_what_a_verify_has_found_can_be_repaired_at_once() -> None:
    good = {"disk": DiskState.UP_TO_DATE, "peer_disk": DiskState.UP_TO_DATE}
    found = told(connected(replication=ReplicationState.ESTABLISHED, **good), 3)
    assert "3 blocks (12 KiB) differ from what pollux has" in found
    assert "`pydrbd verify --repair drbd0`" in found
    assert "An online verify compares this disk" in told(connected(replication=ReplicationState.VERIFY_T, **good))


def test_a_split_brain_says_who_wrote_how_much_and_both_cures() -> None:
    because = Because("bitmap-both", "Split brain is not solved", SplitBrain(1, 300))
    split = state(disk=DiskState.UP_TO_DATE, because=because)
    text = told(split, 1, Decision("2026-11-23 01:02:03", "Split brain is not solved", "bitmap-both"))
    assert "StandAlone since 2026-11-23 01:02:03: Split brain is not solved (rule: bitmap-both)" in text
    assert "this node 1 block (4 KiB), pollux 300 blocks (1200 KiB)" in text
    discard = "pydrbd secondary drbd0 && pydrbd connect --discard-my-data drbd0"
    assert f"To keep castor's data: on pollux `{discard}`; on castor `pydrbd connect drbd0`." in text
    assert f"To keep pollux's data: on castor `{discard}`; on pollux `pydrbd connect drbd0`." in text


def test_standing_alone_by_a_persons_word_is_told_from_being_refused() -> None:
    assert "because a person said so" in told(state())
    refused = told(state(because=Because("incompatible-settings", "incompatible protocol settings: ...")))
    assert "incompatible protocol settings" in refused
    assert "person said so" not in refused
    assert "--discard-my-data" not in refused


@pytest.mark.parametrize(
    ("fields", "bits", "words"),
    [
        ({"disk": DiskState.INCONSISTENT}, 0, "`pydrbd primary --force drbd0`"),
        ({"disk": DiskState.OUTDATED}, 0, "newer data"),
        ({"disk": DiskState.UP_TO_DATE, "connection": ConnectionState.CONNECTING}, 5, "5 blocks (20 KiB) differ"),
        ({"disk": DiskState.UP_TO_DATE, "user_paused": True}, 0, "paused here: `pydrbd resume-sync drbd0`"),
        ({"disk": DiskState.UP_TO_DATE, "discard_my_data": True}, 0, "--discard-my-data was given"),
    ],
)
def test_what_is_unpleasant_is_explained(fields: dict[str, object], bits: int, words: str) -> None:
    assert words in told(state(**fields), bits)


def test_a_lost_peer_and_a_lost_disk_are_told_with_their_time_and_cause() -> None:
    lost = Decision("10:00:00", "Lost pollux: PingAck did not arrive in time", "peer-lost")
    failed = Decision("10:00:01", "The backing disk failed: write at sector 8, error 5", "io-error")
    text = told(state(connection=ConnectionState.CONNECTING), 0, lost, failed)
    assert "10:00:00: Lost pollux: PingAck did not arrive in time" in text
    assert "10:00:01: The backing disk failed: write at sector 8, error 5" in text
    assert "`pydrbd restart drbd0`" in text
