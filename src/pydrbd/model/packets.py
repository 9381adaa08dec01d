"""The control packets of DRBD 8.4 as values; `pydrbd.wire` turns them into bytes and back.

Each class knows its packet number and the socket on which it travels. Numbers that rules compare are the model's
words; everything else is as the peer said it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import ClassVar

from pydrbd.model.commands import Command, Socket
from pydrbd.model.generation import GenerationIds
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role


class SizesFlag(IntFlag):
    """How a resize is meant (8.4 `enum dds_flags`)."""

    FORCED = 1
    NO_RESYNC = 2


class UuidFlag(IntFlag):
    """What a node says about itself beside its identifiers (8.4 `UI_FLAGS`)."""

    DISCARD_MY_DATA = 1
    CRASHED_PRIMARY = 2
    INCONSISTENT = 4
    SKIP_INITIAL_SYNC = 8
    # Two of our own, from the other end, where no DRBD has any: 8.4 and 9 look at the lowest bits alone.
    SURVIVED = 1 << 62
    """Its peer was lost while it was Primary; every write that the peer acknowledged is on this disk."""
    YIELDS = 1 << 63
    """It was Primary when it died, nobody has used it since, and it takes what a survivor has."""


NO_FLAGS = UuidFlag(0)


@dataclass(frozen=True, slots=True)
class Protocol:
    """The first packet after the features: what must be configured alike.

    The policies are 8.4's numbers (`model.policies`).
    """

    command: ClassVar[Command] = Command.PROTOCOL
    socket: ClassVar[Socket] = Socket.DATA
    wire_protocol: int
    after_sb_0pri: int = 0
    after_sb_1pri: int = 0
    after_sb_2pri: int = 0
    discard_my_data: bool = False
    dry_run: bool = False
    two_primaries: bool = False
    integrity_alg: str = ""


@dataclass(frozen=True, slots=True)
class ProtocolUpdate:
    """`PROTOCOL` again, on an established connection."""

    command: ClassVar[Command] = Command.PROTOCOL_UPDATE
    socket: ClassVar[Socket] = Socket.DATA
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class SyncParam:
    """Resync speed and digests (`SYNC_PARAM89`, the form of protocol 95 and later)."""

    command: ClassVar[Command] = Command.SYNC_PARAM89
    socket: ClassVar[Socket] = Socket.DATA
    resync_rate_kib_s: int
    verify_alg: str = ""
    csums_alg: str = ""
    c_plan_ahead: int = 20
    """Tenths of a second; 0 for a fixed rate."""
    c_delay_target: int = 10
    c_fill_target_sectors: int = 100
    c_max_rate_kib_s: int = 102400


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The tail of `SIZES` when both sides have the feature WSAME (8.4 `struct o_qlim`)."""

    physical_block_size: int = 512
    logical_block_size: int = 512
    alignment_offset: int = 0
    io_min: int = 512
    io_opt: int = 0
    discard_enabled: int = 1
    discard_zeroes_data: int = 0
    write_same_capable: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """All in 512-byte sectors; 0 for none."""

    command: ClassVar[Command] = Command.SIZES
    socket: ClassVar[Socket] = Socket.DATA
    disk_sectors: int
    """Room on the backing disk."""
    user_sectors: int
    """The configured size."""
    current_sectors: int
    """What the device has now."""
    max_bio_size_bytes: int = 1 << 20
    queue_order_type: int = 0
    dds_flags: int = 0
    limits: QueueLimits | None = field(default_factory=QueueLimits)


@dataclass(frozen=True, slots=True)
class Uuids:
    """A node's generation identifiers, the number of bits set in its bitmap, and flags."""

    command: ClassVar[Command] = Command.UUIDS
    socket: ClassVar[Socket] = Socket.DATA
    ids: GenerationIds
    bits_set: int = 0
    flags: UuidFlag = NO_FLAGS


@dataclass(frozen=True, slots=True)
class SyncUuid:
    """From the source, when the resync begins: the target's current identifier while it lasts."""

    command: ClassVar[Command] = Command.SYNC_UUID
    socket: ClassVar[Socket] = Socket.DATA
    uuid: int


@dataclass(frozen=True, slots=True)
class State:
    """The sender's view of both nodes (8.4 `union drbd_state`)."""

    command: ClassVar[Command] = Command.STATE
    socket: ClassVar[Socket] = Socket.DATA
    role: Role
    peer_role: Role
    connection: ConnectionState
    replication: ReplicationState
    disk: DiskState
    peer_disk: DiskState
    suspended: bool = False
    after_paused: bool = False
    """Resync paused for another resource (`resync-after`)."""
    peer_paused: bool = False
    user_paused: bool = False
    suspended_no_data: bool = False
    suspended_fencing: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A partial state: what the sender wants to become; None is left as it is.

    `connection` and `replication` go together.
    """

    role: Role | None = None
    peer_role: Role | None = None
    connection: ConnectionState | None = None
    replication: ReplicationState | None = None
    disk: DiskState | None = None
    peer_disk: DiskState | None = None


@dataclass(frozen=True, slots=True)
class StateChangeRequest:
    """May I? (`STATE_CHG_REQ`)."""

    command: ClassVar[Command] = Command.STATE_CHG_REQ
    socket: ClassVar[Socket] = Socket.DATA
    change: Change


@dataclass(frozen=True, slots=True)
class StateChangeReply:
    """A `ChangeResult`, or a number that only the peer knows; 1 and above mean yes."""

    command: ClassVar[Command] = Command.STATE_CHG_REPLY
    socket: ClassVar[Socket] = Socket.META
    result: int


@dataclass(frozen=True, slots=True)
class ConnectionChangeRequest:
    """As `StateChangeRequest`, about the whole connection (`CONN_ST_CHG_REQ`): a graceful disconnect."""

    command: ClassVar[Command] = Command.CONN_ST_CHG_REQ
    socket: ClassVar[Socket] = Socket.DATA
    change: Change


@dataclass(frozen=True, slots=True)
class ConnectionChangeReply:
    """As `StateChangeReply`."""

    command: ClassVar[Command] = Command.CONN_ST_CHG_REPLY
    socket: ClassVar[Socket] = Socket.META
    result: int


@dataclass(frozen=True, slots=True)
class DelayProbe:
    """A measurement that nothing depends on."""

    command: ClassVar[Command] = Command.DELAY_PROBE
    socket: ClassVar[Socket] = Socket.DATA
    sequence: int
    offset_us: int


@dataclass(frozen=True, slots=True)
class ConnectionFeatures:
    """What a node can speak; the only packet whose form never changes."""

    command: ClassVar[Command] = Command.CONNECTION_FEATURES
    socket: ClassVar[Socket] = Socket.DATA
    version_min: int
    features: int
    version_max: int


@dataclass(frozen=True, slots=True)
class InitialData:
    """Names the data socket."""

    command: ClassVar[Command] = Command.INITIAL_DATA
    socket: ClassVar[Socket] = Socket.DATA


@dataclass(frozen=True, slots=True)
class InitialMeta:
    """Names the meta socket."""

    command: ClassVar[Command] = Command.INITIAL_META
    socket: ClassVar[Socket] = Socket.META


@dataclass(frozen=True, slots=True)
class AuthChallenge:
    """64 random bytes to be answered with an HMAC."""

    command: ClassVar[Command] = Command.AUTH_CHALLENGE
    socket: ClassVar[Socket] = Socket.DATA
    challenge: bytes


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """The HMAC."""

    command: ClassVar[Command] = Command.AUTH_RESPONSE
    socket: ClassVar[Socket] = Socket.DATA
    response: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """What the peer sent makes no sense: the rules answer by dropping the connection. Never sent."""

    socket: ClassVar[Socket] = Socket.DATA
    sentence: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An optional packet that we do not know (numbers above 0x100): to be passed over. Never sent."""

    socket: ClassVar[Socket] = Socket.DATA
    number: int


Packet = (
    Protocol
    | ProtocolUpdate
    | SyncParam
    | Sizes
    | Uuids
    | SyncUuid
    | State
    | StateChangeRequest
    | StateChangeReply
    | ConnectionChangeRequest
    | ConnectionChangeReply
    | DelayProbe
    | ConnectionFeatures
    | InitialData
    | InitialMeta
    | AuthChallenge
    | AuthResponse
)
Received = Packet | Malformed | Skipped
