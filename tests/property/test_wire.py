"""Codecs: every packet comes back as it went; whatever bytes come, the only error is `WireError`."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from pydrbd.model.commands import Command
from pydrbd.model.generation import GenerationIds
from pydrbd.model.packets import (
    AuthChallenge,
    AuthResponse,
    Change,
    ConnectionChangeReply,
    ConnectionChangeRequest,
    ConnectionFeatures,
    DelayProbe,
    InitialData,
    InitialMeta,
    Malformed,
    Packet,
    Protocol,
    ProtocolUpdate,
    QueueLimits,
    Sizes,
    Skipped,
    State,
    StateChangeReply,
    StateChangeRequest,
    SyncParam,
    SyncUuid,
    UuidFlag,
    Uuids,
)
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.wire import Agreed, FrameDecoder, WireError, decode, frame, pack, unpack
from pydrbd.wire.states import cstate_number, from_cstate

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
u16 = st.integers(0, (1 << 16) - 1)
u8 = st.integers(0, 255)
i32 = st.integers(-(1 << 31), (1 << 31) - 1)
sectors = st.integers(0, (1 << 54) - 1)
algorithms = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", max_size=63)
protocols = st.builds(Protocol, u32, u32, u32, u32, st.booleans(), st.booleans(), st.booleans(), algorithms)
cstates = st.sampled_from([from_cstate(number) for number in range(24)])
limits = st.builds(QueueLimits, u32, u32, u32, u32, u32, u8, u8, u8)
states = cstates.flatmap(
    lambda cstate: st.builds(
        State,
        st.sampled_from(Role),
        st.sampled_from(Role),
        st.just(cstate[0]),
        st.just(cstate[1]),
        st.sampled_from(DiskState),
        st.sampled_from(DiskState),
        *[st.booleans()] * 6,
    )
)
changes = st.one_of(st.none(), cstates).flatmap(
    lambda cstate: st.builds(
        Change,
        st.none() | st.sampled_from(Role),
        st.none() | st.sampled_from(Role),
        st.just(cstate and cstate[0]),
        st.just(cstate and cstate[1]),
        st.none() | st.sampled_from(DiskState),
        st.none() | st.sampled_from(DiskState),
    )
)
packets = st.one_of(
    protocols,
    st.builds(ProtocolUpdate, protocols),
    st.builds(SyncParam, u32, algorithms, algorithms, u32, u32, u32, u32),
    st.builds(Sizes, sectors, sectors, sectors, st.integers(512, (1 << 32) - 1), u16, u16, limits),
    st.builds(Uuids, st.builds(GenerationIds, u64, u64, u64, u64), u64, st.integers(0, 15).map(UuidFlag)),
    st.builds(SyncUuid, u64),
    states,
    st.builds(StateChangeRequest, changes),
    st.builds(ConnectionChangeRequest, changes),
    st.builds(StateChangeReply, i32),
    st.builds(ConnectionChangeReply, i32),
    st.builds(DelayProbe, u32, u32),
    st.builds(ConnectionFeatures, u32, u32, st.integers(1, (1 << 32) - 1)),
    st.builds(InitialData),
    st.builds(InitialMeta),
    st.builds(AuthChallenge, st.binary(min_size=64, max_size=128)),
    st.builds(AuthResponse, st.binary(min_size=1, max_size=128)),
)
AGREED = Agreed(101, 15)


@given(packets)
def test_every_packet_comes_back_as_it_went(packet: Packet) -> None:
    assert unpack(packet.command, pack(packet, AGREED), AGREED.version, AGREED.features) == packet


@given(sectors, sectors, sectors)
def test_sizes_lack_their_tail_where_a_side_does_not_know_it(disk: int, user: int, current: int) -> None:
    packet = Sizes(disk, user, current, limits=None)
    without = Agreed(100, 9)
    assert len(pack(packet, without)) == 32
    assert unpack(Command.SIZES, pack(packet, without), 100, 9) == packet


@given(st.sampled_from([*Command, 0x55, 0x101, 0x4000]), st.binary(max_size=200), st.sampled_from([0, 4, 9, 15]))
def test_garbage_is_a_typed_error_or_a_packet(command: int, payload: bytes, features: int) -> None:
    with contextlib.suppress(WireError):
        unpack(command, payload, 101, features)
    found = decode(command, payload, 101, features)
    if isinstance(found, Malformed):
        assert found.sentence
    elif not isinstance(found, Skipped):
        assert found.command == command


@given(st.lists(st.tuples(st.sampled_from(list(Command)), st.binary(max_size=300)), max_size=6), st.data())
def test_packets_come_out_of_a_stream_however_it_is_cut(sent: list[tuple[Command, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(command, payload) for command, payload in sent)
    decoder = FrameDecoder()
    found = []
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:length])
        stream = stream[length:]
    assert [(each.command, each.payload) for each in found] == sent
    assert decoder.rest == b""


@given(st.binary(max_size=400))
def test_a_garbage_stream_is_a_typed_error_and_is_never_kept_whole(stream: bytes) -> None:
    decoder = FrameDecoder(64)
    with contextlib.suppress(WireError):
        decoder.feed(stream)
    assert len(decoder.rest) <= len(stream)


@given(cstates)
def test_the_two_words_and_the_single_number_are_one_thing(words: tuple[ConnectionState, ReplicationState]) -> None:
    assert from_cstate(cstate_number(*words)) == words


def test_the_single_numbers_are_those_of_the_kernel():
    assert cstate_number(ConnectionState.CONNECTING, ReplicationState.OFF) == 8
    assert cstate_number(ConnectionState.CONNECTED, ReplicationState.OFF) == 9
    assert cstate_number(ConnectionState.CONNECTED, ReplicationState.ESTABLISHED) == 10
    assert cstate_number(ConnectionState.CONNECTED, ReplicationState.SYNC_TARGET) == 17
