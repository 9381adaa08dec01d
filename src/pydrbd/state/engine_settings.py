"""What the engine has to do in a state, and the orders for what differs from what is in force.

The tables of which disk states each replication state allows stand here too, because they say what the engine may
rely on.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pydrbd.model.effects import (
    Effect,
    Gate,
    Reads,
    Replication,
    SetAccept,
    SetGate,
    SetReads,
    SetReplication,
    SetResyncing,
)
from pydrbd.model.policies import OnNoData, ReadBalancing
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state.generations import needs_new_generation
from pydrbd.state.node_state import NodeState, Settings

ACCEPT_WRITES = 1
ACCEPT_READS = 2
ACCEPT_RESYNC = 4
ACCEPT_BITMAP = 8
ACCEPT_OUT_OF_SYNC = 16
ACCEPT_VERIFY = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """Lowest and highest disk state, ours and the peer's, in one replication state (8.4 `sanitize_state`)."""

    disk_min: DiskState
    disk_max: DiskState
    peer_disk_min: DiskState
    peer_disk_max: DiskState


_SOURCE_BEFORE = Limits(DiskState.UP_TO_DATE, DiskState.UP_TO_DATE, DiskState.INCONSISTENT, DiskState.CONSISTENT)
_GOOD = Limits(DiskState.UP_TO_DATE, DiskState.UP_TO_DATE, DiskState.UP_TO_DATE, DiskState.UP_TO_DATE)
_TARGET_BEFORE = Limits(DiskState.INCONSISTENT, DiskState.OUTDATED, DiskState.UP_TO_DATE, DiskState.UP_TO_DATE)
LIMITS: dict[ReplicationState, Limits] = {
    ReplicationState.ESTABLISHED: Limits(
        DiskState.DISKLESS, DiskState.UP_TO_DATE, DiskState.DISKLESS, DiskState.UP_TO_DATE
    ),
    ReplicationState.STARTING_SYNC_S: _SOURCE_BEFORE,
    ReplicationState.STARTING_SYNC_T: _TARGET_BEFORE,
    ReplicationState.WF_BITMAP_S: _SOURCE_BEFORE,
    ReplicationState.WF_BITMAP_T: _TARGET_BEFORE,
    ReplicationState.WF_SYNC_UUID: _TARGET_BEFORE,
    ReplicationState.SYNC_SOURCE: Limits(
        DiskState.UP_TO_DATE, DiskState.UP_TO_DATE, DiskState.INCONSISTENT, DiskState.INCONSISTENT
    ),
    ReplicationState.SYNC_TARGET: Limits(
        DiskState.INCONSISTENT, DiskState.INCONSISTENT, DiskState.UP_TO_DATE, DiskState.UP_TO_DATE
    ),
    ReplicationState.VERIFY_S: _GOOD,
    ReplicationState.VERIFY_T: _GOOD,
    ReplicationState.PAUSED_SYNC_S: _SOURCE_BEFORE,
    ReplicationState.PAUSED_SYNC_T: _TARGET_BEFORE,
    ReplicationState.AHEAD: _SOURCE_BEFORE,
    ReplicationState.BEHIND: _TARGET_BEFORE,
}
"""The replication states that this program enters."""

SOURCE_STATES = frozenset({ReplicationState.SYNC_SOURCE, ReplicationState.PAUSED_SYNC_S})
TARGET_STATES = frozenset({ReplicationState.SYNC_TARGET, ReplicationState.PAUSED_SYNC_T})
VERIFY_STATES = frozenset({ReplicationState.VERIFY_S, ReplicationState.VERIFY_T})
BITMAP_STATES = frozenset({ReplicationState.WF_BITMAP_S, ReplicationState.WF_BITMAP_T})


def within_limits(replication: ReplicationState, disk: DiskState, peer_disk: DiskState) -> tuple[DiskState, DiskState]:
    """Return both disk states as they are once connected: doubts vanish, and the replication state bounds them."""
    doubts = {DiskState.CONSISTENT, DiskState.OUTDATED}
    disk = DiskState.UP_TO_DATE if disk in doubts else disk
    peer_disk = DiskState.UP_TO_DATE if peer_disk in doubts else peer_disk
    limits = LIMITS[replication]
    disk = max(limits.disk_min, min(disk, limits.disk_max))
    return disk, max(limits.peer_disk_min, min(peer_disk, limits.peer_disk_max))


def wanted_replication(state: NodeState) -> Replication:
    """Where a write has to go (8.4 `drbd_should_do_remote`, `drbd_should_send_out_of_sync`)."""
    if not state.established:
        return Replication.NONE
    if state.replication is ReplicationState.WF_BITMAP_S:
        return Replication.OUT_OF_SYNC
    if state.replication is ReplicationState.AHEAD:
        return Replication.AHEAD
    if state.peer_disk is DiskState.UP_TO_DATE:
        return Replication.PEER
    syncing = state.replication >= ReplicationState.WF_BITMAP_T
    return Replication.PEER if syncing and state.peer_disk >= DiskState.INCONSISTENT else Replication.NONE


def wanted_reads(state: NodeState) -> Reads:
    """Where a read has to come from: only from good data."""
    if state.disk is DiskState.UP_TO_DATE:
        steady = state.established and state.replication is ReplicationState.ESTABLISHED
        both_good = steady and state.peer_disk is DiskState.UP_TO_DATE
        balanced = both_good and state.options.read_balancing is not ReadBalancing.PREFER_LOCAL
        return Reads.BALANCED if balanced else Reads.LOCAL
    if state.passed_on and state.disk is DiskState.INCONSISTENT:
        return Reads.IN_SYNC
    if not (state.established and state.peer_disk is DiskState.UP_TO_DATE):
        return Reads.NONE
    # Only an Inconsistent disk has a bitmap that says which of its blocks are good: before, the bitmaps are not yet
    # merged.
    mendable = state.replication in TARGET_STATES and state.disk is DiskState.INCONSISTENT
    return Reads.IN_SYNC if mendable else Reads.PEER


def wanted_accept(state: NodeState) -> int:
    """Return what the peer may send: nothing before the handshake is through."""
    if not state.established:
        return 0
    accept = 0
    replication = state.replication
    before_sync = replication in {
        ReplicationState.STARTING_SYNC_T,
        ReplicationState.WF_BITMAP_T,
        ReplicationState.WF_SYNC_UUID,
        ReplicationState.BEHIND,
    }
    # A write into good data that are about to become a target would mix two generations; into Inconsistent ones it
    # may go.
    if state.has_disk and state.peer_role is Role.PRIMARY:
        accept |= 0 if before_sync and state.disk is not DiskState.INCONSISTENT else ACCEPT_WRITES
    if state.disk is DiskState.UP_TO_DATE:
        accept |= ACCEPT_READS
    if replication in SOURCE_STATES:
        accept |= ACCEPT_RESYNC
    if replication in BITMAP_STATES:
        accept |= ACCEPT_BITMAP
    if replication is ReplicationState.VERIFY_T:
        accept |= ACCEPT_VERIFY
    if before_sync or replication in TARGET_STATES:
        accept |= ACCEPT_OUT_OF_SYNC
    return accept


class Suspended(Enum):
    """Why I/O is held; DRBD 9's words of `status`."""

    USER = "user"
    NO_DATA = "no-data"
    FENCING = "fencing"


def suspended_for(state: NodeState) -> frozenset[Suspended]:
    """Return every reason to hold the applications' I/O: a Primary's, or that of one which has not ended being it."""
    frozen = state.fence is not None and state.fence.frozen
    if state.role is not Role.PRIMARY:
        return frozenset({Suspended.FENCING}) if frozen else frozenset()
    holds = state.options.on_no_data is OnNoData.SUSPEND_IO and not state.no_data_waived
    reasons = {
        Suspended.USER: state.user_suspended,
        Suspended.NO_DATA: holds and wanted_reads(state) is Reads.NONE,
        Suspended.FENCING: frozen,
    }
    return frozenset(reason for reason, is_so in reasons.items() if is_so)


def wanted_gate(state: NodeState) -> Gate:
    """Whether requests may flow: the first write that the peer will miss waits for a new generation.

    Before a resync from us begins, a write is only announced to the peer; if no identifier records that yet, it waits
    for the one that SYNC_UUID brings.
    """
    if suspended_for(state):
        return Gate.SUSPENDED
    before_source = state.replication in {ReplicationState.STARTING_SYNC_S, ReplicationState.WF_BITMAP_S}
    announced_only = before_source and state.role is Role.PRIMARY and not state.ids.bitmap
    return Gate.FIRST_WRITE if announced_only or needs_new_generation(state) else Gate.OPEN


def is_resyncing(state: NodeState) -> bool:
    """Whether resources that come after us have to wait (8.4 `_drbd_may_sync_now`).

    So it is during a resync or a verify, also while it rests, and as long as a person wants a resync to rest. What the
    order of resyncs itself holds back does not count while it has nothing to copy: whoever waits for us waits for that
    one, too; and two nodes whose configurations contradict each other would keep each other waiting for ever.
    """
    busy = state.replication in SOURCE_STATES | TARGET_STATES | VERIFY_STATES
    return busy or state.user_paused or state.peer_paused


def wanted(state: NodeState) -> Settings:
    """Return what should be in force."""
    return Settings(
        wanted_replication(state),
        wanted_reads(state),
        wanted_accept(state),
        wanted_gate(state),
        is_resyncing(state),
    )


def differences(now: Settings, wanted_now: Settings) -> list[Effect]:
    """Return the orders that lead from one to the other: a gate closes before and opens after everything else.

    Others hear that we resync before we do, and that we do not any more when that is so.
    """
    orders: list[Effect] = []
    if wanted_now.resyncing and not now.resyncing:
        orders.append(SetResyncing(resyncing=True))
    gate_differs = now.gate is not wanted_now.gate
    if gate_differs and wanted_now.gate is not Gate.OPEN:
        orders.append(SetGate(wanted_now.gate))
    if now.replication is not wanted_now.replication:
        orders.append(SetReplication(wanted_now.replication))
    if now.reads is not wanted_now.reads:
        orders.append(SetReads(wanted_now.reads))
    if now.accept != wanted_now.accept:
        orders.append(SetAccept(wanted_now.accept))
    if gate_differs and wanted_now.gate is Gate.OPEN:
        orders.append(SetGate(Gate.OPEN))
    if now.resyncing and not wanted_now.resyncing:
        orders.append(SetResyncing(resyncing=False))
    return orders


def all_orders(wanted_now: Settings) -> list[Effect]:
    """Return the orders for all settings, the gate last."""
    return [
        SetReplication(wanted_now.replication),
        SetReads(wanted_now.reads),
        SetAccept(wanted_now.accept),
        SetGate(wanted_now.gate),
        SetResyncing(wanted_now.resyncing),
    ]
