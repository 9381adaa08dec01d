"""Why a command is refused: DRBD's sentences and `drbdsetup`'s exit codes (drbd-utils 9, `drbdsetup` exit codes)."""

from __future__ import annotations

from enum import Enum


class Refusal(Enum):
    """A typed reason. The value is (exit code, sentence)."""

    TWO_PRIMARIES = (11, "Multiple primaries not allowed by config")
    NO_UP_TO_DATE_DISK = (17, "Need access to UpToDate data")
    HELD_OPEN = (11, "Device is held open by someone")
    NO_LOCAL_DISK = (16, "Can not resync without local disk")
    NO_PEER_DISK = (16, "Can not resync without remote disk")
    REFUSED_BY_PEER = (11, "State change was refused by peer node")
    NO_VERIFY_ALG = (11, "Need a verify algorithm to start online verify")
    NEEDS_CONNECTION = (11, "Need a connection for this operation")
    ALREADY_STANDALONE = (10, "Can not disconnect a StandAlone device")
    RESYNC_RUNNING = (11, "Resync already active")
    IN_TRANSIENT_STATE = (11, "In transient state, retry after next state change")
    CONCURRENT_CHANGE = (11, "Concurrent state changes detected and aborted")
    DISKLESS = (11, "Device is diskless, the requested operation requires a disk")
    OUTDATE_CONNECTED = (17, "Refusing to be Outdated while Connected")
    PRIMARY_OUTDATE = (17, "Refusing to be Outdated while Primary")
    PEER_TIMEOUT = (11, "The peer did not answer in time")
    PEER_IS_PRIMARY_HERE = (11, "Refusing to be Primary while peer is not outdated")
    METADATA_IO = (20, "I/O error on the meta data; see the log")
    LOWER_THAN_OUTDATED = (5, "Disk state is lower than outdated")
    ALREADY_CONNECTED = (10, "Device has a net-config (use disconnect first)")
    DISCARD_AS_PRIMARY = (10, "--discard-my-data not allowed when primary.")
    NOT_SUPPORTED = (11, "Not supported")
    DISK_TOO_SMALL = (10, "Low.dev. too small.")
    DATA_NOT_CURRENT = (10, "Can only attach the data we lost last (see kernel log).")
    DISK_IN_USE = (10, "Device is attached to a disk (use detach first)")
    CONNECTED_NOT_FRESH = (10, "Only while StandAlone; or connected, with --clear-bitmap, while both disks are fresh")
    PAUSE_ALREADY_SET = (10, "Sync-pause flag is already set")
    RESIZE_DURING_RESYNC = (10, "Resize not allowed during resync.")
    RESIZE_NO_PRIMARY = (10, "Need one primary node to resize.")
    RESIZE_SHRINKS = (10, "Implicit device shrinking not allowed.")
    RESIZE_CONFIGURED = (10, "The configured size is smaller: change it on both nodes and restart first")
    RESIZE_PEER_SPACE = (10, "The peer's disk may have no room: connect it, or say --assume-peer-has-space")
    PAUSE_ALREADY_CLEAR = (10, "Sync-pause flag is already cleared")
    PAUSE_BY_ORDER = (
        10,
        "Sync-pause flag is already cleared. Note: Resync pause caused by a local resync-after dependency.",
    )
    PAUSE_BY_PEER = (10, "Sync-pause flag is already cleared. Note: Resync pause caused by the peer node.")

    @property
    def exit_code(self) -> int:
        """Return drbdsetup's exit code."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """Return the sentence for the user."""
        return self.value[1]
