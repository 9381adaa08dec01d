"""Goal: whatever a client says, it gets the specification's answer or a disconnect, and the next client is served.

Setup: a server on a UNIX socket, here the NBD room's own over memory; every case is one raw connection. PASS: the
answer is the expected one, the stream is in step after every error reply, and nothing hangs. docs/nbd.md says what each
case should get.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from helpers import nbd_memory_server
from helpers.nbd_memory_server import MIB, NbdServer
from helpers.nbd_prober import (
    ACK,
    BLOCK_STATUS,
    CACHE,
    COOKIE,
    DF,
    DISC,
    EINVAL,
    ENOSPC,
    ENOTSUP,
    FAST_ZERO,
    FLUSH,
    FUA,
    INVALID,
    NO_HOLE,
    OPT_ABORT,
    OPT_EXPORT_NAME,
    OPT_EXTENDED_HEADERS,
    OPT_GO,
    OPT_INFO,
    OPT_LIST,
    OPT_LIST_META_CONTEXT,
    OPT_PEEK_EXPORT,
    OPT_SET_META_CONTEXT,
    OPT_STARTTLS,
    OPT_STRUCTURED_REPLY,
    PAYLOAD_LEN,
    POLICY,
    READ,
    REQ_ONE,
    RESIZE,
    TRIM,
    UNKNOWN,
    UNSUP,
    WRITE,
    WRITE_ZEROES,
    Prober,
    info,
    meta_context,
)

END = object()  # stands for the export's size, which differs from server to server
WRAP = (1 << 64) - 512


@pytest.fixture(scope="module", params=["memory"])
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NbdServer]:
    folder = tmp_path_factory.mktemp("nbd")
    with nbd_memory_server.running(nbd_memory_server.compiled(folder), folder / "socket") as running:
        yield running


def id_of(value: object) -> str | None:
    return value if isinstance(value, str) else ""


REFUSED_OPTIONS = [
    ("unknown option", 99, b"x" * 1000, UNSUP),
    ("unknown option with 64 KiB", 0xFFFFFFFF, b"x" * 65536, UNSUP),
    ("option 0", 0, b"", UNSUP),
    ("PEEK_EXPORT", OPT_PEEK_EXPORT, b"name", UNSUP),
    ("EXTENDED_HEADERS", OPT_EXTENDED_HEADERS, b"", UNSUP),
    ("STARTTLS", OPT_STARTTLS, b"", POLICY),
    ("STARTTLS with data", OPT_STARTTLS, b"tls", INVALID),
    ("LIST with data", OPT_LIST, b"x", INVALID),
    ("STRUCTURED_REPLY with data", OPT_STRUCTURED_REPLY, b"x", INVALID),
    (
        "SET_META_CONTEXT before STRUCTURED_REPLY",
        OPT_SET_META_CONTEXT,
        meta_context(queries=(b"base:allocation",)),
        INVALID,
    ),
    ("LIST_META_CONTEXT before STRUCTURED_REPLY", OPT_LIST_META_CONTEXT, meta_context(), INVALID),
]
BAD_INFO = [
    ("empty", b"", INVALID),
    ("three bytes", b"\0\0\0", INVALID),
    ("no count", b"\0\0\0\0", INVALID),
    ("half a count", b"\0\0\0\0\0", INVALID),
    ("a type announced, none there", info(count=1), INVALID),
    ("65535 types announced, one there", info(types=(3,), count=0xFFFF), INVALID),
    ("half a type", info(count=1) + b"\0", INVALID),
    ("trailing garbage", info() + b"xy", INVALID),
    ("name one short", info(b"abcd", length=5), INVALID),
    ("name longer than the option", info(b"abcd", length=1000), INVALID),
    ("name length 0xffffffff", info(length=0xFFFFFFFF), INVALID),
    ("name length 0xfffffffe", info(length=0xFFFFFFFE), INVALID),
    ("name length 0xfffffff0", info(length=0xFFFFFFF0), INVALID),
    ("name length that wraps to zero", info(b"abcd", length=0xFFFFFFFA), INVALID),
    ("name of 4097 bytes", info(b"n" * 4097), INVALID),
    ("name of 5000 bytes", info(b"n" * 5000), INVALID),
    ("name of 4096 bytes", info(b"n" * 4096), UNKNOWN),
    ("name of 4095 bytes", info(b"n" * 4095), UNKNOWN),
    ("name of 257 bytes", info(b"n" * 257), UNKNOWN),
    ("name of 256 bytes", info(b"n" * 256), UNKNOWN),
    ("name of 255 bytes", info(b"n" * 255), UNKNOWN),
    ("name that is not UTF-8", info(b"\xff\xfe\0"), UNKNOWN),
]
BAD_META_CONTEXT = [
    ("empty", b"", INVALID),
    ("more queries than data", meta_context(queries=(b"base:",), count=2), INVALID),
    ("more data than queries", meta_context(queries=(b"base:",), count=0), INVALID),
    ("2^32-1 queries", meta_context(count=0xFFFFFFFF), INVALID),
    ("query length 0xffffffff", meta_context(count=1) + b"\xff\xff\xff\xff", INVALID),
    ("name length 0xffffffff", meta_context(length=0xFFFFFFFF), INVALID),
    ("query of 5000 bytes", meta_context(queries=(b"q" * 5000,)), INVALID),
    ("unknown export", meta_context(b"stranger"), UNKNOWN),
]
DROPPED_OPTIONS = [
    ("wrong magic", b"IHAVEOPU" + struct.pack(">II", OPT_LIST, 0)),
    ("length 0xffffffff", b"IHAVEOPT" + struct.pack(">II", OPT_LIST, 0xFFFFFFFF)),
    ("length 64 MiB + 1", b"IHAVEOPT" + struct.pack(">II", OPT_INFO, 64 * MIB + 1)),
    ("GO of 4 GiB - 1", b"IHAVEOPT" + struct.pack(">II", OPT_GO, 0xFFFFFFFF)),
    ("EXPORT_NAME of 4 GiB - 1", b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 0xFFFFFFFF)),
    ("EXPORT_NAME of 4 GiB - 2", b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 0xFFFFFFFE)),
    ("EXPORT_NAME of 4097", b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 4097)),
    ("EXPORT_NAME of 4096, unknown", b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 4096) + b"n" * 4096),
    ("EXPORT_NAME of a stranger", b"IHAVEOPT" + struct.pack(">II", OPT_EXPORT_NAME, 8) + b"stranger"),
    ("65 options", (b"IHAVEOPT" + struct.pack(">II", 99, 0)) * 65),
    ("2000 options", (b"IHAVEOPT" + struct.pack(">II", OPT_LIST, 0)) * 2000),
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
]
# Command, offset, length, flags, error. A WRITE comes with its payload.
REQUESTS = [
    ("read past the end", READ, (END, -511), 512, 0, EINVAL),
    ("read at 2^64-512", READ, (WRAP, 0), 1024, 0, EINVAL),
    ("read of 32 MiB + 512", READ, (0, 0), 32 * MIB + 512, 0, EINVAL),
    ("read of 64 MiB + 1", READ, (0, 0), 64 * MIB + 1, 0, EINVAL),
    ("read of 2 GiB", READ, (0, 0), 1 << 31, 0, EINVAL),
    ("read of 4 GiB - 1", READ, (0, 0), 0xFFFFFFFF, 0, EINVAL),
    ("read with NO_HOLE", READ, (0, 0), 512, NO_HOLE, EINVAL),
    ("read with FUA", READ, (0, 0), 512, FUA, 0),
    ("read of 0", READ, (0, 0), 0, 0, 0),
    ("write past the end", WRITE, (END, -511), 512, 0, ENOSPC),
    ("write at 2^64-512", WRITE, (WRAP, 0), 1024, 0, ENOSPC),
    ("write of 1 MiB + 1 past the end", WRITE, (END, 0), MIB + 1, 0, ENOSPC),
    ("write of 32 MiB - 1 past the end", WRITE, (END, -MIB), 32 * MIB - 1, 0, ENOSPC),
    ("write of 33 MiB", WRITE, (0, 0), 33 * MIB, 0, EINVAL),
    ("write of 64 MiB", WRITE, (0, 0), 64 * MIB, 0, EINVAL),
    ("write with NO_HOLE", WRITE, (0, 0), 512, NO_HOLE, EINVAL),
    ("write with DF", WRITE, (0, 0), 512, DF, EINVAL),
    ("write with PAYLOAD_LEN", WRITE, (0, 0), 512, PAYLOAD_LEN, EINVAL),
    ("write with an unknown flag", WRITE, (0, 0), 512, 0x4000, EINVAL),
    ("write of 0", WRITE, (0, 0), 0, 0, 0),
    ("flush with an offset and a length", FLUSH, (512, 0), 512, 0, 0),
    ("flush with an unknown flag", FLUSH, (0, 0), 0, 0x4000, EINVAL),
    ("trim past the end", TRIM, (END, -511), 512, 0, EINVAL),
    ("trim of 0xfffffe00", TRIM, (0, 0), 0xFFFFFE00, 0, EINVAL),
    ("trim at 2^64-512", TRIM, (WRAP, 0), 1024, 0, EINVAL),
    ("trim of 0", TRIM, (0, 0), 0, 0, 0),
    ("write zeroes past the end", WRITE_ZEROES, (END, -511), 512, 0, ENOSPC),
    ("write zeroes at 2^64-512", WRITE_ZEROES, (WRAP, 0), 1024, 0, ENOSPC),
    ("write zeroes with DF", WRITE_ZEROES, (0, 0), 512, DF, EINVAL),
    ("write zeroes of 0", WRITE_ZEROES, (0, 0), 0, 0, 0),
    ("cache past the end", CACHE, (END, -511), 512, 0, EINVAL),
    ("cache with REQ_ONE", CACHE, (0, 0), 512, REQ_ONE, EINVAL),
    ("block status without a context", BLOCK_STATUS, (0, 0), 512, 0, EINVAL),
    ("block status of 0xffffffff", BLOCK_STATUS, (0, 0), 0xFFFFFFFF, REQ_ONE, EINVAL),
    ("resize", RESIZE, (MIB, 0), 0, 0, EINVAL),
    ("unknown command", 99, (0, 0), 0xFFFFFFFF, 0, EINVAL),
]
DROPPED_REQUESTS = [
    ("magic 0", b"\0" * 28),
    ("the old magic", struct.pack(">IHHQQI", 0x12560953, 0, FLUSH, 0, 0, 0)),
    ("the transaction log's magic", struct.pack(">IHHQQI", 0x25609514, 0, FLUSH, 0, 0, 0)),
    ("an extended request", struct.pack(">IHHQQQ", 0x21E41C71, 0, FLUSH, 0, 0, 0)),
    ("an option", b"IHAVEOPT" + struct.pack(">II", OPT_LIST, 0) + b"\0" * 12),
    ("write of 64 MiB + 1", struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 0, 0, 64 * MIB + 1)),
    ("write of 2 GiB", struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 0, 0, 1 << 31)),
    ("write of 4 GiB - 1", struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 0, 0, 0xFFFFFFFF)),
]


@pytest.mark.parametrize("flag", [1 << bit for bit in (2, 3, 15, 16, 31)])
def test_unknown_client_flag_is_dropped(server: NbdServer, flag: int) -> None:
    with Prober.greeted(server.path, 3 | flag) as prober:
        prober.option(OPT_LIST)
        assert prober.is_dropped()


def test_client_without_fixed_newstyle_is_refused_or_dropped(server: NbdServer) -> None:
    with Prober.greeted(server.path, 0) as prober:
        prober.option(OPT_LIST)
        with contextlib.suppress(ConnectionError):
            assert prober.option_reply(OPT_LIST)[0] == INVALID


@pytest.mark.parametrize(("what", "number", "data", "error"), REFUSED_OPTIONS, ids=id_of)
def test_refused_option_leaves_the_stream_in_step(
    server: NbdServer, what: str, number: int, data: bytes, error: int
) -> None:
    with Prober.greeted(server.path) as prober:
        prober.option(number, data)
        assert prober.option_reply(number)[0] == error, what
        assert prober.option_is_in_step()


@pytest.mark.parametrize("number", [OPT_INFO, OPT_GO], ids=["INFO", "GO"])
@pytest.mark.parametrize(("what", "data", "error"), BAD_INFO, ids=id_of)
def test_malformed_info_and_go_are_refused_in_step(
    server: NbdServer, number: int, what: str, data: bytes, error: int
) -> None:
    with Prober.greeted(server.path) as prober:
        prober.option(number, data)
        assert prober.option_reply(number)[0] == error, what
        assert prober.option_is_in_step()


@pytest.mark.parametrize(("what", "data", "error"), BAD_META_CONTEXT, ids=id_of)
def test_malformed_meta_context_is_refused_in_step(server: NbdServer, what: str, data: bytes, error: int) -> None:
    with Prober.greeted(server.path) as prober:
        prober.option(OPT_STRUCTURED_REPLY)
        assert prober.option_reply(OPT_STRUCTURED_REPLY)[0] == ACK
        prober.option(OPT_SET_META_CONTEXT, data)
        assert prober.option_reply(OPT_SET_META_CONTEXT)[0] == error, what
        assert prober.option_is_in_step()


@pytest.mark.parametrize(("what", "data"), DROPPED_OPTIONS, ids=id_of)
def test_hopeless_option_is_dropped(server: NbdServer, what: str, data: bytes) -> None:
    with Prober.greeted(server.path) as prober:
        prober.send(data)
        deadline = time.monotonic() + 3
        while not prober.is_dropped():  # the options before the one too many may have been answered
            assert time.monotonic() < deadline, what


@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case[0])
def test_request_gets_its_answer_and_the_stream_stays_in_step(
    server: NbdServer, case: tuple[str, int, tuple[object, int], int, int, int], structured: bool
) -> None:
    what, command, start, length, flags, error = case
    base = server.size_bytes if start[0] is END else start[0]
    assert isinstance(base, int)
    with Prober.in_transmission(server.path, structured=structured) as prober:
        payload = b"\0" * length if command == WRITE else b""
        reply = prober.ask(command, base + start[1], length, flags=flags, payload=payload)
        assert reply.error == error, what
        assert prober.is_in_step()


def test_df_needs_structured_replies(server: NbdServer) -> None:
    with Prober.in_transmission(server.path) as prober:
        assert prober.ask(READ, 0, 512, flags=DF).error == EINVAL
        assert prober.is_in_step()
    with Prober.in_transmission(server.path, structured=True) as prober:
        assert len(prober.ask(READ, 0, 65536, flags=DF).data) == 65536
        assert prober.is_in_step()


def test_fast_zero_is_done_or_not_supported(server: NbdServer) -> None:
    with Prober.in_transmission(server.path) as prober:
        assert prober.ask(WRITE_ZEROES, 0, 4096, flags=FAST_ZERO).error in {0, ENOTSUP}
        assert prober.is_in_step()


@pytest.mark.parametrize(("what", "data"), DROPPED_REQUESTS, ids=id_of)
def test_hopeless_request_is_dropped(server: NbdServer, what: str, data: bytes) -> None:
    with Prober.in_transmission(server.path) as prober:
        prober.send(data)
        assert prober.is_dropped(), what


def test_abort_is_acknowledged_then_closed(server: NbdServer) -> None:
    with Prober.greeted(server.path) as prober:
        prober.option(OPT_ABORT)
        assert prober.option_reply(OPT_ABORT) == (ACK, b"")
        assert prober.is_dropped()


@pytest.mark.parametrize(("flags", "length"), [(3, 10), (1, 134), (2, 10), (0, 134)])
def test_export_name_is_answered_with_exactly_its_bytes(server: NbdServer, flags: int, length: int) -> None:
    with Prober.greeted(server.path, flags) as prober:
        prober.option(OPT_EXPORT_NAME)
        answer = prober.take(length)
        assert int.from_bytes(answer[:8]) == server.size_bytes < 1 << 63
        assert answer[10:] == bytes(length - 10)
        assert prober.is_in_step()  # a byte too many would stand here


def test_info_and_go_say_the_same(server: NbdServer) -> None:
    with Prober.greeted(server.path) as prober:
        answers = []
        for number in (OPT_INFO, OPT_INFO, OPT_GO):
            prober.option(number, info(types=(3, 1, 2, 77)))
            replies = [prober.option_reply(number)]
            while replies[-1][0] != ACK:
                replies.append(prober.option_reply(number))
            answers.append(replies)
        assert answers[0] == answers[1] == answers[2]


def test_options_in_odd_order(server: NbdServer) -> None:
    with Prober.greeted(server.path) as prober:
        prober.option(OPT_INFO, info(b"stranger"))
        assert prober.option_reply(OPT_INFO)[0] == UNKNOWN
        prober.option(OPT_STRUCTURED_REPLY)
        assert prober.option_reply(OPT_STRUCTURED_REPLY)[0] == ACK
        prober.option(OPT_SET_META_CONTEXT, meta_context(queries=(b"base:allocation", b"base:allocation")))
        assert prober.option_reply(OPT_SET_META_CONTEXT) == (ACK, b"")
        prober.option(OPT_GO, info(b"stranger"))
        assert prober.option_reply(OPT_GO)[0] == UNKNOWN
        assert prober.option_is_in_step()


def test_disc_right_behind_a_write_loses_no_reply(server: NbdServer) -> None:
    for _ in range(20):
        with Prober.in_transmission(server.path) as prober:
            head = struct.pack(">IHHQQI", 0x25609513, FUA, WRITE, COOKIE, 0, 4096)
            prober.send(head + b"\0" * 4096 + struct.pack(">IHHQQI", 0x25609513, 0, DISC, 7, 0, 0))
            assert prober.reply(WRITE).error == 0
            assert prober.is_dropped()


def conversation() -> bytes:
    request = struct.pack(">IHHQQI", 0x25609513, 0, WRITE, 1, 0, 64) + b"\0" * 64
    go = info(b"", (3,))
    return b"\0\0\0\3IHAVEOPT" + struct.pack(">II", OPT_GO, len(go)) + go + request + request


def test_client_may_vanish_after_any_byte(server: NbdServer) -> None:
    talk = conversation()
    for length in range(len(talk)):
        with Prober.connect(server.path) as prober:
            prober.send(talk[:length])
            if length % 2:  # half of them with the server's answers unread
                prober.take(18)
    with Prober.in_transmission(server.path) as prober:
        assert prober.is_in_step()


def test_conversation_byte_by_byte(server: NbdServer) -> None:
    with Prober.connect(server.path) as prober:
        for byte in conversation():
            prober.send(bytes((byte,)))
        prober.take(18 + 20 + 12 + 20 + 14 + 20)
        assert prober.reply(WRITE, cookie=1).error == 0
        assert prober.reply(WRITE, cookie=1).error == 0
        assert prober.is_in_step()


def test_client_that_does_not_read_is_not_read_either(server: NbdServer) -> None:
    with Prober.in_transmission(server.path) as prober:
        before = server.resident_bytes()
        asked = 0
        prober.sock.settimeout(0.5)
        head = struct.pack(">IHHQQI", 0x25609513, 0, READ, COOKIE, 0, MIB)
        with contextlib.suppress(TimeoutError):
            while asked < 100_000:
                asked += prober.sock.send(head * 100) // len(head)
        assert asked < 100_000, "the server took requests without end"
        assert server.resident_bytes() - before < 200 * MIB
        prober.sock.settimeout(10)
        assert prober.reply(READ, MIB).error == 0
    with Prober.in_transmission(server.path) as prober:
        assert prober.is_in_step()


def test_300_connections_then_300_half_open_ones_cost_little(server: NbdServer) -> None:
    before = server.resident_bytes()
    for opened in (b"", b"\0\0\0\3IHAVEOPT" + struct.pack(">II", OPT_GO, 60000)):
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                with contextlib.suppress(ConnectionError, BlockingIOError):
                    stack.enter_context(Prober.connect(server.path)).send(opened)
            assert server.resident_bytes() - before < 300 * MIB // 8
        with Prober.in_transmission(server.path) as prober:
            assert prober.is_in_step()


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "one byte now and then"])
def test_client_that_does_not_negotiate_is_dropped_at_the_deadline(server: NbdServer, drip: bool) -> None:
    begin = time.monotonic()
    with Prober.connect(server.path, timeout_s=server.handshake_s / 8) as prober:
        prober.take(18)
        dropped = False
        while not dropped:
            assert time.monotonic() - begin < 2 * server.handshake_s + 2, "still open"
            try:
                dropped = prober.is_dropped()
            except TimeoutError:
                prober.send(b"\0" if drip else b"")
        assert time.monotonic() - begin > server.handshake_s / 2


def test_client_that_resets_the_connection_leaves_no_trace(server: NbdServer) -> None:
    for _ in range(50):
        prober = Prober.in_transmission(server.path)
        prober.request(READ, 0, 8 * MIB)
        prober.request(WRITE, 0, 8 * MIB, payload=b"\0" * 1000)
        prober.sock.shutdown(socket.SHUT_RDWR)
        prober.sock.close()
    with Prober.in_transmission(server.path) as prober:
        assert prober.is_in_step()
