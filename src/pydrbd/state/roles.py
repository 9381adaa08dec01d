"""Promotion and demotion (facts 2.1, 2.2; DRBD 8.4 `drbd_set_role`)."""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import CloseExport, Gate, OpenExport, SetGate, WriteBitmap
from pydrbd.model.events import Demote, Promote
from pydrbd.model.generation import Beginning
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import generations
from pydrbd.state.changes import requests
from pydrbd.state.faults import fencing
from pydrbd.state.node_state import NodeState, Pending
from pydrbd.state.turn import WARNING, Turn

_BEFORE_SYNC_TARGET = frozenset(
    {
        ReplicationState.STARTING_SYNC_T,
        ReplicationState.WF_BITMAP_T,
        ReplicationState.WF_SYNC_UUID,
        ReplicationState.BEHIND,
    }
)


def promotion_refusal(state: NodeState) -> Refusal | None:
    """Why we may not be Primary, or None (8.4 `is_valid_state`)."""
    if state.established and state.peer_role is Role.PRIMARY:
        return Refusal.TWO_PRIMARIES
    if not state.established and state.disk < DiskState.UP_TO_DATE:
        return Refusal.NO_UP_TO_DATE_DISK
    if state.disk < DiskState.UP_TO_DATE and state.peer_disk is not DiskState.UP_TO_DATE:
        return Refusal.NO_UP_TO_DATE_DISK
    if state.replication in _BEFORE_SYNC_TARGET:
        return Refusal.IN_TRANSIENT_STATE
    return None


def on_promote(turn: Turn, command: Promote) -> None:
    """Become Primary, by force if the user says so and there is a disk that could be good."""
    state = turn.state
    if state.role is Role.PRIMARY:
        turn.answer(command.token)
        return
    if state.link is None and fencing.is_due(state):
        fencing.begin_for_promotion(turn, command)
        return
    refusal = promotion_refusal(state)
    could_be_good = DiskState.INCONSISTENT <= state.disk < DiskState.UP_TO_DATE
    forced = refusal is Refusal.NO_UP_TO_DATE_DISK and command.force and could_be_good
    if refusal is not None and not forced:
        turn.answer(command.token, refusal)
    elif state.established:
        requests.ask(turn, Pending(command, forced))
    else:
        become_primary(turn, command, forced=forced)


def become_primary(turn: Turn, command: Promote, *, forced: bool) -> None:
    """Take the role, durably, then open the export and tell the peer."""
    state = turn.state
    ids = state.ids
    if forced:
        ids = generations.new_generation(ids, command.new_uuid, Role.PRIMARY)
        turn.began = Beginning.HUMAN
        turn.change(disk=DiskState.UP_TO_DATE, shared_current=False)
        turn.say("Forced to consider local data as UpToDate!", "primary-force", WARNING)
    elif state.has_disk:
        ids = generations.with_role(ids, Role.PRIMARY)
    turn.change(role=Role.PRIMARY, ids=ids, discard_my_data=False, yields=False)
    turn.change(promoted_alone=not state.established, promoted_by=_promoted_by(turn.state, command))
    turn.expose()
    turn.settle()
    turn.change(export_block_bytes=max(turn.state.block_bytes, turn.state.peer_block_bytes))
    turn.add(OpenExport(turn.state.export_block_bytes))
    turn.say("We are Primary", "promoted")
    if turn.state.established:
        if forced:
            turn.send_uuids(turn.link.sent_bits)
        turn.send_state()
    turn.answer(command.token)


def _promoted_by(state: NodeState, command: Promote) -> Beginning | None:
    """Return what to enter in the books if the first write of this Primary begins a generation; None: a later loss."""
    if state.established:
        return None
    if command.human or command.force:
        return Beginning.HUMAN
    return Beginning.TIMEOUT if command.timeout_expired else Beginning.ARBITRARY


def on_demote(turn: Turn, command: Demote) -> None:
    """Become Secondary; refused while clients hold the export open."""
    state = turn.state
    if state.role is not Role.PRIMARY:
        turn.answer(command.token)
    elif state.clients and not command.force:
        turn.answer(command.token, Refusal.HELD_OPEN)
    else:
        become_secondary(turn)
        turn.answer(command.token)


def become_secondary(turn: Turn) -> None:
    """Close the export, make what it wrote and marked durable, then give the role up.

    What waits at a closed gate fails: it was never acknowledged, and to let it go would take a generation, a fenced
    peer, or data.
    """
    if turn.state.settings.gate is not Gate.OPEN:
        turn.add(SetGate(Gate.FAIL))
        turn.change(settings=replace(turn.state.settings, gate=Gate.FAIL))
    turn.add(CloseExport())
    if turn.state.has_disk:
        turn.add(WriteBitmap())
    turn.change(role=Role.SECONDARY, ids=generations.with_role(turn.state.ids, Role.SECONDARY), first_write_uuid=None)
    turn.change(fence=None)
    turn.settle()
    turn.say("We are Secondary", "demoted")
    if turn.state.established:
        turn.send_state()
