"""PROTOCOL, PROTOCOL_UPDATE and SYNC_PARAM89: what is configured."""

from __future__ import annotations

import struct

from pydrbd.model.packets import Protocol, ProtocolUpdate, SyncParam
from pydrbd.wire.errors import WireError
from pydrbd.wire.fields import ALGORITHM_BYTES, exactly, flag, padded, text_of

_PROTOCOL = struct.Struct(">6I")
"""wire protocol, after-sb-0pri, -1pri, -2pri, connection flags, two primaries (8.4 `struct p_protocol`); then a
text with its NUL."""
_SYNC_PARAM = struct.Struct(f">I{ALGORITHM_BYTES}s{ALGORITHM_BYTES}s4I")
"""rate, verify-alg, csums-alg, plan-ahead, delay-target, fill-target, max-rate (8.4 `struct p_rs_param_95`)."""
_DISCARD_MY_DATA = 1
_DRY_RUN = 2


def pack_protocol(packet: Protocol) -> bytes:
    """Return the payload of `PROTOCOL`."""
    flags = _DISCARD_MY_DATA * packet.discard_my_data | _DRY_RUN * packet.dry_run
    head = _PROTOCOL.pack(
        packet.wire_protocol,
        packet.after_sb_0pri,
        packet.after_sb_1pri,
        packet.after_sb_2pri,
        flags,
        packet.two_primaries,
    )
    return head + padded(packet.integrity_alg, len(packet.integrity_alg) + 1)


def unpack_protocol(payload: bytes) -> Protocol:
    """Return `PROTOCOL`. Raises `WireError`."""
    if not _PROTOCOL.size < len(payload) <= _PROTOCOL.size + ALGORITHM_BYTES:
        raise WireError(f"a PROTOCOL packet has {len(payload)} bytes")
    protocol, sb0, sb1, sb2, flags, two_primaries = _PROTOCOL.unpack_from(payload)
    return Protocol(
        wire_protocol=protocol,
        after_sb_0pri=sb0,
        after_sb_1pri=sb1,
        after_sb_2pri=sb2,
        discard_my_data=bool(flags & _DISCARD_MY_DATA),
        dry_run=bool(flags & _DRY_RUN),
        two_primaries=flag(two_primaries, "allow-two-primaries"),
        integrity_alg=text_of(payload[_PROTOCOL.size :], "PROTOCOL"),
    )


def pack_protocol_update(packet: ProtocolUpdate) -> bytes:
    """Return the payload of `PROTOCOL_UPDATE`."""
    return pack_protocol(packet.protocol)


def unpack_protocol_update(payload: bytes) -> ProtocolUpdate:
    """Return `PROTOCOL_UPDATE`. Raises `WireError`."""
    return ProtocolUpdate(unpack_protocol(payload))


def pack_sync_param(packet: SyncParam) -> bytes:
    """Return the payload of `SYNC_PARAM89`."""
    return _SYNC_PARAM.pack(
        packet.resync_rate_kib_s,
        padded(packet.verify_alg, ALGORITHM_BYTES),
        padded(packet.csums_alg, ALGORITHM_BYTES),
        packet.c_plan_ahead,
        packet.c_delay_target,
        packet.c_fill_target_sectors,
        packet.c_max_rate_kib_s,
    )


def unpack_sync_param(payload: bytes) -> SyncParam:
    """Return `SYNC_PARAM89`. Raises `WireError`."""
    exactly(payload, _SYNC_PARAM.size, "SYNC_PARAM89")
    rate, verify, csums, plan_ahead, delay, fill, max_rate = _SYNC_PARAM.unpack(payload)
    return SyncParam(
        resync_rate_kib_s=rate,
        verify_alg=text_of(verify, "SYNC_PARAM89"),
        csums_alg=text_of(csums, "SYNC_PARAM89"),
        c_plan_ahead=plan_ahead,
        c_delay_target=delay,
        c_fill_target_sectors=fill,
        c_max_rate_kib_s=max_rate,
    )
