"""new-current-uuid: begin a generation by a person's word; with --clear-bitmap two fresh disks need no first resync.

StandAlone it is how a disk is carried to the peer by other means: what is written from now on is recorded. Connected
it is for two disks that have never held data, and then the peer takes part: it hears UUIDS with SKIP_INITIAL_SYNC
(facts 2.17; DRBD 8.4 `drbd_adm_new_c_uuid`). The peer's disk is never declared equal when it holds data.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import ClearAllBits, WriteBitmap
from pydrbd.model.events import NewCurrentUuid
from pydrbd.model.generation import JUST_CREATED, Beginning
from pydrbd.model.packets import UuidFlag
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.state import first_write, generations
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import WARNING, Turn


def on_new_current_uuid(turn: Turn, command: NewCurrentUuid) -> None:
    """Begin the generation, or refuse."""
    state = turn.state
    if not state.has_disk:
        turn.answer(command.token, Refusal.DISKLESS)
    elif command.clear_bitmap and _both_fresh(state):
        _skip_initial_sync(turn, command)
    elif state.connection is not ConnectionState.STANDALONE:
        turn.answer(command.token, Refusal.CONNECTED_NOT_FRESH)
    else:
        _begin_alone(turn, command)


def _both_fresh(state: NodeState) -> bool:
    """Whether we are connected and neither disk has ever held data."""
    link = state.link
    if not state.established or link is None or link.peer is None:
        return False
    at_rest = state.replication is ReplicationState.ESTABLISHED
    currents = {generations.plain(state.ids.current), generations.plain(link.peer.ids.current)}
    return at_rest and currents == {JUST_CREATED} and state.peer_disk is DiskState.INCONSISTENT


def _skip_initial_sync(turn: Turn, command: NewCurrentUuid) -> None:
    state = turn.state
    ids = replace(generations.new_generation(state.ids, command.new_uuid, state.role), bitmap=0)
    turn.began = Beginning.HUMAN
    turn.add(ClearAllBits(), WriteBitmap())
    turn.change(ids=ids, disk=DiskState.UP_TO_DATE, peer_disk=DiskState.UP_TO_DATE)
    turn.expose()
    turn.settle()
    turn.say("Both fresh disks are declared equal: no initial resync", "skip-initial-sync", WARNING)
    turn.send_uuids(0, UuidFlag.SKIP_INITIAL_SYNC)
    turn.send_state()
    turn.answer(command.token)


def _begin_alone(turn: Turn, command: NewCurrentUuid) -> None:
    if command.clear_bitmap:
        turn.add(ClearAllBits(), WriteBitmap())
    first_write.begin_generation(turn, command.new_uuid, "new-current-uuid", Beginning.HUMAN)
    turn.answer(command.token)
