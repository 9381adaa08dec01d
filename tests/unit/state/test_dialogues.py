"""The captured dialogues, said again by the rules: the same packets in the same order, the same identifiers at the end.

Where the rules differ from the kernel's on purpose the test says so: a new generation begins with the first write, not
with the loss of the peer, so that the kernel's UUIDS behind a disconnect is not sent.
"""

import itertools
from collections.abc import Iterator

import pytest

from helpers.resource_pair import Disk, Node, ResourcePair
from helpers.transcript import identifiers, said_by
from pydrbd.model.commands import Command
from pydrbd.model.events import Connect, Demote, Disconnect, Down, Invalidate, Outdate, PauseSync, Promote
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import SyncParam
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.node_state import Options

BACKING_SECTORS = 0xFFF98
BLOCKS = 2048
UP_TO_DATE = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE


class Drawn(Iterator[int]):
    """Identifiers that the test chooses; where it does not care, any."""

    def __init__(self) -> None:
        self.next: int | None = None
        self._any = itertools.count(0x1111, 0x1000)

    def __next__(self) -> int:
        return next(self._any) if self.next is None else self.next


def node(name: str, peer: str, disk: Disk) -> Node:
    options = Options(node_name=name, peer_name=peer, user_sectors=16384, sync=SyncParam(40960, c_plan_ahead=0))
    return Node(name, disk, options, Drawn())


def pair_of(castor: Disk, pollux: Disk) -> ResourcePair:
    pair = ResourcePair(node("castor", "pollux", castor), node("pollux", "castor", pollux))
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    return pair


def fresh_disk() -> Disk:
    # The captured kernels had marked all but one word of what was new.
    return Disk(BACKING_SECTORS, [0] * BLOCKS, agreed_sectors=BLOCKS * 8, bits=set(range(1984)))


def used_disk(*ids: int, flags: MdFlag = UP_TO_DATE) -> Disk:
    return Disk(BACKING_SECTORS, [0] * BLOCKS, GenerationIds(*ids), flags, 16384)


def draw(each: Node, uuid: int) -> None:
    each.uuids.next = uuid  # type: ignore[attr-defined]


def forget(pair: ResourcePair) -> None:
    for each in pair.nodes:
        each.sent.clear()


def assert_said_as_captured(pair: ResourcePair, name: str, *, without: tuple[Command, ...] = ()) -> None:
    """Compare what both said since `forget`; `without` names what the kernel says and the rules do not."""
    for each in pair.nodes:
        ours = [(Command(command), payload.hex()) for _, command, payload in each.sent]
        captured = [(command, payload.hex()) for command, payload in said_by(name, each.name) if command not in without]
        assert ours == captured, each.name
    forget(pair)


def assert_identifiers_as_captured(pair: ResourcePair, name: str, section: int = -1) -> None:
    for each, wanted in zip(pair.nodes, identifiers(name, section), strict=True):
        ids = each.disk.ids
        assert [f"{one:016X}" for one in (ids.current, ids.bitmap, ids.history0, ids.history1)] == [
            f"{one:016X}" for one in wanted
        ], each.name


def assert_both_up_to_date(pair: ResourcePair) -> None:
    for each in pair.nodes:
        assert (each.state.disk, each.state.peer_disk) == (DiskState.UP_TO_DATE, DiskState.UP_TO_DATE)
        assert each.state.replication is ReplicationState.ESTABLISHED
        assert not each.bits
    assert pair.castor.disk.blocks == pair.pollux.disk.blocks


@pytest.fixture
def first_connected() -> ResourcePair:
    pair = pair_of(fresh_disk(), fresh_disk())
    pair.run()
    return pair


@pytest.fixture
def synced(first_connected: ResourcePair) -> ResourcePair:
    pair = first_connected
    forget(pair)
    draw(pair.castor, 0xC54F346E76BDFD1B)
    pair.castor.disk.blocks[7] = 7
    pair.castor.uuids.next = 0x26C52968C9F38829  # type: ignore[attr-defined]
    pair.castor.command(Promote, force=True)
    draw(pair.castor, 0xC54F346E76BDFD1B)
    pair.run()
    return pair


@pytest.fixture
def resynced(synced: ResourcePair) -> ResourcePair:
    """castor has written three blocks while pollux was away, and pollux has come back (dialogue 05)."""
    pair = synced
    forget(pair)
    draw(pair.castor, 0xE4FC031932218153)
    pair.pollux.command(Disconnect)
    pair.run()
    for block in (100, 101, 102):
        pair.castor.write(block, block)
    return pair


def test_01_two_fresh_nodes_connect(first_connected: ResourcePair) -> None:
    assert_said_as_captured(first_connected, "01-first-connect")
    assert_identifiers_as_captured(first_connected, "01-first-connect")
    for each in first_connected.nodes:
        assert each.disk.flags == MdFlag.CONNECTED_IND | MdFlag.PEER_OUT_DATED


def test_02_a_forced_promotion_starts_a_full_sync(synced: ResourcePair) -> None:
    assert_said_as_captured(synced, "02-initial-sync")
    assert_identifiers_as_captured(synced, "02-initial-sync")
    assert_both_up_to_date(synced)
    assert synced.pollux.disk.blocks[7] == 7


def test_04_the_roles_swap_twice(synced: ResourcePair) -> None:
    pair = synced
    forget(pair)
    pair.castor.command(Demote)
    pair.run()
    pair.pollux.command(Promote)
    pair.run()
    assert pair.pollux.write(9, 99)
    pair.run()
    pair.pollux.command(Demote)
    pair.run()
    pair.castor.command(Promote)
    pair.run()
    assert_said_as_captured(pair, "04-role-swap")
    assert_identifiers_as_captured(pair, "04-role-swap")
    assert_both_up_to_date(pair)


def test_05_the_survivor_begins_a_generation_with_its_first_write(resynced: ResourcePair) -> None:
    assert_said_as_captured_until_reconnect(resynced)
    assert_identifiers_as_captured(resynced, "05-disconnect-write-reconnect", 0)
    assert resynced.pollux.state.connection is ConnectionState.STANDALONE
    assert resynced.castor.state.connection is ConnectionState.CONNECTING


def assert_said_as_captured_until_reconnect(pair: ResourcePair) -> None:
    """Up to the reconnect; the kernel's castor sends its new UUIDS at once, ours has none before its first write."""
    assert [(Command(command), payload) for _, command, payload in pair.pollux.sent] == said_by(
        "05-disconnect-write-reconnect", "pollux"
    )[:1]
    assert [(Command(command), payload) for _, command, payload in pair.castor.sent] == said_by(
        "05-disconnect-write-reconnect", "castor"
    )[:1]


def test_05_the_returning_node_gets_only_what_it_missed(resynced: ResourcePair) -> None:
    pair = resynced
    pair.pollux.command(Connect)
    pair.run()
    captured = said_by("05-disconnect-write-reconnect", "castor")
    assert [(Command(command), payload) for _, command, payload in pair.castor.sent] == captured[:1] + captured[2:]
    assert [(Command(command), payload) for _, command, payload in pair.pollux.sent] == said_by(
        "05-disconnect-write-reconnect", "pollux"
    )
    assert_identifiers_as_captured(pair, "05-disconnect-write-reconnect")
    assert_both_up_to_date(pair)
    assert pair.pollux.disk.blocks[100:103] == [100, 101, 102]


def test_06_an_invalidated_node_is_copied_whole(resynced: ResourcePair) -> None:
    pair = resynced
    pair.pollux.command(Connect)
    pair.run()
    forget(pair)
    draw(pair.castor, 0x3DBAAEA5BE5B42C5)
    pair.pollux.command(Invalidate)
    pair.run()
    assert_said_as_captured(pair, "06-invalidate")
    assert_identifiers_as_captured(pair, "06-invalidate")
    assert_both_up_to_date(pair)


def test_08_a_clean_down_and_up_needs_no_resync():
    castor = used_disk(0xE4FC031932218152, 0, 0x3DBAAEA5BE5B42C5, 0x26C62968C9F38829)
    pollux = used_disk(0xE4FC031932218152, 0, 0x3DBAAEA5BE5B42C4, 0x26C62968C9F38828)
    pair = pair_of(castor, pollux)
    pair.run()
    forget(pair)
    pair.pollux.command(Down)
    pair.run()
    pair.castor.command(Down)
    pair.run()
    assert pair.castor.exited
    assert pair.pollux.exited
    for each in pair.nodes:
        each.reset()
        each.attach()
        each.command(Connect)
    pair.run()
    assert_said_as_captured(pair, "08-clean-down-up")
    assert_both_up_to_date(pair)


@pytest.fixture
def split() -> ResourcePair:
    """Both were promoted and written while disconnected (dialogue 15)."""
    castor = used_disk(0x154273201F906C62, 0, 0x8B1A5ECFAAA9C9CB, 0x8B195ECFAAA9C9CB)
    pollux = used_disk(0x154273201F906C62, 0, 0x8B1A5ECFAAA9C9CA, 0x8B195ECFAAA9C9CB)
    pair = pair_of(castor, pollux)
    pair.run()
    forget(pair)
    draw(pair.castor, 0x407B9E38668BBE9A)
    draw(pair.pollux, 0x287ADAAFCD4CC450)
    pair.castor.command(Disconnect)
    pair.run()
    for each, block in ((pair.castor, 1), (pair.pollux, 2)):
        if each is pair.pollux:
            each.command(Disconnect)
        each.command(Promote)
        assert each.write(block, block)
        each.command(Demote)
    return pair


def test_15_two_writers_make_a_split_brain_that_nobody_overwrites(split: ResourcePair) -> None:
    assert_identifiers_as_captured(split, "15-split-brain", 0)
    for each in split.nodes:
        each.command(Connect)
    split.run()
    for each in split.nodes:
        assert each.state.connection is ConnectionState.STANDALONE
        assert any("Split brain" in said.sentence for said in each.said)
    assert [split.castor.disk.blocks[block] for block in (1, 2)] == [1, 0]
    assert [split.pollux.disk.blocks[block] for block in (1, 2)] == [0, 2]


def test_15_a_person_says_whose_data_to_discard(split: ResourcePair) -> None:
    for each in split.nodes:
        each.command(Connect)
    split.run()
    split.pollux.command(Connect, discard_my_data=True)
    split.castor.command(Connect)
    split.run()
    assert_said_as_captured(split, "15-split-brain")
    assert_identifiers_as_captured(split, "15-split-brain")
    assert_both_up_to_date(split)
    assert [split.pollux.disk.blocks[block] for block in (1, 2)] == [1, 0]


def test_16_a_crashed_primary_comes_back_as_target():
    castor = used_disk(0x407B9E38668BBE9A, 0, 0x154373201F906C62, 0x154273201F906C62)
    pollux = used_disk(0x407B9E38668BBE9A, 0, 0x154373201F906C62, 0x154273201F906C62)
    pair = pair_of(castor, pollux)
    pair.run()
    forget(pair)
    draw(pair.pollux, 0x19F5D2D4C7A9ABB7)
    pair.castor.command(Promote)
    pair.run()
    for block in (5, 6):
        assert pair.castor.write(block, block)
    pair.run()
    pair.castor.barrier()
    pair.cut()
    pair.castor.command(Demote)
    pair.castor.command(Down)
    pair.pollux.command(Promote)
    for block in (600, 601):
        assert pair.pollux.write(block, block)
    pair.castor.reset()
    pair.castor.attach()
    pair.castor.command(Connect)
    pair.run()
    # castor's link was cut before it was demoted: the kernel's STATE about that was lost in the network at first.
    ours = [(Command(command), payload) for _, command, payload in pair.castor.sent]
    captured = said_by("16-primary-crash", "castor")
    demoted = captured[2]
    assert ours == [each for each in captured if each is not demoted]
    assert [(Command(command), payload) for _, command, payload in pair.pollux.sent] == said_by(
        "16-primary-crash", "pollux"
    )
    assert_identifiers_as_captured(pair, "16-primary-crash")
    assert_both_up_to_date(pair)
    assert pair.castor.state.peer_role is Role.PRIMARY


# --- a kernel as the peer: castor's rules say again what they said to it ---------------------------------------------


def pair_with_a_kernel() -> ResourcePair:
    """Both in sync on 32 MiB disks, as `tests/vm` begins its cases; connected, both Secondary."""
    ids = GenerationIds(0xE3044862E97BC408, 0, 0x0E2099CD3D034076, 4)
    nodes = []
    for name, peer in (("castor", "pollux"), ("pollux", "castor")):
        sync = SyncParam(204800, c_plan_ahead=0, c_fill_target_sectors=4096, c_max_rate_kib_s=1 << 20)
        options = Options(node_name=name, peer_name=peer, sync=sync)
        disk = Disk(0xFFB0, [0] * (0xFFB0 // 8), ids, UP_TO_DATE, 0xFFB0)
        nodes.append(Node(name, disk, options, Drawn()))
    pair = ResourcePair(*nodes)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.run()
    return pair


def assert_castor_said_as_captured(pair: ResourcePair, name: str) -> None:
    said = [(Command(command).name, payload.hex()) for _, command, payload in pair.castor.sent]
    assert said == [(command.name, payload.hex()) for command, payload in said_by(name, "castor")]


def miss_writes(pair: ResourcePair, count: int, uuid: int) -> None:
    """Let castor leave and pollux, the Primary, write so many blocks, under the captured kernel's next identifier."""
    pair.pollux.command(Promote)
    pair.run()
    pair.castor.command(Disconnect)
    pair.run()
    draw(pair.pollux, uuid)
    for block in range(count):
        assert pair.pollux.write(block, 1)
    pair.run()


def test_17_a_target_rests_until_it_is_told_to_go_on() -> None:
    pair = pair_with_a_kernel()
    miss_writes(pair, 0x10EA, 0x4039841303A3B2C3)
    pair.castor.command(PauseSync, paused=True)
    draw(pair.pollux, 0xE3054862E97BC409)
    pair.castor.command(Connect)
    pair.run()
    assert pair.castor.state.replication is ReplicationState.PAUSED_SYNC_T
    assert pair.pollux.state.replication is ReplicationState.PAUSED_SYNC_S
    pair.castor.command(PauseSync, paused=False)
    pair.run()
    assert_both_up_to_date(pair)
    assert_castor_said_as_captured(pair, "17-pause-by-the-target")


def test_19_an_outdated_node_says_so_and_becomes_the_target() -> None:
    pair = pair_with_a_kernel()
    miss_writes(pair, 500, 0x56BA0EA462041E8F)
    pair.castor.command(Outdate)
    draw(pair.pollux, 0xE3054862E97BC409)
    pair.castor.command(Connect)
    pair.run()
    assert_both_up_to_date(pair)
    assert_castor_said_as_captured(pair, "19-outdate")
