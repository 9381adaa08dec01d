"""Facts that the rules react to. Each is past tense, immutable, and carries what the rules may not fetch themselves.

`new_uuid` is 64 random bits drawn by the node, on the events after which the rules may have to begin a new generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydrbd.model.generation import GenerationIds, MdFlag


class Lost(Enum):
    """Why a peer was lost; the engine's words (`enum core_lost`) and the node's own."""

    CLOSED = "closed the connection"
    BROKEN = "the connection broke"
    PING = "PingAck did not arrive in time"
    TIMEOUT = "did not acknowledge writes in time (ko-count)"
    PROTOCOL = "sent what the protocol does not allow"
    ORDERED = "was disconnected"


# --- from the node itself -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attached:
    """The backing disk is open, its metadata read and its activity log applied; the engine has loaded the bitmap."""

    ids: GenerationIds
    flags: MdFlag
    device_uuid: int
    agreed_sectors: int
    """`la_size` of the superblock: the size last agreed on; 0 for never."""
    backing_sectors: int
    """Largest device that the backing disk has room for, its metadata taken off."""
    bits_set: int
    crashed_primary: bool
    """The activity log had to be applied: this node was Primary when it died."""
    new_uuid: int = 0
    token: int = 0
    """Of the command `attach`; 0: the node starts."""
    block_bytes: int = 512
    """The smallest request that the disk takes: its logical block."""


@dataclass(frozen=True, slots=True)
class SocketsReady:
    """Both sockets stand, features are agreed, authentication (if any) has passed.

    The engine does not hold them yet.
    """

    agreed_version: int
    features: int
    resolve_conflicts: bool
    """We accepted the meta socket (8.4's RESOLVE_CONFLICTS)."""
    bits_set: int = 0
    """Bits set in our bitmap at this moment."""
    backing_sectors: int = 0
    """The room on our backing disk now; 0: not looked at."""


@dataclass(frozen=True, slots=True)
class ClientsChanged:
    """So many clients hold the export open now."""

    clients: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that an effect had started has run out."""

    name: str
    bits_set: int = 0
    """Bits set in our bitmap at this moment."""
    unstable: int = 0
    """Writes that the peer has been sent and is not known to have on stable storage."""


@dataclass(frozen=True, slots=True)
class HandlerEnded:
    """A handler has ended, or was not there to be run (0, as `drbdadm` says then); over its deadline it is -1."""

    name: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class OthersResync:
    """These resources of this node resync, or rest in one, and are to be done before ours (`resync-after`)."""

    waits_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetadataFailed:
    """The superblock or the bitmap could not be written; `reason` is one sentence."""

    reason: str
    dropped: tuple[Any, ...] = ()
    """The effects behind the failed one, not carried out: the rules see to the answers and orders among them."""


# --- from the engine ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A control packet, decoded by `pydrbd.wire`. From the data socket: reading has stopped until `ResumeReading`."""

    packet: Any
    bits_set: int
    """Bits set in our bitmap at this moment."""
    new_uuid: int = 0
    backing_sectors: int = 0
    """With SIZES on an established link: the room on our backing disk now; 0: not looked at."""
    waits_for: tuple[str, ...] | None = None
    """With what may begin a resync: as `OthersResync`, at this moment; None: not looked at."""


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection is gone; writes that lack an acknowledgement are held until `Release`."""

    reason: Lost
    held: int
    unstable: int
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class FirstWriteHeld:
    """The first write since the gate was armed waits for a new generation."""

    new_uuid: int


@dataclass(frozen=True, slots=True)
class BitmapReceived:
    """The peer's whole bitmap is merged into ours; reading has stopped until `ResumeReading`."""

    bits_set: int
    new_uuid: int = 0
    waits_for: tuple[str, ...] | None = None
    """As `OthersResync`, at this moment; None: not looked at."""


@dataclass(frozen=True, slots=True)
class ResyncDone:
    """As target: every block that could be mended is, its data are flushed and the bitmap is written."""

    bits_left: int
    equal_bits: int = 0
    """By checksums: so many blocks were equal and not sent,"""
    equal_percent: int = -1
    """that is so much of what was compared; -1: nothing was."""
    thin_bits: int = 0
    """So many blocks were zeroes at the source, and were discarded here, not sent."""


@dataclass(frozen=True, slots=True)
class OutOfSyncFound:
    """A verify found the replicas to differ here."""

    sector: int
    sectors: int


@dataclass(frozen=True, slots=True)
class VerifyDone:
    """A verify has ended, and what it found is in the bitmap on disk."""

    found_bits: int
    position_sector: int
    """As source: everything before it is compared."""
    error: int = 0
    """A positive errno: ECANCELED for one that was stopped, or lost its peer."""
    bits_set: int = 0
    """Bits set in our bitmap at this moment."""
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class DigestFailed:
    """Data of the peer came damaged (`data-integrity-alg`) and were thrown away; `PeerLost` follows."""

    sector: int
    sectors: int


@dataclass(frozen=True, slots=True)
class BlockMended:
    """Our disk could not read these sectors, and has them again, durably, as the peer has them.

    `error`: a positive errno if it has not: ENODATA if the peer cannot read them either, ECANCELED if the peer could
    not go on giving; who reads them next begins anew.
    """

    sector: int
    sectors: int
    error: int = 0


@dataclass(frozen=True, slots=True)
class DiskFailed:
    """An operation on the backing disk failed.

    `operation` is ``read``, ``write``, ``flush``, ``metadata``, or ``timeout``: it did not end within `disk-timeout`;
    or ``removal``: the disk itself is gone.
    """

    operation: str
    sector: int
    error: int
    """A positive errno."""
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class PeerDiskFailed:
    """The peer answered a block with a negative acknowledgement."""

    sector: int
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class Congested:
    """Protocol A: more is in flight to the peer than `congestion-fill` or `congestion-extents` allow."""

    sectors: int
    new_uuid: int = 0


# --- from the user (each is answered by exactly one `Answer` effect with its token) ---------------------------------


@dataclass(frozen=True, slots=True)
class Promote:
    token: int
    force: bool = False
    new_uuid: int = 0
    human: bool = False
    """A person promotes, not a program; and `timeout_expired`: nobody came in time. For the books alone."""
    timeout_expired: bool = False


@dataclass(frozen=True, slots=True)
class Demote:
    token: int
    force: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    token: int
    discard_my_data: bool = False
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class Disconnect:
    token: int
    force: bool = False
    because: str = ""
    """The node's own reason to give the peer up: it may not talk to us. Empty for a user's command."""


@dataclass(frozen=True, slots=True)
class Invalidate:
    """Throw our data away and fetch the peer's (`peer=False`), or the other way round (`invalidate-remote`)."""

    token: int
    peer: bool = False
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare both replicas. Sectors of 512 bytes; None: from where the last one was interrupted, to the end."""

    token: int
    start_sector: int | None = None
    stop_sector: int | None = None
    repair: bool = False
    """Copy what differs, at once."""


@dataclass(frozen=True, slots=True)
class Outdate:
    token: int


@dataclass(frozen=True, slots=True)
class NewCurrentUuid:
    """Begin a generation by hand; `clear_bitmap` declares both disks equal, so that fresh ones need no first sync."""

    token: int
    clear_bitmap: bool = False
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class PauseSync:
    token: int
    paused: bool


@dataclass(frozen=True, slots=True)
class Detach:
    """Give the backing disk up, and go on by the peer's; `force`: even if there is none."""

    token: int
    force: bool = False


@dataclass(frozen=True, slots=True)
class Resize:
    """Grow the device: to `sectors`, or (0) to what is configured, or to all that both disks have room for."""

    token: int
    sectors: int = 0
    assume_clean: bool = False
    """The new blocks are the same on both disks: no resync of them."""
    assume_peer_has_space: bool = False
    """Not connected: the peer's disk has grown as well."""
    backing_sectors: int = 0
    """The room on our backing disk now; 0: as known."""
    new_uuid: int = 0


@dataclass(frozen=True, slots=True)
class SuspendIo:
    """Hold the applications' I/O (`suspend-io`), or let it go on whatever holds it (`resume-io`)."""

    token: int
    suspended: bool


@dataclass(frozen=True, slots=True)
class Down:
    """Stop: refused while Primary and held open, unless forced."""

    token: int
    force: bool = False


Event = (
    Attached
    | SocketsReady
    | ClientsChanged
    | TimerFired
    | HandlerEnded
    | OthersResync
    | MetadataFailed
    | PacketReceived
    | PeerLost
    | FirstWriteHeld
    | BitmapReceived
    | ResyncDone
    | OutOfSyncFound
    | VerifyDone
    | DigestFailed
    | BlockMended
    | DiskFailed
    | PeerDiskFailed
    | Congested
    | Promote
    | Demote
    | Connect
    | Disconnect
    | Invalidate
    | Verify
    | Outdate
    | NewCurrentUuid
    | PauseSync
    | Detach
    | SuspendIo
    | Resize
    | Down
)
