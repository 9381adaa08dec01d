"""CONNECTION_FEATURES, the packets that name the sockets, and authentication."""

from __future__ import annotations

import struct

from pydrbd.model.packets import AuthChallenge, AuthResponse, ConnectionFeatures, InitialData, InitialMeta
from pydrbd.wire.errors import WireError
from pydrbd.wire.fields import exactly

_FEATURES = struct.Struct(">III60x")
_CHALLENGE_BYTES_MIN = 64
_CHALLENGE_BYTES_MAX = 128
_RESPONSE_BYTES_MAX = 128


def pack_features(packet: ConnectionFeatures) -> bytes:
    """Return the payload of `CONNECTION_FEATURES`."""
    return _FEATURES.pack(packet.version_min, packet.features, packet.version_max)


def unpack_features(payload: bytes) -> ConnectionFeatures:
    """Return `CONNECTION_FEATURES`; a highest version of 0 means the lowest (DRBD before 8.3.0). Raises `WireError`."""
    exactly(payload, _FEATURES.size, "CONNECTION_FEATURES")
    version_min, features, version_max = _FEATURES.unpack(payload)
    return ConnectionFeatures(version_min, features, version_max or version_min)


def unpack_initial_data(payload: bytes) -> InitialData:
    """Return `INITIAL_DATA`. Raises `WireError`."""
    exactly(payload, 0, "INITIAL_DATA")
    return InitialData()


def unpack_initial_meta(payload: bytes) -> InitialMeta:
    """Return `INITIAL_META`. Raises `WireError`."""
    exactly(payload, 0, "INITIAL_META")
    return InitialMeta()


def unpack_challenge(payload: bytes) -> AuthChallenge:
    """Return `AUTH_CHALLENGE`. Raises `WireError`."""
    if not _CHALLENGE_BYTES_MIN <= len(payload) <= _CHALLENGE_BYTES_MAX:
        raise WireError(f"an AUTH_CHALLENGE packet has {len(payload)} bytes")
    return AuthChallenge(bytes(payload))


def unpack_response(payload: bytes) -> AuthResponse:
    """Return `AUTH_RESPONSE`. Raises `WireError`."""
    if not 1 <= len(payload) <= _RESPONSE_BYTES_MAX:
        raise WireError(f"an AUTH_RESPONSE packet has {len(payload)} bytes")
    return AuthResponse(bytes(payload))
