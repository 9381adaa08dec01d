"""STATE on an established link: what the peer has become, and what follows for us (8.4 `receive_state`)."""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import ClearAllBits, Release, WriteBitmap
from pydrbd.model.events import DigestFailed, PeerDiskFailed
from pydrbd.model.generation import JUST_CREATED
from pydrbd.model.packets import State, UuidFlag, Uuids
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import first_write, generations, resync
from pydrbd.state.changes import online_verify
from pydrbd.state.engine_settings import SOURCE_STATES, VERIFY_STATES
from pydrbd.state.faults import congestion, negotiation
from pydrbd.state.handshake import exchange
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import ERROR, WARNING, Turn

_ASKS_FOR_SYNC = frozenset(
    {
        ReplicationState.STARTING_SYNC_S,
        ReplicationState.STARTING_SYNC_T,
        ReplicationState.WF_BITMAP_S,
        ReplicationState.WF_BITMAP_T,
    }
)


def on_state(turn: Turn, packet: State, bits_set: int, new_uuid: int) -> None:
    """Follow the peer's word."""
    state = turn.state
    if packet.role is Role.PRIMARY and state.role is Role.PRIMARY:
        turn.refuse_link("Both nodes are Primary: multiple primaries are not allowed", "two-primaries")
        return
    turn.change(peer_paused=packet.user_paused, peer_waits=packet.after_paused)
    if state.disk is DiskState.NEGOTIATING:
        negotiation.on_state(turn, packet)
        return
    if state.replication is ReplicationState.VERIFY_T and packet.replication not in VERIFY_STATES:
        online_verify.end_as_target(turn)
        state = turn.state
    peer_disk = exchange.real_peer_disk(packet, turn.link.peer)
    if _target_has_finished(state, packet, peer_disk):
        resync.follow_pause(turn)
        turn.change(peer_role=packet.role)
        resync.finish_as_source(turn, bits_set)
        return
    if _target_has_given_up(state, packet, peer_disk):
        turn.change(peer_role=packet.role)
        resync.give_up_as_source(turn)
        return
    if _peer_declines(state, packet):
        turn.refuse_link("The peer does not want the resync that our identifiers and bitmap ask for", "resync-declined")
        return
    if _both_at_one_end(state, packet):
        turn.refuse_link(f"Both nodes went to {state.replication}: they judge differently", "same-end")
        return
    peer_disk = _steady(state, packet, peer_disk)
    if _considers_resync(state, packet, peer_disk):
        _resync_anew(turn, packet, peer_disk, bits_set)
        return
    _follow(turn, packet, peer_disk, new_uuid)


def _target_has_finished(state: NodeState, packet: State, peer_disk: DiskState) -> bool:
    at_end = packet.replication is ReplicationState.ESTABLISHED and peer_disk is DiskState.UP_TO_DATE
    return at_end and state.replication in SOURCE_STATES


def _target_has_given_up(state: NodeState, packet: State, peer_disk: DiskState) -> bool:
    """Whether the target ended the resync without having everything."""
    at_end = packet.replication is ReplicationState.ESTABLISHED and peer_disk is DiskState.INCONSISTENT
    return at_end and state.replication in SOURCE_STATES


def _peer_declines(state: NodeState, packet: State) -> bool:
    """Whether the handshake made us one end of a resync, and the peer says that it has no part in one."""
    waiting = state.replication in {ReplicationState.WF_BITMAP_S, ReplicationState.WF_BITMAP_T}
    said_so = packet.replication is ReplicationState.ESTABLISHED and packet.peer_role is state.role
    good = packet.disk is packet.peer_disk is DiskState.UP_TO_DATE
    if (packet.user_paused, packet.after_paused) != (state.peer_paused, state.peer_waits):
        # It says this for another reason, and may not have heard of the resync yet.
        return False
    return waiting and said_so and good and not (state.link is not None and state.link.consider_resync)


def _both_at_one_end(state: NodeState, packet: State) -> bool:
    """Whether both nodes take themselves for the source, or both for the target."""
    ends = {ReplicationState.WF_BITMAP_S, ReplicationState.WF_BITMAP_T}
    return state.replication in ends and packet.replication is state.replication


def _steady(state: NodeState, packet: State, peer_disk: DiskState) -> DiskState:
    """Ignore what is only the peer not yet having caught up with us."""
    preparing = ReplicationState.ESTABLISHED < packet.replication < ReplicationState.SYNC_SOURCE
    becoming_source = state.replication > ReplicationState.ESTABLISHED and state.disk is DiskState.UP_TO_DATE
    if becoming_source and peer_disk is DiskState.UP_TO_DATE and preparing:
        return DiskState.INCONSISTENT
    still_syncing = packet.replication > ReplicationState.SYNC_SOURCE
    finished = state.replication is ReplicationState.ESTABLISHED and state.peer_disk is DiskState.UP_TO_DATE
    if finished and still_syncing and peer_disk is DiskState.INCONSISTENT:
        return DiskState.UP_TO_DATE
    return peer_disk


def _considers_resync(state: NodeState, packet: State, peer_disk: DiskState) -> bool:
    """Whether this STATE is a reason to compare identifiers again."""
    link = state.link
    if link is None or link.peer is None or not state.has_disk or peer_disk < DiskState.INCONSISTENT:
        return False
    if state.replication is not ReplicationState.ESTABLISHED:
        return False
    attaches = packet.disk is DiskState.NEGOTIATING
    # One that was under way when we consented does not say yet what the peer has been forced to be.
    forced = link.consider_resync and peer_disk is DiskState.UP_TO_DATE
    return attaches or forced or packet.replication in _ASKS_FOR_SYNC


def _resync_anew(turn: Turn, packet: State, peer_disk: DiskState, bits_set: int) -> None:
    """Decide again on an established link: the peer attached a disk, was forced to be UpToDate, or wants a resync."""
    turn.change_link(consider_resync=False, sent_bits=bits_set)
    attaches = packet.disk is DiskState.NEGOTIATING
    strategy = exchange.decide_strategy(turn, packet, peer_disk)
    if strategy.refusal and attaches:
        turn.say(f"{strategy.refusal}: the peer cannot use that disk", "peer-attach-refused", WARNING)
        turn.change(peer_role=packet.role, peer_disk=DiskState.DISKLESS)
        turn.settle()
        turn.send_uuids(bits_set)
        turn.send_state()
        return
    if strategy.refusal:
        exchange.refuse_strategy(turn, strategy)
        return
    turn.change(peer_role=packet.role, peer_disk=peer_disk)
    if not (strategy.kind.is_source or strategy.kind.is_target):
        turn.enter(ReplicationState.ESTABLISHED)
    else:
        bits_set = resync.start_bitmap_exchange(
            turn, source=strategy.kind.is_source, full=strategy.kind.is_full, bits_set=bits_set
        )
    turn.settle()
    undecided = packet.replication <= ReplicationState.ESTABLISHED
    if attaches or (undecided and turn.state.replication is not ReplicationState.ESTABLISHED):
        # The peer has not decided yet: it needs our identifiers and our state to come to the same decision.
        turn.send_uuids(bits_set)
        turn.send_state()
    resync.send_bitmap(turn)


def _follow(turn: Turn, packet: State, peer_disk: DiskState, new_uuid: int) -> None:
    before = turn.state
    lost_data = before.peer_disk >= DiskState.INCONSISTENT and peer_disk < DiskState.INCONSISTENT
    turn.change(peer_role=packet.role, peer_disk=peer_disk)
    if peer_disk < DiskState.INCONSISTENT and before.replication > ReplicationState.ESTABLISHED:
        resync.abort(turn)
        turn.change(replication=ReplicationState.ESTABLISHED)
    congestion.follow(turn, packet)
    turn.enter(turn.state.replication)
    resync.follow_pause(turn)
    if lost_data:
        on_peer_without_data(turn, new_uuid)
    else:
        turn.settle()


def on_peer_without_data(turn: Turn, new_uuid: int) -> None:
    """Deal with a peer whose disk is gone while we stay connected: it misses what is written from now on."""
    turn.say(f"{turn.state.options.peer_name} has lost its disk", "peer-diskless", WARNING)
    if generations.lacks_generation(turn.state):
        _begin_without_it(turn, new_uuid)
    turn.settle()
    _forget_what_it_has(turn)


def _begin_without_it(turn: Turn, new_uuid: int) -> None:
    state = turn.state
    if state.peer_role is Role.PRIMARY:
        # Its writes come through us; there is no gate of ours that could wait for the first of them.
        first_write.begin_generation(turn, new_uuid, "peer-primary-diskless")
    elif state.role is Role.PRIMARY:
        # Writes that it did not make stable may be acknowledged already, and others wait for an answer.
        first_write.begin_generation(turn, new_uuid, "peer-diskless")


def _forget_what_it_has(turn: Turn) -> None:
    """Mark what is not known stable there, and answer what waits for it: nothing more comes of that disk."""
    turn.add(Release())
    if turn.state.has_disk:
        turn.add(WriteBitmap())


def on_peer_disk_failed(turn: Turn, event: PeerDiskFailed) -> None:
    """Take the peer's disk for lost after a block that it could not read or write, until it says more."""
    state = turn.state
    turn.say(f"{state.options.peer_name}'s disk failed at sector {event.sector}", "peer-disk-failed", WARNING)
    if state.established and state.peer_disk is DiskState.UP_TO_DATE:
        resync.abort(turn)
        turn.change(peer_disk=DiskState.FAILED, replication=ReplicationState.ESTABLISHED)
        if state.role is Role.PRIMARY and generations.lacks_generation(turn.state):
            first_write.begin_generation(turn, event.new_uuid, "peer-disk-failed")
        turn.settle()
    if state.established:
        _forget_what_it_has(turn)


def on_digest_failed(turn: Turn, event: DigestFailed) -> None:
    """Say what came damaged, in 8.4's words; the engine has thrown it away and closes the connection."""
    turn.say(
        f"Digest integrity check FAILED: {event.sector}s +{event.sectors * 512}: the data changed between"
        f" {turn.state.options.peer_name} and here",
        "digest-failed",
        ERROR,
    )


def on_uuids(turn: Turn, packet: Uuids) -> None:
    """Remember the peer's identifiers; two fresh disks may be declared equal by a person, without a resync."""
    exchange.on_uuids(turn, packet)
    state = turn.state
    fresh = state.has_disk and generations.plain(state.ids.current) == JUST_CREATED
    if not (state.established and fresh and packet.flags & UuidFlag.SKIP_INITIAL_SYNC):
        return
    ids = generations.with_role(replace(state.ids, current=packet.ids.current, bitmap=0), state.role)
    turn.add(ClearAllBits(), WriteBitmap())
    turn.change(ids=ids, disk=DiskState.UP_TO_DATE, peer_disk=DiskState.UP_TO_DATE)
    turn.expose()
    turn.say("The peer declared both fresh disks equal: no initial resync", "skip-initial-sync", WARNING)
    turn.settle()
