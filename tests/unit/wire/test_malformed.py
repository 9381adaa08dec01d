"""What is wrong with a packet is said in one sentence."""

import pytest

from pydrbd.model.commands import Command
from pydrbd.model.packets import Malformed, Skipped, SyncParam
from pydrbd.wire import Agreed, FrameDecoder, WireError, decode, frame, name_of, pack, unpack

STATE_REQUEST_OF_A_PART = bytes.fromhex("00000001 00000001")


@pytest.mark.parametrize(
    ("command", "payload", "sentence"),
    [
        (Command.STATE, b"\0\0", "a STATE packet has 2 bytes instead of 4"),
        (Command.STATE, b"\0\0\0\x03", "role 3, which does not exist"),
        (Command.STATE, bytes.fromhex("00001f02"), "disk state 15, which does not exist"),
        (Command.STATE, bytes.fromhex("00000192"), "connection state 25, which does not exist"),
        (Command.STATE_CHG_REQ, STATE_REQUEST_OF_A_PART, "a part of a field"),
        (Command.STATE_CHG_REQ, bytes.fromhex("00000003 00000010"), "asks for bits"),
        (Command.PROTOCOL, bytes(24), "a PROTOCOL packet has 24 bytes"),
        (Command.PROTOCOL, bytes(24) + b"crc32c", "does not end"),
        (Command.PROTOCOL, bytes(24) + b"\x07\0", "is not a name"),
        (Command.PROTOCOL, bytes(23) + b"\x02\0", "the peer says 2 for allow-two-primaries"),
        (Command.SIZES, b"\xff" * 8 + bytes(48), "larger than 8 EiB"),
        (Command.SIZES, bytes(56), "a request has at most 0 bytes"),
        (Command.UUIDS, bytes(47), "a UUIDS packet has 47 bytes instead of 48"),
        (Command.AUTH_CHALLENGE, bytes(63), "an AUTH_CHALLENGE packet has 63 bytes"),
        (Command.AUTH_RESPONSE, b"", "an AUTH_RESPONSE packet has 0 bytes"),
        (Command.DATA, bytes(24), "a packet DATA is not a control packet"),
        (0x55, b"", "a packet 0x55 is not a control packet"),
    ],
)
def test_a_wrong_packet_says_what_is_wrong(command: int, payload: bytes, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        unpack(command, payload, 101, 15)
    found = decode(command, payload, 101, 15)
    assert isinstance(found, Malformed)
    assert sentence in found.sentence


def test_an_unknown_optional_packet_is_passed_over() -> None:
    assert decode(0x123, b"whatever", 101, 15) == Skipped(0x123)


def test_a_protocol_older_than_100_is_refused() -> None:
    with pytest.raises(WireError, match="protocol 97"):
        unpack(Command.STATE, bytes(4), 97, 0)


def test_an_algorithm_name_that_does_not_fit_is_not_sent() -> None:
    with pytest.raises(WireError, match="longer than 63"):
        pack(SyncParam(250, verify_alg="x" * 64), Agreed())


def test_names_of_packets_for_the_log() -> None:
    assert name_of(0x2A) == "CONN_ST_CHG_REQ"
    assert name_of(0x77) == "0x77"


def test_a_packet_that_announces_too_much_is_refused_before_it_is_read() -> None:
    header = bytes.fromhex("8620ec20 0000 000e 00010000 00000000")
    decoder = FrameDecoder()
    with pytest.raises(WireError, match="announces 65536 bytes"):
        decoder.feed(header)
    with pytest.raises(WireError, match="already gone wrong"):
        decoder.feed(b"")


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n", b"\0" * 16, bytes.fromhex("8620ec20 0000 000e 00000000 00000001")]
)
def test_what_is_not_drbd_is_refused(garbage: bytes) -> None:
    with pytest.raises(WireError):
        FrameDecoder().feed(garbage)


def test_a_packet_waits_for_its_last_byte() -> None:
    decoder = FrameDecoder()
    whole = frame(Command.STATE, b"abcd")
    for byte in whole[:-1]:
        assert decoder.feed(bytes([byte])) == []
    (found,) = decoder.feed(whole[-1:])
    assert (found.command, found.payload) == (Command.STATE, b"abcd")


def test_the_old_header_for_large_packets_is_read() -> None:
    (found,) = FrameDecoder().feed(bytes.fromhex("835a 000e 00000004") + b"abcd")
    assert found.payload == b"abcd"
