"""The model's words are DRBD's."""

import pytest

from pydrbd.model.commands import Command
from pydrbd.model.policies import AfterSplitBrain
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role


@pytest.mark.parametrize("words", [Role, DiskState, ConnectionState, ReplicationState])
def test_every_state_prints_as_drbd_prints_it(words: type) -> None:
    printed = [str(word) for word in words]
    assert len(set(printed)) == len(printed)
    assert all(text[0].isupper() and text.isalpha() for text in printed)


def test_disk_states_are_ordered_by_worth() -> None:
    words = "Diskless Attaching Failed Negotiating Inconsistent Outdated DUnknown Consistent UpToDate"
    assert [str(word) for word in sorted(DiskState)] == words.split()


def test_every_refusal_is_a_reason_of_its_own_with_an_exit_code_of_drbdsetup() -> None:
    assert len({refusal.sentence for refusal in Refusal}) == len(list(Refusal))
    assert {refusal.exit_code for refusal in Refusal} <= {5, 10, 11, 16, 17, 20}


def test_policies_are_named_and_numbered_as_in_drbd() -> None:
    assert AfterSplitBrain.from_word("discard-zero-changes") == 3
    assert AfterSplitBrain.VIOLENTLY_AS0P.word == "violently-as0p"
    for policy in AfterSplitBrain:
        assert AfterSplitBrain.from_word(policy.word) is policy
        assert policy.mirrored.mirrored is policy


def test_packet_numbers_are_those_of_the_kernel() -> None:
    numbers = {Command.STATE: 0x0E, Command.SYNC_PARAM89: 0x23, Command.CONN_ST_CHG_REQ: 0x2A, Command.ZEROES: 0x36}
    assert all(command == number for command, number in numbers.items())
