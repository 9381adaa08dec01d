"""Mutual authentication with a shared secret, `cram-hmac-alg` (DRBD 8.4 `drbd_do_auth`).

Each side sends a random challenge and answers the other's with an HMAC under the secret. It proves at connect that the
peer knows the secret; it encrypts and signs nothing that follows. Answers are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket

from pydrbd.model.commands import Command
from pydrbd.node.link.handshake import H100, IncompatibleError, receive_exactly, receive_packet, send
from pydrbd.wire import frame

CHALLENGE_BYTES = 64
CHALLENGE_BYTES_MAX = 128


def response(secret: bytes, algorithm: str, challenge: bytes) -> bytes:
    """Return the answer to a challenge. Raises `IncompatibleError` for an algorithm that this host does not have."""
    try:
        hashlib.new(algorithm, usedforsecurity=False)
    except ValueError as error:
        raise IncompatibleError(f"cram-hmac-alg {algorithm} is not available on this host") from error
    return hmac.digest(secret, challenge, algorithm)


async def authenticate(sock: socket.socket, algorithm: str, secret: str) -> None:
    """Prove to the peer that we know the secret, and make it prove the same. Raises `IncompatibleError`."""
    key = secret.encode()
    challenge = secrets.token_bytes(CHALLENGE_BYTES)
    expected = response(key, algorithm, challenge)
    await _send(sock, Command.AUTH_CHALLENGE, challenge)
    peers = await _receive(sock, Command.AUTH_CHALLENGE, CHALLENGE_BYTES, CHALLENGE_BYTES_MAX)
    if peers[:CHALLENGE_BYTES] == challenge:
        raise IncompatibleError("the peer sent our own challenge back; somebody reflects our packets")
    await _send(sock, Command.AUTH_RESPONSE, response(key, algorithm, peers))
    answer = await _receive(sock, Command.AUTH_RESPONSE, len(expected), len(expected))
    if not hmac.compare_digest(answer, expected):
        raise IncompatibleError("the peer does not know the shared secret")


async def _send(sock: socket.socket, command: Command, payload: bytes) -> None:
    await send(sock, frame(command, payload))


async def _receive(sock: socket.socket, expected: Command, length_min: int, length_max: int) -> bytes:
    command, length = await receive_packet(sock, H100)
    if command != expected:
        raise IncompatibleError(
            f"the peer sent packet {command:#x} in place of {expected.name}; "
            "cram-hmac-alg and shared-secret must be the same on both nodes"
        )
    if not length_min <= length <= length_max:
        raise IncompatibleError(
            f"the peer's {expected.name} has {length} bytes; is cram-hmac-alg the same on both nodes?"
        )
    return await receive_exactly(sock, length)
