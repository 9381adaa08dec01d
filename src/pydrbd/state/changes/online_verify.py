"""Online verify: both replicas are compared while they are in use (facts 2.13; 8.4 `drbd_adm_start_ov`).

    Established -- the peer grants STATE_CHG_REQ VerifyS; it is VerifyT --> VerifyS   [begin_as_source, begin_as_target]
    VerifyS     -- all is compared; a STATE says so -------------------> Established  [on_verify_done, end_as_target]

What differs is marked out of sync on both nodes and stays so: 8.4 copies it with the next connection. With `--repair`
it is copied at once, by the exchange of bitmaps that any resync begins with: from the Primary, or, where neither node
is, from the one that the verify was started on. The engine compares; a write under way is never taken for a difference
(csrc/resync/verify.h).
"""

from __future__ import annotations

from dataclasses import replace
from errno import ECANCELED

from pydrbd.model.commands import ChangeResult
from pydrbd.model.effects import LimitVerify, RunHandler, StartVerify, StopVerify
from pydrbd.model.events import OutOfSyncFound, Verify, VerifyDone
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import first_write, resync
from pydrbd.state.changes import requests
from pydrbd.state.engine_settings import VERIFY_STATES
from pydrbd.state.node_state import NodeState, Pending, VerifyRun
from pydrbd.state.turn import WARNING, Turn

STOP_SECTOR_VERSION = 101
"""From here on the source says in a STATE that it has ended (8.4 `verify_can_do_stop_sector`: not under 100)."""


def on_verify(turn: Turn, command: Verify) -> None:
    """Ask the peer; while we verify already, `--stop` says where to end instead."""
    state = turn.state
    if state.replication is ReplicationState.VERIFY_S and state.verify is not None and command.stop_sector is not None:
        turn.add(LimitVerify(command.stop_sector))
        turn.change(verify=replace(state.verify, stop_sector=command.stop_sector))
        turn.answer(command.token)
        return
    refusal = _refusal(state, command)
    if refusal is not None:
        turn.answer(command.token, refusal)
    else:
        requests.ask(turn, Pending(command))


def _refusal(state: NodeState, command: Verify) -> Refusal | None:
    if not state.established or state.link is None:
        return Refusal.NEEDS_CONNECTION
    if not state.options.sync.verify_alg:
        return Refusal.NO_VERIFY_ALG
    if state.replication is not ReplicationState.ESTABLISHED:
        return Refusal.RESYNC_RUNNING
    if not state.has_disk:
        return Refusal.NO_LOCAL_DISK
    if state.peer_disk < DiskState.INCONSISTENT:
        return Refusal.NO_PEER_DISK
    if not state.disk is state.peer_disk is DiskState.UP_TO_DATE:
        return Refusal.NO_UP_TO_DATE_DISK
    cannot_stop = state.link.agreed_version < STOP_SECTOR_VERSION and command.stop_sector is not None
    return Refusal.NOT_SUPPORTED if cannot_stop else None


def judge(state: NodeState) -> ChangeResult:
    """Say whether the peer may verify, with us as the target."""
    if not state.options.sync.verify_alg:
        return ChangeResult.NO_VERIFY_ALG
    if state.replication is not ReplicationState.ESTABLISHED:
        return ChangeResult.RESYNC_RUNNING
    good = state.disk is state.peer_disk is DiskState.UP_TO_DATE
    return ChangeResult.SUCCESS if good else ChangeResult.NO_UP_TO_DATE_DISK


def begin_as_target(turn: Turn) -> None:
    """Be ready before the peer hears our consent: its first question comes on the other socket."""
    turn.enter(ReplicationState.VERIFY_T)
    turn.change(verify=VerifyRun(source=False))
    turn.add(StartVerify(source=False))
    turn.settle()
    turn.say("Online Verify, asked for by the peer", "verify-started")


def begin_as_source(turn: Turn, command: Verify) -> None:
    """Begin; without a start where the last one was interrupted."""
    state = turn.state
    start = state.verify_position if command.start_sector is None else command.start_sector
    turn.enter(ReplicationState.VERIFY_S)
    turn.change(verify=VerifyRun(True, start, command.stop_sector, command.repair))
    turn.settle()
    turn.add(StartVerify(True, start, command.stop_sector))
    turn.say(f"Starting Online Verify from sector {start}", "verify-started")
    turn.answer(command.token)


def end_as_target(turn: Turn) -> None:
    """End because the source says that it has: it may not have gone to the end of the device."""
    turn.add(StopVerify())
    turn.enter(ReplicationState.ESTABLISHED)
    turn.settle()


def on_out_of_sync(turn: Turn, event: OutOfSyncFound) -> None:
    """Say where the replicas differ, in 8.4's words."""
    turn.say(f"Out of sync: start={event.sector}, size={event.sectors} (sectors)", "verify-found", WARNING)


def on_verify_done(turn: Turn, event: VerifyDone) -> None:
    """Say what came out; go on to the repair, if there is something to repair."""
    run = turn.state.verify
    if run is None:
        return
    turn.change(verify=None)
    _say_found(turn, run, event)
    if not (turn.state.established and turn.state.replication in VERIFY_STATES) or event.error == ECANCELED:
        return
    turn.enter(ReplicationState.ESTABLISHED)
    turn.settle()
    if run.source:
        turn.send_state()
    if run.repair and not event.error:
        _repair(turn, event)


def _say_found(turn: Turn, run: VerifyRun, event: VerifyDone) -> None:
    size = turn.state.size_sectors
    at_end = event.position_sector >= size
    if run.source:
        turn.change(verify_position=0 if at_end else event.position_sector)
    if event.found_bits:
        sentence = f"Online verify found {event.found_bits} 4k blocks out of sync!"
        turn.say(sentence, "verify-differences", WARNING)
        turn.add(RunHandler("out-of-sync"))
    if run.source and event.error:
        turn.say(f"Online Verify reached sector {event.position_sector}, of {size}", "verify-interrupted", WARNING)
    elif run.source and not at_end:
        turn.say(f"Online verify stopped at sector {event.position_sector}, of {size}", "verify-done")
    elif run.source or not event.error:
        turn.say("Online verify done", "verify-done")


def _repair(turn: Turn, event: VerifyDone) -> None:
    """Begin a resync of what is marked.

    The Primary never becomes a target. A source draws a line first, as for a peer that was away: from then on both
    sides' identifiers say who has what, whatever is lost next. A target is Inconsistent before it says a word, so that
    it may take the Primary's writes all along.
    """
    bits = max(event.bits_set, event.found_bits)
    if not bits:
        return
    if turn.state.peer_role is Role.PRIMARY:
        turn.say(f"Repair: {bits} blocks are fetched from the peer", "verify-repair")
        resync.start_bitmap_exchange(turn, source=False, full=False, bits_set=bits)
        turn.change(disk=DiskState.INCONSISTENT)
        turn.settle()
        turn.send_uuids(bits)
        turn.send_state()
        return
    turn.say(f"Repair: {bits} blocks are copied to the peer", "verify-repair")
    turn.change_link(sent_bits=bits)
    first_write.begin_generation(turn, event.new_uuid, "verify-repair")
    resync.start_bitmap_exchange(turn, source=True, full=False, bits_set=bits)
    # From this STATE on the peer is only told of writes: it has to stand between the last that was mirrored and them.
    turn.suspend_for(turn.own_state())
    resync.send_bitmap(turn)
