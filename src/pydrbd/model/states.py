"""DRBD's state words: roles, disk, connection and replication states.

Values of `DiskState`, `Role` are DRBD's own numbers (8.4 `drbd.h`), so that comparisons such as "at least Consistent"
read as they do there. Connection and replication state are two things, as in DRBD 9; `pydrbd.wire` folds them into
8.4's single number. A member's `str()` is exactly what DRBD prints.
"""

from __future__ import annotations

from enum import IntEnum


class Word(IntEnum):
    """An ordered state word that prints as DRBD prints it."""

    def __str__(self) -> str:
        """Return DRBD's spelling, e.g. ``UpToDate``."""
        return _SPELLING[type(self), int(self)]


class Role(Word):
    """Who may write."""

    UNKNOWN = 0
    PRIMARY = 1
    SECONDARY = 2


class DiskState(Word):
    """What a replica is worth, in ascending order (8.4 numbers; 9's `Detaching` does not travel on the wire)."""

    DISKLESS = 0
    ATTACHING = 1
    FAILED = 2
    NEGOTIATING = 3
    INCONSISTENT = 4
    OUTDATED = 5
    UNKNOWN = 6
    CONSISTENT = 7
    UP_TO_DATE = 8


class ConnectionState(Word):
    """Whether there is a link to the peer (DRBD 9's words)."""

    STANDALONE = 0
    DISCONNECTING = 1
    UNCONNECTED = 2
    TIMEOUT = 3
    BROKEN_PIPE = 4
    NETWORK_FAILURE = 5
    PROTOCOL_ERROR = 6
    TEAR_DOWN = 7
    CONNECTING = 8
    CONNECTED = 9


class ReplicationState(Word):
    """What flows over an established link (DRBD 9's words, 8.4's numbers; OFF while not Connected)."""

    OFF = 0
    ESTABLISHED = 10
    STARTING_SYNC_S = 11
    STARTING_SYNC_T = 12
    WF_BITMAP_S = 13
    WF_BITMAP_T = 14
    WF_SYNC_UUID = 15
    SYNC_SOURCE = 16
    SYNC_TARGET = 17
    VERIFY_S = 18
    VERIFY_T = 19
    PAUSED_SYNC_S = 20
    PAUSED_SYNC_T = 21
    AHEAD = 22
    BEHIND = 23


_SPELLING: dict[tuple[type[Word], int], str] = {
    (Role, Role.UNKNOWN): "Unknown",
    (Role, Role.PRIMARY): "Primary",
    (Role, Role.SECONDARY): "Secondary",
    (DiskState, DiskState.DISKLESS): "Diskless",
    (DiskState, DiskState.ATTACHING): "Attaching",
    (DiskState, DiskState.FAILED): "Failed",
    (DiskState, DiskState.NEGOTIATING): "Negotiating",
    (DiskState, DiskState.INCONSISTENT): "Inconsistent",
    (DiskState, DiskState.OUTDATED): "Outdated",
    (DiskState, DiskState.UNKNOWN): "DUnknown",
    (DiskState, DiskState.CONSISTENT): "Consistent",
    (DiskState, DiskState.UP_TO_DATE): "UpToDate",
    (ConnectionState, ConnectionState.STANDALONE): "StandAlone",
    (ConnectionState, ConnectionState.DISCONNECTING): "Disconnecting",
    (ConnectionState, ConnectionState.UNCONNECTED): "Unconnected",
    (ConnectionState, ConnectionState.TIMEOUT): "Timeout",
    (ConnectionState, ConnectionState.BROKEN_PIPE): "BrokenPipe",
    (ConnectionState, ConnectionState.NETWORK_FAILURE): "NetworkFailure",
    (ConnectionState, ConnectionState.PROTOCOL_ERROR): "ProtocolError",
    (ConnectionState, ConnectionState.TEAR_DOWN): "TearDown",
    (ConnectionState, ConnectionState.CONNECTING): "Connecting",
    (ConnectionState, ConnectionState.CONNECTED): "Connected",
    (ReplicationState, ReplicationState.OFF): "Off",
    (ReplicationState, ReplicationState.ESTABLISHED): "Established",
    (ReplicationState, ReplicationState.STARTING_SYNC_S): "StartingSyncS",
    (ReplicationState, ReplicationState.STARTING_SYNC_T): "StartingSyncT",
    (ReplicationState, ReplicationState.WF_BITMAP_S): "WFBitMapS",
    (ReplicationState, ReplicationState.WF_BITMAP_T): "WFBitMapT",
    (ReplicationState, ReplicationState.WF_SYNC_UUID): "WFSyncUUID",
    (ReplicationState, ReplicationState.SYNC_SOURCE): "SyncSource",
    (ReplicationState, ReplicationState.SYNC_TARGET): "SyncTarget",
    (ReplicationState, ReplicationState.VERIFY_S): "VerifyS",
    (ReplicationState, ReplicationState.VERIFY_T): "VerifyT",
    (ReplicationState, ReplicationState.PAUSED_SYNC_S): "PausedSyncS",
    (ReplicationState, ReplicationState.PAUSED_SYNC_T): "PausedSyncT",
    (ReplicationState, ReplicationState.AHEAD): "Ahead",
    (ReplicationState, ReplicationState.BEHIND): "Behind",
}
