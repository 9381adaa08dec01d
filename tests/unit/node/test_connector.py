"""Two connectors on 127.0.0.1 and 127.0.0.2: they find each other, whatever comes in between."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import socket
import struct

import pytest

from fakes.loop import free_port, run
from pydrbd.model.commands import Command
from pydrbd.node.link import handshake
from pydrbd.node.link.connector import HALF_OPEN_MAX, Connector, Endpoint, Link, Terms
from pydrbd.node.link.handshake import IncompatibleError, first_packet
from pydrbd.wire import Agreed

CASTOR, POLLUX, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def terms(local: str, peer: str, port: int, **more: object) -> Terms:
    patience = {"connect_int_s": 0.3, "ping_timeout_s": 0.1}
    return Terms(Endpoint(local, port), Endpoint(peer, port), **{**patience, **more})  # type: ignore[arg-type]


def both(port: int, **more: object) -> tuple[Connector, Connector]:
    return Connector(terms(CASTOR, POLLUX, port, **more)), Connector(terms(POLLUX, CASTOR, port, **more))


async def assert_joined(castor: Link, pollux: Link) -> None:
    """Each socket of one is the other end of the same socket of the other, empty, and one side resolves conflicts."""
    loop = asyncio.get_running_loop()
    for here, there in ((castor.data, pollux.data), (castor.meta, pollux.meta)):
        assert here.getsockname() == there.getpeername()
        assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await loop.sock_sendall(here, b"engine's first byte")
        assert await loop.sock_recv(there, 100) == b"engine's first byte"
    assert castor.resolve_conflicts is not pollux.resolve_conflicts
    castor.close()
    pollux.close()


@pytest.mark.parametrize("second_after_s", [0.0, 0.05, 0.4])
def test_two_nodes_find_each_other(second_after_s: float):
    async def body() -> None:
        castor, pollux = both(free_port(CASTOR, POLLUX))
        first = asyncio.ensure_future(castor.connect())
        await asyncio.sleep(second_after_s)
        links = await asyncio.gather(first, pollux.connect())
        assert links[0].agreed == links[1].agreed == Agreed()
        await assert_joined(*links)

    run(body())


@pytest.mark.parametrize("seed", range(6))
def test_crossed_attempts_end_in_one_pair(seed: int):
    async def body() -> None:
        port = free_port(CASTOR, POLLUX)
        castor = Connector(terms(CASTOR, POLLUX, port), random.Random(seed))
        pollux = Connector(terms(POLLUX, CASTOR, port), random.Random(seed + 100))
        # Both listen before either goes out, so that both reach the other at once.
        castor.listen()
        pollux.listen()
        await assert_joined(*await asyncio.gather(castor.connect(), pollux.connect()))

    run(body())


@pytest.mark.parametrize("seed", range(4))
def test_a_peer_that_knocked_at_an_inherited_door_is_let_in_and_not_crossed(seed: int):
    """Crossed, one of them would wait for connect-int before it tries again: a minute."""

    async def body() -> None:
        port = free_port(CASTOR, POLLUX)
        patience = {"connect_int_s": 60.0}
        before = Connector(terms(CASTOR, POLLUX, port, **patience))
        before.listen()
        listener = socket.socket(fileno=before.keep())
        pollux = Connector(terms(POLLUX, CASTOR, port, **patience), random.Random(seed))
        knocking = asyncio.ensure_future(pollux.connect())
        await asyncio.sleep(0.1)
        castor = Connector(terms(CASTOR, POLLUX, port, **patience), random.Random(seed + 100))
        castor.go_on(listener)
        async with asyncio.timeout(5):
            await assert_joined(*await asyncio.gather(castor.connect(), knocking))

    run(body())


def test_a_secret_known_to_both_lets_them_in():
    async def body() -> None:
        castor, pollux = both(free_port(CASTOR, POLLUX), cram_hmac_alg="sha256", shared_secret="castor and pollux")
        await assert_joined(*await asyncio.gather(castor.connect(), pollux.connect()))

    run(body())


def test_a_wrong_secret_ends_the_attempts_on_both_sides():
    async def body() -> None:
        port = free_port(CASTOR, POLLUX)
        castor = Connector(terms(CASTOR, POLLUX, port, cram_hmac_alg="sha256", shared_secret="one"))
        pollux = Connector(terms(POLLUX, CASTOR, port, cram_hmac_alg="sha256", shared_secret="other"))
        results = await asyncio.gather(castor.connect(), pollux.connect(), return_exceptions=True)
        for result in results:
            assert isinstance(result, IncompatibleError)
            assert "shared secret" in str(result)

    run(body())


def test_a_port_in_use_is_said_with_the_endpoint():
    port = free_port(CASTOR, POLLUX)
    with socket.socket() as other:
        other.bind((CASTOR, port))
        other.listen()
        with pytest.raises(OSError, match=f"cannot listen on {CASTOR}:{port}: Address already in use") as caught:
            both(port)[0].listen()
    assert caught.value.errno == errno.EADDRINUSE


def connect_from(address: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.bind((address, 0))
    sock.settimeout(2.0)
    sock.connect((CASTOR, port))
    return sock


def closed_by_castor(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


async def with_intruders(intrude: object, caplog: pytest.LogCaptureFixture) -> str:
    """Let somebody come in before the peer does; return what castor said. The peer gets in all the same."""
    caplog.set_level(logging.DEBUG)
    port = free_port(CASTOR, POLLUX)
    castor, pollux = both(port)
    first = asyncio.ensure_future(castor.connect())
    await asyncio.sleep(0.05)
    await asyncio.get_running_loop().run_in_executor(None, intrude, port)  # type: ignore[arg-type]
    await assert_joined(*await asyncio.gather(first, pollux.connect()))
    return caplog.text


def test_a_stranger_is_refused_before_anything_is_read(caplog: pytest.LogCaptureFixture):
    def intrude(port: int) -> None:
        with connect_from(STRANGER, port) as sock:
            assert closed_by_castor(sock)

    text = run(with_intruders(intrude, caplog))
    assert f"refused a connection from {STRANGER}: the peer is {POLLUX}" in text


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\0" * 64,
        handshake.H80.pack(handshake.MAGIC_H80, Command.INITIAL_DATA, 0xFFFF),
        handshake.H80.pack(handshake.MAGIC_H80, Command.CONNECTION_FEATURES, 0),
        b"\x83\x74",
    ],
)
def test_garbage_from_the_peers_address_is_refused(garbage: bytes, caplog: pytest.LogCaptureFixture):
    def intrude(port: int) -> None:
        with connect_from(POLLUX, port) as sock:
            sock.sendall(garbage)
            with contextlib.suppress(OSError):  # it may have been refused already
                sock.shutdown(socket.SHUT_WR)
            assert closed_by_castor(sock)

    assert f"refused a connection from {POLLUX}" in run(with_intruders(intrude, caplog))


def test_a_slow_one_meets_its_deadline_and_does_not_keep_the_peer_out(caplog: pytest.LogCaptureFixture):
    def intrude(port: int) -> None:
        with connect_from(POLLUX, port) as sock:
            sock.sendall(b"\x83")
            assert closed_by_castor(sock)

    assert "no packet named it in time" in run(with_intruders(intrude, caplog))


def test_half_open_sockets_are_limited(caplog: pytest.LogCaptureFixture):
    def intrude(port: int) -> None:
        socks = [connect_from(POLLUX, port) for _ in range(HALF_OPEN_MAX + 3)]
        assert all(closed_by_castor(sock) for sock in socks)
        for sock in socks:
            sock.close()

    assert f"{HALF_OPEN_MAX} others have not named themselves yet" in run(with_intruders(intrude, caplog))


FEATURES_OF_PEER = struct.Struct(">III60x")
FEATURES = FEATURES_OF_PEER.pack(86, 15, 101)
FEATURES_HEADER = handshake.H80.pack(handshake.MAGIC_H80, Command.CONNECTION_FEATURES, len(FEATURES))


@pytest.mark.parametrize(
    "said",
    [
        [],
        [first_packet(Command.INITIAL_DATA)],
        [first_packet(Command.INITIAL_DATA), first_packet(Command.INITIAL_META)],
        [first_packet(Command.INITIAL_DATA) + FEATURES_HEADER, first_packet(Command.INITIAL_META)],
        [first_packet(Command.INITIAL_DATA) + FEATURES_HEADER + FEATURES[:30], first_packet(Command.INITIAL_META)],
    ],
)
def test_a_peer_that_vanishes_at_any_step_is_awaited_again(said: list[bytes], caplog: pytest.LogCaptureFixture):
    def intrude(port: int) -> None:
        socks = []
        for data in said or [b""]:
            socks.append(connect_from(POLLUX, port))
            socks[-1].sendall(data)
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        # The connector has seen the end when it closes.
        assert all(closed_by_castor_after_data(sock) for sock in socks)
        for sock in socks:
            sock.close()

    run(with_intruders(intrude, caplog))


def closed_by_castor_after_data(sock: socket.socket) -> bool:
    try:
        while sock.recv(100):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (FEATURES_HEADER + FEATURES_OF_PEER.pack(110, 0, 121), "the peer speaks DRBD protocol 110 to 121"),
        (FEATURES_HEADER + FEATURES_OF_PEER.pack(86, 0, 99), "the peer speaks DRBD protocol 86 to 99"),
        (struct.pack(">IHH", handshake.MAGIC_H80, 0xFFFE, 8), "of 8 bytes in place of its protocol versions"),
        (struct.pack(">IHH", handshake.MAGIC_H80, 0x0B, 72), "packet 0xb of 72 bytes"),
    ],
)
def test_a_peer_of_another_dialect_ends_the_attempts(reply: bytes, sentence: str):
    async def body() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(reply)
        with pytest.raises(IncompatibleError, match=sentence):
            await handshake.agree(ours)
        ours.close()
        theirs.close()

    run(body())


def test_the_lower_of_the_highest_versions_and_the_common_features_are_chosen():
    async def body() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(FEATURES_HEADER + FEATURES_OF_PEER.pack(86, 15, 100) + b"next")
        assert await handshake.agree(ours) == Agreed(100, Agreed().features)
        assert ours.recv(100) == b"next"
        assert len(theirs.recv(200)) == 80
        ours.close()
        theirs.close()

    run(body())
