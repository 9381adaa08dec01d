"""Reads are shared with the peer only while both disks are good."""

from __future__ import annotations

import itertools

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from pydrbd.config.options import option
from pydrbd.model.effects import Reads
from pydrbd.model.events import Connect, Detach, Invalidate, Promote
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.policies import ReadBalancing
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


def make_pair(policy: ReadBalancing) -> ResourcePair:
    uuids = itertools.count(0x1000, 0x1000)
    options = Options(read_balancing=policy)
    names = ("castor", "pollux")
    pair = ResourcePair(
        *(Node(name, Disk(64, [0] * 8, GenerationIds(0x10), GOOD, 64), options, uuids) for name in names)
    )
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.castor.command(Promote)
    pair.run()
    return pair


def test_every_word_of_the_configuration_is_a_policy() -> None:
    words = option("disk", "read-balancing").words
    assert [ReadBalancing.from_word(word) for word in words] == list(ReadBalancing)


@pytest.mark.parametrize("policy", ReadBalancing)
def test_two_good_disks_share_reads_if_that_is_configured(policy: ReadBalancing) -> None:
    wanted = Reads.LOCAL if policy is ReadBalancing.PREFER_LOCAL else Reads.BALANCED
    assert make_pair(policy).castor.reads is wanted


def test_a_peer_that_is_lost_is_asked_for_nothing_and_asked_again_when_it_is_back() -> None:
    pair = make_pair(ReadBalancing.ROUND_ROBIN)
    pair.cut()
    assert pair.castor.reads is Reads.LOCAL
    pair.run()
    assert pair.castor.reads is Reads.BALANCED


def test_a_peer_that_is_being_synced_is_asked_for_nothing() -> None:
    pair = make_pair(ReadBalancing.PREFER_REMOTE)
    pair.castor.command(Invalidate, peer=True)
    while pair.castor.resync != "source":
        assert pair.deliverable()
        pair.deliver(*pair.deliverable()[0])
    assert pair.castor.reads is Reads.LOCAL
    pair.run()
    assert pair.castor.reads is Reads.BALANCED


def test_a_peer_without_a_disk_is_asked_for_nothing() -> None:
    pair = make_pair(ReadBalancing.PREFER_REMOTE)
    pair.pollux.command(Detach)
    pair.run()
    assert pair.castor.reads is Reads.LOCAL
    pair.castor.command(Detach)
    pair.run()
