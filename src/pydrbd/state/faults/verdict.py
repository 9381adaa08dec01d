"""What handlers that are waited for have said: `fence-peer` by its exit codes, `before-resync-target` by 0 or another.

    fence-peer  3  the peer is Inconsistent             5  unreachable: Outdated, if we are UpToDate
                4  the peer is Outdated                  6  it is Primary: we are Outdated
                7  the peer was shot (STONITH)           any other: broken, nothing is known

After a good answer a frozen Primary begins a new generation, durably, before the first frozen write is acknowledged.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.events import HandlerEnded, Promote
from pydrbd.model.policies import Fencing
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import first_write, resync, roles
from pydrbd.state.engine_settings import TARGET_STATES
from pydrbd.state.faults import fencing
from pydrbd.state.node_state import Fence, NodeState
from pydrbd.state.turn import ERROR, INFO, WARNING, Turn

PEER_INCONSISTENT, PEER_OUTDATED, PEER_UNREACHABLE, PEER_ACTIVE, PEER_SHOT = 3, 4, 5, 6, 7


def on_handler_ended(turn: Turn, event: HandlerEnded) -> None:
    """Go on with what waited for this handler; nothing waits for most."""
    match event.name:
        case fencing.HANDLER if turn.state.fence is not None and turn.state.fence.running:
            _on_fence_peer(turn, turn.state.fence, event.exit_code)
        case resync.BEFORE_TARGET if turn.state.before_target_runs:
            _on_before_resync_target(turn, event.exit_code)
        case _:
            pass


def _on_fence_peer(turn: Turn, fence: Fence, exit_code: int) -> None:
    if turn.state.established or not fencing.is_due(turn.state):
        turn.say(f"fence-peer returned {exit_code}; the peer is no longer in doubt", "fence-needless", INFO)
        turn.change(fence=None)
        if fence.promote is not None:
            roles.on_promote(turn, fence.promote)
        return
    peer_disk, meaning = _meaning(turn.state, exit_code)
    turn.say(f"fence-peer returned {exit_code}: {meaning}", "fence-peer", INFO if peer_disk is not None else ERROR)
    if exit_code == PEER_ACTIVE and turn.state.role is not Role.PRIMARY:
        turn.change(disk=DiskState.OUTDATED)
    if exit_code == PEER_SHOT and turn.state.options.fencing is not Fencing.RESOURCE_AND_STONITH:
        turn.say("It shot the peer, although fencing is not resource-and-stonith", "fence-shot", WARNING)
    if fence.promote is not None:
        _go_on_promoting(turn, fence.promote, peer_disk)
    elif peer_disk is not None:
        turn.change(peer_disk=peer_disk)
        thaw(turn, fence, "peer-fenced")
    elif fence.frozen:
        turn.change(fence=replace(fence, running=False))
        turn.say("I/O stays frozen, until the peer is back or `resume-io`", "fencing-failed", ERROR)
    else:
        turn.change(fence=None)


def _meaning(state: NodeState, exit_code: int) -> tuple[DiskState | None, str]:
    """Return what the peer's disk is worth, or None if that is not known, and a sentence."""
    match exit_code:
        case 3:
            return DiskState.INCONSISTENT, "the peer is Inconsistent or worse"
        case 4:
            return DiskState.OUTDATED, "the peer is Outdated"
        case 5 if state.disk is DiskState.UP_TO_DATE:
            return DiskState.OUTDATED, "the peer is unreachable, assumed to be dead"
        case 5:
            return None, "the peer is unreachable, and our own data are not known to be the newest"
        case 6:
            return None, "the peer is Primary"
        case 7:
            return DiskState.OUTDATED, "the peer was shot"
        case _:
            return None, "the handler is broken"


def thaw(turn: Turn, fence: Fence, rule: str) -> None:
    """Let I/O go on: the new generation first, durably; then what was frozen is acknowledged."""
    turn.change(fence=None)
    if fence.frozen and first_write.misses_writes(turn.state, fence.held, fence.unstable):
        first_write.begin_generation(turn, fence.new_uuid, rule)
    turn.settle()
    if fence.frozen:
        turn.say("I/O goes on", rule)


def _go_on_promoting(turn: Turn, command: Promote, peer_disk: DiskState | None) -> None:
    turn.change(fence=None)
    if peer_disk is not None:
        turn.change(peer_disk=peer_disk)
        if turn.state.disk is DiskState.CONSISTENT:
            turn.change(disk=DiskState.UP_TO_DATE)
        roles.on_promote(turn, command)
    elif command.force and turn.state.disk in {DiskState.CONSISTENT, DiskState.UP_TO_DATE}:
        turn.say("Forced to be Primary while the peer is not fenced: this can be a split brain", "fence-forced", ERROR)
        turn.change(peer_disk=DiskState.OUTDATED)
        roles.on_promote(turn, command)
    else:
        turn.settle()
        turn.answer(command.token, Refusal.PEER_IS_PRIMARY_HERE)


def _on_before_resync_target(turn: Turn, exit_code: int) -> None:
    state = turn.state
    turn.change(before_target_runs=False)
    if not state.established or state.replication not in TARGET_STATES:
        return
    if exit_code:
        turn.refuse_link(
            f"{resync.BEFORE_TARGET} returned {exit_code}: no resync, the connection is dropped", resync.BEFORE_TARGET
        )
    elif state.replication is ReplicationState.SYNC_TARGET:
        turn.settle()
        resync.ask_for_blocks(turn)
