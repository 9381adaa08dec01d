"""SIZES, UUIDS, SYNC_UUID and DELAY_PROBE: what a replica is."""

from __future__ import annotations

import struct

from pydrbd.model.generation import GenerationIds
from pydrbd.model.packets import DelayProbe, QueueLimits, Sizes, SyncUuid, UuidFlag, Uuids
from pydrbd.wire.errors import WireError
from pydrbd.wire.fields import U64, exactly

_SIZES = struct.Struct(">QQQIHH")
"""disk, configured, current size, largest request, queue order, flags (8.4 `struct p_sizes`)."""
_LIMITS = struct.Struct(">5IBBBx")
"""Block sizes, offset, minimal and optimal I/O, discard abilities (8.4 `struct o_qlim`)."""
_UUIDS = struct.Struct(">6Q")
_PROBE = struct.Struct(">II")
_ALL_FLAGS = sum(UuidFlag)


def pack_sizes(packet: Sizes, *, with_limits: bool) -> bytes:
    """Return the payload of `SIZES`, its tail only if both sides have the feature WSAME."""
    payload = _SIZES.pack(
        packet.disk_sectors,
        packet.user_sectors,
        packet.current_sectors,
        packet.max_bio_size_bytes,
        packet.queue_order_type,
        packet.dds_flags,
    )
    if not with_limits:
        return payload
    limits = packet.limits or QueueLimits()
    return payload + _LIMITS.pack(
        limits.physical_block_size,
        limits.logical_block_size,
        limits.alignment_offset,
        limits.io_min,
        limits.io_opt,
        limits.discard_enabled,
        limits.discard_zeroes_data,
        limits.write_same_capable,
    )


def unpack_sizes(payload: bytes, *, with_limits: bool) -> Sizes:
    """Return `SIZES`. Raises `WireError`."""
    exactly(payload, _SIZES.size + with_limits * _LIMITS.size, "SIZES")
    disk, user, current, max_bio_size, order, flags = _SIZES.unpack_from(payload)
    if max(disk, user, current) >= 1 << 54:
        raise WireError("the peer says that a disk is larger than 8 EiB")
    if max_bio_size < 512:
        raise WireError(f"the peer says that a request has at most {max_bio_size} bytes")
    limits = QueueLimits(*_LIMITS.unpack_from(payload, _SIZES.size)) if with_limits else None
    return Sizes(disk, user, current, max_bio_size, order, flags, limits)


def pack_uuids(packet: Uuids) -> bytes:
    """Return the payload of `UUIDS`."""
    ids = packet.ids
    return _UUIDS.pack(ids.current, ids.bitmap, ids.history0, ids.history1, packet.bits_set, packet.flags)


def unpack_uuids(payload: bytes) -> Uuids:
    """Return `UUIDS`; flags that we do not know are left away. Raises `WireError`."""
    exactly(payload, _UUIDS.size, "UUIDS")
    current, bitmap, history0, history1, bits_set, flags = _UUIDS.unpack(payload)
    return Uuids(GenerationIds(current, bitmap, history0, history1), bits_set, UuidFlag(flags & _ALL_FLAGS))


def pack_sync_uuid(packet: SyncUuid) -> bytes:
    """Return the payload of `SYNC_UUID`."""
    return U64.pack(packet.uuid)


def unpack_sync_uuid(payload: bytes) -> SyncUuid:
    """Return `SYNC_UUID`. Raises `WireError`."""
    exactly(payload, U64.size, "SYNC_UUID")
    return SyncUuid(U64.unpack(payload)[0])


def pack_delay_probe(packet: DelayProbe) -> bytes:
    """Return the payload of `DELAY_PROBE`."""
    return _PROBE.pack(packet.sequence, packet.offset_us)


def unpack_delay_probe(payload: bytes) -> DelayProbe:
    """Return `DELAY_PROBE`. Raises `WireError`."""
    exactly(payload, _PROBE.size, "DELAY_PROBE")
    return DelayProbe(*_PROBE.unpack(payload))
