"""Every control packet that two kernels exchanged is read, and written back to the same bytes."""

import pytest

from helpers.transcript import CONTROL, FIRST, dialogue, names
from pydrbd.model.commands import Command
from pydrbd.model.packets import Change, Sizes, State, StateChangeRequest, Uuids
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.wire import Agreed, FrameDecoder, frame, pack, unpack
from pydrbd.wire.framing import header_for

AGREED = Agreed(101, 15)


@pytest.mark.parametrize("name", names())
def test_every_control_packet_comes_out_as_it_went_in(name: str) -> None:
    seen = 0
    for captured in dialogue(name):
        if captured.command in CONTROL | FIRST:
            assert len(captured.payload) == captured.length
            packet = unpack(captured.command, captured.payload, AGREED.version, AGREED.features)
            assert packet.command is captured.command
            assert pack(packet, AGREED) == captured.payload, packet
            seen += 1
    assert seen or name == "03-writes", "nothing was compared"


@pytest.mark.parametrize("name", names())
def test_every_packet_has_the_header_that_the_kernel_gave_it(name: str) -> None:
    for captured in dialogue(name):
        assert header_for(captured.command).value == captured.header
        if captured.command in CONTROL | FIRST:
            (found,) = FrameDecoder().feed(frame(captured.command, captured.payload))
            assert (found.header.value, found.command, found.payload) == (
                captured.header,
                captured.command,
                captured.payload,
            )


def test_every_control_packet_travels_on_the_socket_that_its_class_names():
    for name in names():
        for captured in dialogue(name):
            if captured.command in CONTROL and captured.socket != "?":
                packet = unpack(captured.command, captured.payload, AGREED.version, AGREED.features)
                assert packet.socket.name.lower() == captured.socket


def test_the_states_after_the_first_connection_say_both_inconsistent():
    states = [
        unpack(each.command, each.payload, AGREED.version, AGREED.features)
        for each in dialogue("01-first-connect")
        if each.command is Command.STATE
    ]
    assert states[0] == State(
        Role.SECONDARY,
        Role.UNKNOWN,
        ConnectionState.CONNECTING,
        ReplicationState.OFF,
        DiskState.INCONSISTENT,
        DiskState.UNKNOWN,
    )
    assert states[-1] == State(
        Role.SECONDARY,
        Role.SECONDARY,
        ConnectionState.CONNECTED,
        ReplicationState.ESTABLISHED,
        DiskState.INCONSISTENT,
        DiskState.INCONSISTENT,
    )


def test_a_forced_promotion_asks_for_the_role_and_the_disk_state():
    (request,) = [each for each in dialogue("02-initial-sync") if each.command is Command.STATE_CHG_REQ]
    packet = unpack(request.command, request.payload, AGREED.version, AGREED.features)
    assert packet == StateChangeRequest(Change(role=Role.PRIMARY, disk=DiskState.UP_TO_DATE))


def test_sizes_and_bits_are_those_of_the_captured_disks():
    packets = [
        unpack(each.command, each.payload, AGREED.version, AGREED.features)
        for each in dialogue("01-first-connect")
        if each.command in {Command.SIZES, Command.UUIDS}
    ]
    assert {packet.user_sectors for packet in packets if isinstance(packet, Sizes)} == {16384}
    assert {packet.bits_set for packet in packets if isinstance(packet, Uuids)} == {1984}
