"""Orders that the rules give. The node carries them out one after another, each finished before the next begins.

The order of the effects in a list is a promise: what stands after a `PersistMetadata` happens only once that is
durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydrbd.model.generation import Beginning, GenerationIds, MdFlag
from pydrbd.model.refusals import Refusal


class Replication(Enum):
    """Where a write goes besides the local disk (`enum core_replication`)."""

    NONE = 0
    PEER = 1
    OUT_OF_SYNC = 2
    AHEAD = 3


class Reads(Enum):
    """Where a read is served from (`enum core_reads`)."""

    LOCAL = 0
    IN_SYNC = 1
    PEER = 2
    NONE = 3
    BALANCED = 4
    """Both disks are good: by the configured policy."""


class Gate(Enum):
    """What the export lets through (`enum core_gate`)."""

    OPEN = 0
    FIRST_WRITE = 1
    SUSPENDED = 2
    FAIL = 3
    """The export is being taken away: what waits fails."""


@dataclass(frozen=True, slots=True)
class PersistMetadata:
    """Write the superblock, whole and flushed.

    A failure comes back as `MetadataFailed` and the rest of the list is dropped.
    """

    ids: GenerationIds
    flags: MdFlag
    agreed_sectors: int
    began: Beginning | None = None
    """These identifiers begin a generation of ours, in this way; for the books alone."""


@dataclass(frozen=True, slots=True)
class SetSize:
    """The device has this many 512-byte sectors now; applications keep the old size until `ResizeExport`."""

    sectors: int
    out_of_sync_from: int | None = None
    """From this sector to the end nobody knows what the peer has: out of sync, in memory. None: nothing of that."""


@dataclass(frozen=True, slots=True)
class ResizeExport:
    """Applications may use this many sectors: what `SetSize` said, durable in the superblock since. Not waited for."""

    sectors: int


@dataclass(frozen=True, slots=True)
class WriteBitmap:
    """Make the bitmap on disk equal to the one in memory."""


@dataclass(frozen=True, slots=True)
class SetAllBits:
    """Every block is out of sync."""


@dataclass(frozen=True, slots=True)
class ClearAllBits:
    """Every block is in sync."""


@dataclass(frozen=True, slots=True)
class SetReplication:
    mode: Replication


@dataclass(frozen=True, slots=True)
class SetReads:
    source: Reads


@dataclass(frozen=True, slots=True)
class SetGate:
    gate: Gate


@dataclass(frozen=True, slots=True)
class SetAccept:
    """What the peer may ask of the engine (`CORE_ACCEPT_*`, added up)."""

    accept: int


@dataclass(frozen=True, slots=True)
class SetResyncing:
    """Let the other resources of this node know whether we resync, so that who comes after us waits."""

    resyncing: bool


@dataclass(frozen=True, slots=True)
class StartListening:
    """Listen and connect, until both sockets stand (then `SocketsReady`) or `StopListening`."""


@dataclass(frozen=True, slots=True)
class StopListening:
    """Give up connecting, close half-open sockets."""


@dataclass(frozen=True, slots=True)
class AdoptSockets:
    """Hand both sockets to the engine, which starts to read."""


@dataclass(frozen=True, slots=True)
class DropConnection:
    """Send what is queued, close both sockets; `PeerLost` with reason ORDERED follows."""


@dataclass(frozen=True, slots=True)
class SendPacket:
    """A control packet (a dataclass of `pydrbd.wire`), queued in its socket's stream behind what is there."""

    packet: Any


@dataclass(frozen=True, slots=True)
class ResumeReading:
    """The packet is dealt with: read on."""


@dataclass(frozen=True, slots=True)
class SendBitmap:
    """Queue our whole bitmap, packed if both sides can."""


@dataclass(frozen=True, slots=True)
class AnnounceBitmap:
    """Queue an OUT_OF_SYNC packet for every block that is."""


@dataclass(frozen=True, slots=True)
class Release:
    """After `PeerLost`: mark what is unstable out of sync, complete what is held."""


@dataclass(frozen=True, slots=True)
class StartResync:
    """We are target (ask for blocks) or source (mark in sync what the peer acknowledges)."""

    target: bool
    by_checksums: bool = False
    """As target: ask with the digest of what we have, so that nothing is sent that is equal (`csums-alg`)."""


@dataclass(frozen=True, slots=True)
class StopResync:
    """Ask for no more blocks; done when no resync write is in flight."""


@dataclass(frozen=True, slots=True)
class StartVerify:
    """Compare both replicas: as source from `start_sector` to `stop_sector` (None: the end); as target answer.

    Ends with `VerifyDone`.
    """

    source: bool
    start_sector: int = 0
    stop_sector: int | None = None


@dataclass(frozen=True, slots=True)
class LimitVerify:
    """As source: end at this sector; at once, if it is behind us."""

    stop_sector: int


@dataclass(frozen=True, slots=True)
class StopVerify:
    """Compare no more; `VerifyDone` says how far it came."""


@dataclass(frozen=True, slots=True)
class FlushDisk:
    """All completed writes of the backing disk are stable."""


@dataclass(frozen=True, slots=True)
class OpenExport:
    """The NBD socket appears."""

    block_bytes: int = 512
    """The smallest request that is taken there."""


@dataclass(frozen=True, slots=True)
class CloseExport:
    """The NBD socket goes; requests in flight are finished first."""


@dataclass(frozen=True, slots=True)
class DetachDisk:
    """Give the backing disk up. `force`: without waiting for what is under way on it."""

    force: bool = False


@dataclass(frozen=True, slots=True)
class KeepDisk:
    """Go on with a disk that failed to read or write: what it refused is marked, and lives by the peer."""


@dataclass(frozen=True, slots=True)
class StartTimer:
    name: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class StopTimer:
    name: str


@dataclass(frozen=True, slots=True)
class RunHandler:
    """Call a handler of the configuration, in the background."""

    name: str


@dataclass(frozen=True, slots=True)
class Say:
    """One sentence for the log: what was decided, by which rule (empty for plain facts). `level` is logging's."""

    sentence: str
    rule: str = ""
    level: int = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """The user's command is done, or refused."""

    token: int
    refusal: Refusal | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """The last effect of `down`: the daemon ends."""


Effect = (
    PersistMetadata
    | SetSize
    | ResizeExport
    | WriteBitmap
    | SetAllBits
    | ClearAllBits
    | SetReplication
    | SetReads
    | SetGate
    | SetAccept
    | SetResyncing
    | StartListening
    | StopListening
    | AdoptSockets
    | DropConnection
    | SendPacket
    | ResumeReading
    | SendBitmap
    | AnnounceBitmap
    | Release
    | StartResync
    | StopResync
    | StartVerify
    | LimitVerify
    | StopVerify
    | FlushDisk
    | OpenExport
    | CloseExport
    | DetachDisk
    | KeepDisk
    | StartTimer
    | StopTimer
    | RunHandler
    | Say
    | Answer
    | Exit
)
