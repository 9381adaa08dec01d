"""Everything that the rules remember of one resource on one node, immutable.

`Options` is what the configuration says and never changes. `Link` exists from the moment both sockets stand until the
engine says that the peer is lost. `Metadata` is what is durable in the superblock, `Settings` what is in force in the
engine: the rules emit an order only where these differ from what the rest of the state asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydrbd.model.effects import Gate, Reads, Replication
from pydrbd.model.events import (
    Connect,
    Demote,
    Detach,
    Disconnect,
    Down,
    Invalidate,
    NewCurrentUuid,
    Outdate,
    PauseSync,
    Promote,
    Resize,
    SuspendIo,
    Verify,
)
from pydrbd.model.generation import Beginning, GenerationIds, MdFlag
from pydrbd.model.packets import QueueLimits, Sizes, SyncParam, Uuids
from pydrbd.model.policies import (
    AfterSplitBrain,
    Fencing,
    OnCongestion,
    OnIoError,
    OnNoData,
    ReadBalancing,
    RrConflict,
    WireProtocol,
)
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role

Command = (
    Promote
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
NO_MD_FLAGS = MdFlag(0)


@dataclass(frozen=True, slots=True)
class Options:
    """What the configuration says. Sizes in 512-byte sectors, 0 for "as large as the disks allow"."""

    resource: str = "r0"
    node_name: str = "this node"
    peer_name: str = "the peer"
    wire_protocol: WireProtocol = WireProtocol.C
    two_primaries: bool = False
    integrity_alg: str = ""
    csums_after_crash_only: bool = False
    sync: SyncParam = field(default_factory=lambda: SyncParam(resync_rate_kib_s=250))
    """Resync speed; verify-alg and csums-alg, which both nodes must have alike."""
    after_sb_0pri: AfterSplitBrain = AfterSplitBrain.DISCONNECT
    after_sb_1pri: AfterSplitBrain = AfterSplitBrain.DISCONNECT
    after_sb_2pri: AfterSplitBrain = AfterSplitBrain.DISCONNECT
    always_asbp: bool = False
    rr_conflict: RrConflict = RrConflict.DISCONNECT
    fencing: Fencing = Fencing.DONT_CARE
    on_io_error: OnIoError = OnIoError.DETACH
    on_no_data: OnNoData = OnNoData.IO_ERROR
    on_congestion: OnCongestion = OnCongestion.BLOCK
    read_balancing: ReadBalancing = ReadBalancing.PREFER_LOCAL
    handlers: frozenset[str] = frozenset()
    """Those that are configured."""
    user_sectors: int = 0
    """The `size` of the disk section."""
    max_bio_size_bytes: int = 1 << 20
    limits: QueueLimits = field(default_factory=QueueLimits)
    handshake_timeout_ms: int = 30_000
    answer_timeout_ms: int = 30_000
    bitmap_timeout_ms: int = 120_000
    reconnect_delay_ms: int = 1_000
    """Pause after a peer that broke the protocol; after any other loss we listen again at once."""


@dataclass(frozen=True, slots=True)
class Link:
    """One pair of sockets and what the peer has said on it so far."""

    agreed_version: int
    features: int
    resolve_conflicts: bool
    sent_bits: int
    """The number of set bits in the UUIDS that we sent: both sides must decide on the same numbers."""
    protocol_seen: bool = False
    sizes: Sizes | None = None
    peer: Uuids | None = None
    """The peer's identifiers, as it last said or as we know them to be since."""
    established: bool = False
    """The handshake is through."""
    renewed: bool = False
    """The peer has said its identifiers again since we attached a disk."""
    dry_run: bool = False
    consider_resync: bool = False
    """The peer was forced to be UpToDate while both were Inconsistent: its next STATE starts a resync."""


@dataclass(frozen=True, slots=True)
class SplitBrain:
    """Both nodes have written without each other, and no policy says whose data count."""

    own_bits: int
    """Blocks that we have written since."""
    peer_bits: int
    """Blocks that the peer says it has written."""


@dataclass(frozen=True, slots=True)
class Because:
    """Why we gave the peer up: a rule's name and its sentence. Forgotten when we look for the peer again."""

    rule: str
    sentence: str
    split_brain: SplitBrain | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A command of ours that waits for the peer's consent."""

    command: Command
    forced: bool = False
    """Promote: our data become UpToDate by the user's word."""
    outdate: bool = False
    """Disconnect: the peer wanted to see us Outdated, and we offered it."""


@dataclass(frozen=True, slots=True)
class VerifyRun:
    """A verify that the engine has not yet said the end of."""

    source: bool
    start_sector: int = 0
    stop_sector: int | None = None
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """The peer is being fenced, or could not be. What a frozen Primary knows of the loss is kept until it goes on."""

    frozen: bool = False
    """I/O is held."""
    running: bool = True
    """The handler has not ended yet."""
    held: int = 0
    unstable: int = 0
    new_uuid: int = 0
    promote: Promote | None = None
    """The command that waits for it."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the superblock holds."""

    ids: GenerationIds
    flags: MdFlag
    agreed_sectors: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine does now."""

    replication: Replication = Replication.NONE
    reads: Reads = Reads.NONE
    accept: int = 0
    gate: Gate = Gate.OPEN
    resyncing: bool = False
    """What the other resources of this node are told of us."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """The whole state. A fresh one is Secondary, Diskless and StandAlone."""

    options: Options = field(default_factory=Options)
    role: Role = Role.SECONDARY
    disk: DiskState = DiskState.DISKLESS
    worth: DiskState = DiskState.DISKLESS
    """While Negotiating: what the disk's own flags make of it."""
    passed_on: bool = False
    """Our disk is Inconsistent only because of blocks that it could not read or write: all others are good."""
    ids: GenerationIds = field(default_factory=GenerationIds)
    """Meaningful while we have a disk."""
    exposed: int = 0
    """The current identifier of the data that applications saw last, without its lowest bit; 0 for none."""
    crashed_primary: bool = False
    yields: bool = False
    """Nobody has been Primary here since the disk was attached: of what lies on it nobody has read anything."""
    survived: int = 0
    """We lost a Primary of this generation, and have all that it acknowledged; 0 for none. A restart forgets it."""
    last_writes: bool = False
    """We are Secondary already, and what we wrote last may not be in the bitmap, or durable here, yet."""
    full_sync: bool = False
    """All bits are being set: a crash before they are on disk must not lose that."""
    kept_flags: MdFlag = NO_MD_FLAGS
    """Flags of the superblock that the rules do not touch."""
    backing_sectors: int = 0
    size_sectors: int = 0
    block_bytes: int = 512
    """The smallest request that our disk takes; the last one's, without a disk."""
    peer_block_bytes: int = 512
    """The peer's, as far as it has ever said."""
    export_block_bytes: int = 0
    """What applications were told when the export was opened; 0: never."""

    connection: ConnectionState = ConnectionState.STANDALONE
    replication: ReplicationState = ReplicationState.OFF
    peer_role: Role = Role.UNKNOWN
    peer_disk: DiskState = DiskState.UNKNOWN
    link: Link | None = None
    user_paused: bool = False
    peer_paused: bool = False
    """The peer's user wants the resync to rest."""
    waits_for: tuple[str, ...] = ()
    """Resources of this node whose resync comes before ours (`resync-after`), and is not over (8.4's aftr_isp)."""
    peer_waits: bool = False
    """It is the other way round on the peer: one of its resources comes first."""
    end_tries: int = 0
    """How often we have looked whether the last acknowledgements of a finished resync are in."""
    end_bits: int = 0
    """How many blocks lacked one when we looked last."""

    verify: VerifyRun | None = None
    verify_position: int = 0
    """The sector where the last verify of ours was interrupted: the next one begins there."""
    fence: Fence | None = None
    user_suspended: bool = False
    no_data_waived: bool = False
    """A person would rather have I/O fail than wait for data."""
    before_target_runs: bool = False
    """The handler before-resync-target has not ended yet."""

    clients: int = 0
    pending: Pending | None = None
    waiting: tuple[Command, ...] = ()
    """Commands that wait until the state is not in motion."""
    first_write_uuid: int | None = None
    """A first write is held until the handshake under way is through; the identifier to begin a generation with."""
    promoted_by: Beginning | None = None
    """How we became Primary, while the peer has not been there since."""
    shared_current: bool = False
    """The peer may have taken our current identifier over, as our target, without our knowing."""
    promoted_alone: bool = False
    """We became Primary while the peer was away: the generation that ends with the first write ended without us."""
    resize: Resize | None = None
    """A command of ours that waits for the peer's SIZES."""
    target_of_growth: bool = False
    """Both nodes have just grown, and the peer is about to begin a resync of what is new."""
    discard_my_data: bool = False
    tentative: bool = False
    lingering: bool = False
    """We have given the peer up, and leave it a moment to find out why before the connection is closed."""
    because: Because | None = None
    """Why we are StandAlone, unless a person wanted it."""

    metadata: Metadata | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def has_disk(self) -> bool:
        """Whether there is a usable backing disk."""
        return self.disk >= DiskState.INCONSISTENT

    @property
    def established(self) -> bool:
        """Whether the handshake with the peer is through and the link stands."""
        return self.link is not None and self.link.established and self.connection is ConnectionState.CONNECTED

    @property
    def dropping(self) -> bool:
        """Whether we have ordered the connection closed and wait for the engine to say so."""
        return self.link is not None and self.connection < ConnectionState.CONNECTING

    @property
    def total_bits(self) -> int:
        """Number of 4 KiB blocks of the device."""
        return -(-self.size_sectors // 8)

    @property
    def paused(self) -> bool:
        """Whether either side wants the resync to pause, by a person's word or by the order of resyncs."""
        return self.user_paused or self.paused_by_peer or bool(self.waits_for)

    @property
    def paused_by_peer(self) -> bool:
        """Whether the peer wants it (8.4's peer_isp, which does not say why)."""
        return self.peer_paused or self.peer_waits
