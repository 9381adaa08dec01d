"""Challenge and response as kernel DRBD 8.4.11 made them."""

from __future__ import annotations

import socket

import pytest

from fakes.loop import run
from pydrbd.model.commands import Command
from pydrbd.node.link.authenticate import authenticate, response
from pydrbd.node.link.handshake import H100, MAGIC_H100, IncompatibleError

# From the golden capture 09-auth-integrity-connect: pollux challenges, castor answers.
CHALLENGE = bytes.fromhex(
    "e7f38d2d68d7d670d722dad1c6cb3dce28230ab6e89c9c14993793927c2162b3"
    "d4e2c37767bcc0f15a8bc0ea0dcdb1c548422c650b2e2be110c5be6599d2d9d5"
)
RESPONSE = bytes.fromhex("46d6147051e92be997ab1b9c21dabcbad2f849f16bc0866311281f700c175288")


def test_the_kernels_challenge_gets_the_kernels_response():
    assert response(b"castor and pollux", "sha256", CHALLENGE) == RESPONSE


def test_an_algorithm_that_the_host_lacks_is_said():
    with pytest.raises(IncompatibleError, match="cram-hmac-alg sha257"):
        response(b"x", "sha257", b"")


@pytest.mark.parametrize(
    ("command", "payload", "sentence"),
    [
        (Command.AUTH_CHALLENGE, b"short", "has 5 bytes"),
        (Command.AUTH_CHALLENGE, b"x" * 129, "has 129 bytes"),
        (Command.AUTH_RESPONSE, b"x" * 32, "in place of AUTH_CHALLENGE"),
        (0x0B, b"x" * 25, "must be the same on both nodes"),
    ],
)
def test_what_is_no_challenge_is_refused(command: int, payload: bytes, sentence: str):
    async def body() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.sendall(H100.pack(MAGIC_H100, 0, command, len(payload), 0) + payload)
        with pytest.raises(IncompatibleError, match=sentence):
            await authenticate(ours, "sha256", "secret")
        ours.close()
        theirs.close()

    run(body())


def test_our_own_challenge_reflected_is_refused():
    async def body() -> None:
        import asyncio

        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        attempt = asyncio.ensure_future(authenticate(ours, "sha256", "secret"))
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(theirs, await loop.sock_recv(theirs, 1000))
        with pytest.raises(IncompatibleError, match="reflects"):
            await attempt
        ours.close()
        theirs.close()

    run(body())
