"""Facts of the engine, and their translation into the model's events.

`Fact` is the engine's `struct core_fact` as a value. `to_event` knows the model but not the wire: a control packet is
decoded by a callable that the caller passes in, so that this room stays ignorant of packets. Enumerations repeat
`core_api.h`; a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, assert_never

from pydrbd.model import events


class FactType(IntEnum):
    """`enum core_fact_type`."""

    DONE = 1
    PACKET = 2
    PEER_LOST = 3
    FIRST_WRITE = 4
    BITMAP_RECEIVED = 5
    RESYNC_DONE = 6
    DISK_FAILED = 7
    PEER_DISK_FAILED = 8
    CLIENTS = 9
    DIED = 10
    VERIFY_DONE = 11
    OUT_OF_SYNC = 12
    DIGEST_FAILED = 13
    CONGESTED = 14
    PARKED = 15
    MENDED = 16


class LostReason(IntEnum):
    """`enum core_lost`."""

    CLOSED = 1
    BROKEN = 2
    PING = 3
    TIMEOUT = 4
    PROTOCOL = 5
    ORDERED = 6


class DiskOperation(IntEnum):
    """`enum core_disk_op`."""

    READ = 0
    WRITE = 1
    FLUSH = 2
    METADATA = 3
    TIMEOUT = 4


class Socket(IntEnum):
    """`enum core_socket`."""

    DATA = 0
    META = 1


@dataclass(frozen=True, slots=True)
class Fact:
    """One `struct core_fact`, copied out of the ring. `a` and `b` mean what `core_api.h` says for the type."""

    type: FactType
    result: int = 0
    token: int = 0
    a: int = 0
    b: int = 0
    socket: Socket = Socket.DATA
    command: int = 0
    volume: int = 0
    payload: bytes = b""


Decoder = Callable[[int, bytes], Any]
"""(command, payload) -> a packet of `pydrbd.wire`; raises `ValueError` for what the protocol does not allow."""

_LOST = {
    LostReason.CLOSED: events.Lost.CLOSED,
    LostReason.BROKEN: events.Lost.BROKEN,
    LostReason.PING: events.Lost.PING,
    LostReason.TIMEOUT: events.Lost.TIMEOUT,
    LostReason.PROTOCOL: events.Lost.PROTOCOL,
    LostReason.ORDERED: events.Lost.ORDERED,
}


def from_struct(ffi: Any, struct: Any) -> Fact:  # noqa: ANN401 - cffi has no types
    """Copy one `struct core_fact` out of C memory."""
    kind = FactType(struct.type)
    carries = kind in {FactType.PACKET, FactType.PARKED}
    payload = bytes(ffi.buffer(struct.payload, struct.length)) if carries else b""
    return Fact(
        type=kind,
        result=struct.result,
        token=struct.token,
        a=struct.a,
        b=struct.b,
        socket=Socket(struct.socket) if kind is FactType.PACKET else Socket.DATA,
        command=struct.command,
        volume=struct.volume,
        payload=payload,
    )


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns facts into events; fetches what events carry besides."""

    decode: Decoder
    new_uuid: Callable[[], int]
    bits_set: Callable[[], int]

    def to_event(self, fact: Fact) -> events.Event:
        """Return the event that `fact` means. Raises `ValueError` for a packet that `decode` refuses."""
        match fact.type:
            case FactType.PACKET:
                return self._packet(fact)
            case FactType.PEER_LOST:
                return events.PeerLost(_LOST[LostReason(fact.result)], fact.a, fact.b, self.new_uuid())
            case FactType.FIRST_WRITE:
                return events.FirstWriteHeld(self.new_uuid())
            case FactType.BITMAP_RECEIVED:
                return events.BitmapReceived(fact.a, self.new_uuid())
            case FactType.RESYNC_DONE:
                if fact.result < 0:
                    return events.ResyncDone(fact.a, thin_bits=fact.b)
                return events.ResyncDone(fact.a, fact.b, fact.result)
            case FactType.DISK_FAILED:
                operation = DiskOperation(fact.b).name.lower()
                return events.DiskFailed(operation, fact.a, -fact.result, self.new_uuid())
            case FactType.PEER_DISK_FAILED:
                return events.PeerDiskFailed(fact.a, self.new_uuid())
            case FactType.CLIENTS:
                return events.ClientsChanged(fact.a)
            case FactType.VERIFY_DONE:
                return events.VerifyDone(fact.a, fact.b, -fact.result, self.bits_set(), self.new_uuid())
            case FactType.OUT_OF_SYNC:
                return events.OutOfSyncFound(fact.a, fact.b)
            case FactType.DIGEST_FAILED:
                return events.DigestFailed(fact.a, fact.b)
            case FactType.CONGESTED:
                return events.Congested(fact.a, self.new_uuid())
            case FactType.MENDED:
                return events.BlockMended(fact.a, fact.b, -fact.result)
            case FactType.DONE | FactType.DIED | FactType.PARKED:
                raise ValueError(f"{fact.type.name} is not for the rules")
            case _:
                assert_never(fact.type)

    def _packet(self, fact: Fact) -> events.PacketReceived:
        if fact.volume != 0:
            raise ValueError(f"packet {fact.command:#x} for volume {fact.volume}, but the resource has volume 0 only")
        return events.PacketReceived(self.decode(fact.command, fact.payload), self.bits_set(), self.new_uuid())
