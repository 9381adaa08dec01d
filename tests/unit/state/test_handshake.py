"""The handshake: what is refused, with which sentence; two sizes; what breaks the protocol."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from helpers.resource_pair import AGREED, Disk, Node, ResourcePair
from pydrbd.model import effects
from pydrbd.model.events import Connect, PacketReceived, Promote, SocketsReady
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.packets import Malformed, State, SyncParam, SyncUuid
from pydrbd.model.policies import AfterSplitBrain, WireProtocol
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.node_state import Options

GOOD = MdFlag.CONSISTENT | MdFlag.WAS_UP_TO_DATE
FRESH = MdFlag(0)

UUIDS = itertools.count(0x1000, 0x1000)
"""One source for both nodes: two random identifiers are never the same."""


def node(name: str, peer: str, sectors: int = 64, flags: MdFlag = FRESH, agreed: int = 0, **options: object) -> Node:
    ids = GenerationIds(0x10) if flags else GenerationIds()
    disk = Disk(sectors, [0] * 16, ids, flags, agreed)
    configured = Options(node_name=name, peer_name=peer, **options)  # type: ignore[arg-type]
    return Node(name, disk, configured, UUIDS)


def connect(castor: Node, pollux: Node) -> ResourcePair:
    pair = ResourcePair(castor, pollux)
    for each in pair.nodes:
        each.attach()
        each.command(Connect)
    pair.run()
    return pair


def sentences(each: Node) -> str:
    return "\n".join(said.sentence for said in each.said)


@pytest.mark.parametrize(
    ("own", "peers", "sentence"),
    [
        ({"wire_protocol": WireProtocol.A}, {}, "incompatible protocol settings: castor has A, pollux has C"),
        (
            {"after_sb_0pri": AfterSplitBrain.DISCARD_ZERO_CHANGES},
            {},
            "incompatible after-sb-0pri settings: castor has discard-zero-changes, pollux has disconnect",
        ),
        ({"after_sb_1pri": AfterSplitBrain.CONSENSUS}, {}, "incompatible after-sb-1pri settings"),
        ({"after_sb_2pri": AfterSplitBrain.VIOLENTLY_AS0P}, {}, "incompatible after-sb-2pri settings"),
        ({"two_primaries": True}, {}, "incompatible allow-two-primaries settings: castor has yes, pollux has no"),
        (
            {"integrity_alg": "crc32c"},
            {"integrity_alg": "sha1"},
            "incompatible data-integrity-alg settings: castor has crc32c, pollux has sha1",
        ),
        (
            {"sync": SyncParam(250, verify_alg="crc32c")},
            {},
            "incompatible verify-alg settings: castor has crc32c, pollux has none",
        ),
        ({"sync": SyncParam(250, csums_alg="md5")}, {}, "incompatible csums-alg settings"),
    ],
)
def test_what_is_configured_differently_is_named(own: dict, peers: dict, sentence: str) -> None:
    pair = connect(node("castor", "pollux", **own), node("pollux", "castor", **peers))
    assert sentence in sentences(pair.castor)
    assert pair.castor.state.connection is ConnectionState.STANDALONE
    assert pair.castor.disk.ids == GenerationIds(), "nothing changed on disk"


def test_a_policy_that_names_a_node_is_compared_from_its_side() -> None:
    castor = node("castor", "pollux", after_sb_0pri=AfterSplitBrain.DISCARD_LOCAL)
    pollux = node("pollux", "castor", after_sb_0pri=AfterSplitBrain.DISCARD_REMOTE)
    assert all(each.state.established for each in connect(castor, pollux).nodes)


def test_both_nodes_may_not_discard_their_data() -> None:
    castor, pollux = node("castor", "pollux", flags=GOOD), node("pollux", "castor", flags=GOOD)
    pair = ResourcePair(castor, pollux)
    for each in pair.nodes:
        each.attach()
        each.command(Connect, discard_my_data=True)
    pair.run()
    assert "both nodes were told to discard their data" in sentences(castor)


def test_of_two_sizes_the_smaller_is_the_devices() -> None:
    pair = connect(node("castor", "pollux", 128), node("pollux", "castor", 96))
    for each in pair.nodes:
        assert each.state.established
        assert each.state.size_sectors == each.disk.agreed_sectors == 96


def test_a_peer_smaller_than_what_is_in_use_is_refused() -> None:
    castor = node("castor", "pollux", 128, GOOD, 128)
    pair = connect(castor, node("pollux", "castor", 96))
    assert "The peer's disk size is too small! (96 < 128 sectors)" in sentences(castor)
    assert castor.state.connection is ConnectionState.STANDALONE
    assert castor.disk.agreed_sectors == 128
    assert not pair.pollux.state.established


def test_room_for_more_does_not_make_a_device_in_use_larger() -> None:
    castor = node("castor", "pollux", 128, GOOD, 64)
    pollux = node("pollux", "castor", 128, GOOD, 64)
    assert {each.state.size_sectors for each in connect(castor, pollux).nodes} == {64}


def test_a_fresh_disk_takes_the_size_of_the_one_in_use() -> None:
    castor = node("castor", "pollux", 64, GOOD, 64)
    pair = connect(castor, node("pollux", "castor", 128))
    assert pair.pollux.state.size_sectors == 64
    assert pair.pollux.state.disk is DiskState.UP_TO_DATE


def test_disks_of_different_resources_are_never_joined() -> None:
    castor, pollux = node("castor", "pollux", flags=GOOD), node("pollux", "castor", flags=GOOD)
    pollux.disk.ids = GenerationIds(0x20)
    pair = connect(castor, pollux)
    for each in pair.nodes:
        assert "Unrelated data" in sentences(each)
        assert each.state.connection is ConnectionState.STANDALONE


def test_a_dry_run_says_what_would_happen_and_does_nothing() -> None:
    castor, pollux = node("castor", "pollux", flags=GOOD), node("pollux", "castor", flags=GOOD)
    pair = ResourcePair(castor, pollux)
    for each in pair.nodes:
        each.attach()
    before = replace(pollux.disk)
    castor.command(Connect, tentative=True)
    pollux.command(Connect)
    pair.run()
    assert "Dry run: No resync is needed" in sentences(castor)
    assert castor.state.connection is ConnectionState.STANDALONE
    assert pollux.disk.ids == before.ids


def ready_node() -> Node:
    each = node("castor", "pollux", flags=GOOD)
    each.attach()
    each.command(Connect)
    each.post(SocketsReady(AGREED.version, AGREED.features, resolve_conflicts=True))
    return each


STATE = State(
    Role.SECONDARY,
    Role.UNKNOWN,
    ConnectionState.CONNECTING,
    ReplicationState.OFF,
    DiskState.UP_TO_DATE,
    DiskState.UNKNOWN,
)


@pytest.mark.parametrize("packet", [STATE, SyncUuid(0x99), Malformed("a STATE packet has 2 bytes instead of 4")])
def test_a_packet_out_of_place_drops_the_connection_and_the_node_tries_again(packet: object) -> None:
    each = ready_node()
    each.post(PacketReceived(packet, 0))
    assert not each.in_link
    assert "reconnect" in each.timers
    each.timer("reconnect")
    assert each.state.connection is ConnectionState.CONNECTING
    assert each.disk.ids == GenerationIds(0x10)


def test_a_peer_that_never_finishes_the_handshake_is_dropped() -> None:
    each = ready_node()
    each.timer("handshake")
    assert not each.in_link


def test_sockets_that_nobody_wants_any_more_are_closed() -> None:
    each = node("castor", "pollux")
    each.attach()
    each.post(SocketsReady(AGREED.version, AGREED.features, resolve_conflicts=True))
    assert isinstance(each.performed[-1], effects.StopListening)


def test_a_write_held_during_a_handshake_waits_for_its_end() -> None:
    castor, pollux = node("castor", "pollux", flags=GOOD), node("pollux", "castor", flags=GOOD)
    pair = ResourcePair(castor, pollux)
    for each in pair.nodes:
        each.attach()
    castor.command(Promote)
    for each in pair.nodes:
        each.command(Connect)
    pair.connect()
    castor.write(1, 11)
    assert castor.at_gate, "identifiers must not change after they were told"
    pair.run()
    assert not castor.at_gate
    assert castor.disk.ids == GenerationIds(0x11)
    assert pollux.disk.blocks[1] == 11


def test_a_write_held_during_a_handshake_that_fails_begins_a_generation() -> None:
    castor, pollux = node("castor", "pollux", flags=GOOD), node("pollux", "castor", flags=GOOD)
    pair = ResourcePair(castor, pollux)
    for each in pair.nodes:
        each.attach()
    castor.command(Promote)
    for each in pair.nodes:
        each.command(Connect)
    pair.connect()
    castor.write(1, 11)
    pair.cut()
    assert not castor.at_gate
    assert castor.disk.ids.bitmap == 0x10
    pair.run()
    assert pollux.disk.blocks[1] == 11


def opened(each: Node) -> effects.OpenExport:
    return next(effect for effect in reversed(each.performed) if isinstance(effect, effects.OpenExport))


@pytest.mark.parametrize("coarse", ["castor", "pollux"])
def test_the_export_takes_nothing_smaller_than_either_disk_does(coarse: str):
    castor, pollux = (
        node(name, peer, flags=GOOD, agreed=64) for name, peer in (("castor", "pollux"), ("pollux", "castor"))
    )
    for each in (castor, pollux):
        each.disk.block_bytes = 4096 if each.name == coarse else 512
    pair = connect(castor, pollux)
    castor.command(Promote)
    pair.run()
    assert opened(castor) == effects.OpenExport(4096)
    pair.cut()
    pollux.command(Promote)
    assert opened(pollux) == effects.OpenExport(4096), "what the peer said is known still"


def test_a_disk_that_takes_less_than_applications_were_told_is_warned_of():
    castor, pollux = (
        node(name, peer, flags=GOOD, agreed=64) for name, peer in (("castor", "pollux"), ("pollux", "castor"))
    )
    pollux.disk.block_bytes = 4096
    pair = ResourcePair(castor, pollux)
    castor.attach()
    castor.command(Promote)
    assert opened(castor) == effects.OpenExport(512)
    castor.command(Connect)
    pollux.attach()
    pollux.command(Connect)
    pair.run()
    assert castor.state.established
    assert "The peer's disk takes nothing smaller than 4096 bytes, and applications were told 512" in sentences(castor)
    assert "nothing smaller" not in sentences(pollux)


@pytest.mark.parametrize("said", [0, 256, 1000, 1 << 20])
def test_a_block_size_that_cannot_be_is_not_believed(said: int):
    castor, pollux = (
        node(name, peer, flags=GOOD, agreed=64) for name, peer in (("castor", "pollux"), ("pollux", "castor"))
    )
    pollux.disk.block_bytes = said
    pair = connect(castor, pollux)
    castor.command(Promote)
    pair.run()
    assert opened(castor) == effects.OpenExport(512)
