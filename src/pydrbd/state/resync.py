"""A resync from the decision to its end, on both sides (facts 2.2, 2.12).

    handshake -> WFBitMapS  -- our bitmap goes out; the peer's comes, merged into ours  [on_bitmap_received]
                 SyncSource -- SYNC_UUID names what the target is until it is done      [become_source]
    handshake -> WFBitMapT  -- the peer's bitmap comes, ours goes back                  [on_bitmap_received]
                 WFSyncUUID -- SYNC_UUID comes                                          [on_sync_uuid]
                 SyncTarget -- Inconsistent on disk before the first block is asked for
    both      -> Established -- the target says so in a STATE when all is durable       [on_resync_done,
    finish_as_source]

invalidate and invalidate-remote skip the bitmaps: every block is out of sync on both sides.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import RunHandler, SendBitmap, StartResync, StopResync, StopTimer, StopVerify, WriteBitmap
from pydrbd.model.events import BitmapReceived, PauseSync, ResyncDone
from pydrbd.model.packets import SyncUuid
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.state import generations
from pydrbd.state.engine_settings import BITMAP_STATES, SOURCE_STATES, TARGET_STATES, VERIFY_STATES
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import WARNING, Turn

TIMER = "bitmap"
END_TIMER = "resync-end"
BEFORE_TARGET = "before-resync-target"
"""The handler that may prevent a resync to us; it is waited for."""
END_DELAY_MS = 50
END_TRIES_MAX = 100


def start_bitmap_exchange(turn: Turn, *, source: bool, full: bool, bits_set: int) -> int:
    """Go to WFBitMapS or WFBitMapT; return the number of bits set now. The caller sends STATE, then `send_bitmap`."""
    if full:
        turn.set_all_bits()
        bits_set = turn.state.total_bits
    turn.enter(ReplicationState.WF_BITMAP_S if source else ReplicationState.WF_BITMAP_T)
    turn.start_timer(TIMER, turn.state.options.bitmap_timeout_ms)
    return bits_set


def send_bitmap(turn: Turn) -> None:
    """As source-to-be: from now on tell the peer about every write, then send what was marked until now."""
    turn.settle()
    if turn.state.replication is ReplicationState.WF_BITMAP_S:
        turn.add(SendBitmap())


def on_bitmap_received(turn: Turn, event: BitmapReceived) -> None:
    """Begin as source, or answer with our own bitmap as target: the peer's is merged."""
    match turn.state.replication:
        case ReplicationState.WF_BITMAP_S:
            become_source(turn, event.new_uuid, event.bits_set)
        case ReplicationState.WF_BITMAP_T:
            turn.add(SendBitmap())
            turn.enter(ReplicationState.WF_SYNC_UUID)
        case _:
            turn.drop_broken("The peer sent a bitmap that nobody had asked for", "bitmap-unexpected")


def on_timeout(turn: Turn) -> None:
    """Give up an exchange of bitmaps that does not end: writes may be waiting for it."""
    waiting = BITMAP_STATES | {ReplicationState.WF_SYNC_UUID}
    if turn.state.established and turn.state.replication in waiting:
        turn.drop_broken("The peer did not finish the exchange of bitmaps in time", "bitmap-timeout")


def become_source(turn: Turn, new_uuid: int, bits_set: int) -> None:
    """Begin as SyncSource: name the target's state, durably, before the target can take that name."""
    state = turn.state
    turn.change(ids=generations.started_as_source(state.ids, new_uuid), end_tries=0, shared_current=True)
    turn.add(StopTimer(TIMER))
    turn.enter(ReplicationState.PAUSED_SYNC_S if state.paused else ReplicationState.SYNC_SOURCE)
    turn.change(peer_disk=DiskState.INCONSISTENT)
    # SYNC_UUID has to stand between the last write that the peer is only told about and the first that it is sent.
    turn.suspend_for(SyncUuid(turn.state.ids.bitmap))
    turn.add(RunHandler("before-resync-source"), StartResync(target=False))
    _say_began(turn, "SyncSource", bits_set)


def on_sync_uuid(turn: Turn, packet: SyncUuid, bits_set: int) -> None:
    """Begin as SyncTarget: Inconsistent, durably, before the first block is asked for."""
    state = turn.state
    expected = state.replication in {ReplicationState.WF_SYNC_UUID, ReplicationState.BEHIND}
    if not (expected or state.target_of_growth):
        turn.drop_broken(f"The peer sent SYNC_UUID while we are {state.replication}", "sync-uuid-unexpected")
        return
    turn.change(ids=generations.started_as_target(state.ids, packet.uuid, state.role), disk=DiskState.INCONSISTENT)
    turn.change(target_of_growth=False)
    turn.enter(ReplicationState.PAUSED_SYNC_T if state.paused else ReplicationState.SYNC_TARGET)
    turn.change(disk=DiskState.INCONSISTENT)
    turn.settle()
    # The source forgets a block once we have written it; until that is flushed only our bitmap on disk knows of it.
    turn.add(WriteBitmap())
    waits = BEFORE_TARGET in state.options.handlers
    turn.change(before_target_runs=waits)
    turn.add(StopTimer(TIMER), RunHandler(BEFORE_TARGET))
    if not (state.paused or waits):
        ask_for_blocks(turn)
    _say_began(turn, "SyncTarget", bits_set)


def ask_for_blocks(turn: Turn) -> None:
    """As target: by checksums if so configured; `csums-after-crash-only` if we were Primary and crashed (8.4)."""
    options = turn.state.options
    worth_it = turn.state.crashed_primary or not options.csums_after_crash_only
    turn.add(StartResync(target=True, by_checksums=bool(options.sync.csums_alg) and worth_it))


def _say_began(turn: Turn, side: str, bits_set: int) -> None:
    turn.say(f"Began resync as {side} (will sync {bits_set * 4} KB [{bits_set} bits set]).", "resync-started")
    if turn.state.waits_for:
        say_waits(turn)


def say_waits(turn: Turn) -> None:
    """Name those whose resync comes first."""
    turn.say(f"The resync waits for that of {', '.join(turn.state.waits_for)}", "resync-after")


def on_resync_done(turn: Turn, event: ResyncDone) -> None:
    """As target: everything that could be mended is durable."""
    state = turn.state
    if state.replication not in TARGET_STATES or not state.established:
        return
    if event.bits_left:
        turn.enter(ReplicationState.ESTABLISHED)
        turn.change(disk=DiskState.INCONSISTENT)
        turn.say(f"Resync ended with {event.bits_left} blocks that could not be copied", "resync-incomplete", WARNING)
    else:
        _finish_as_target(turn)
        turn.say("Resync done: our data are the peer's", "resync-done")
    if event.equal_percent >= 0:
        turn.say(
            f"{event.equal_percent} % had equal checksums, eliminated: {event.equal_bits * 4}K",
            "resync-equal-checksums",
        )
    if event.thin_bits:
        turn.say(f"{event.thin_bits * 4}K were zeroes: discarded, not sent", "resync-thin")
    turn.settle()
    turn.send_state()
    turn.add(RunHandler("after-resync-target"))


def _finish_as_target(turn: Turn) -> None:
    state = turn.state
    peer = turn.link.peer
    if peer is not None:
        ids = generations.finished_as_target(state.ids, peer.ids, state.role)
        turn.change(ids=ids)
        turn.change_link(peer=replace(peer, ids=ids))
    turn.change(disk=DiskState.UP_TO_DATE, peer_disk=DiskState.UP_TO_DATE)
    turn.enter(ReplicationState.ESTABLISHED)
    turn.expose()


def finish_as_source(turn: Turn, bits_set: int) -> None:
    """End as source: the target says that it has everything.

    Its last acknowledgements come on the other socket: wait until no bit is left.
    """
    if bits_set:
        turn.change(end_tries=1, end_bits=bits_set)
        turn.start_timer(END_TIMER, END_DELAY_MS)
        return
    turn.change(ids=generations.finished_as_source(turn.state.ids), peer_disk=DiskState.UP_TO_DATE, end_tries=0)
    turn.change(shared_current=False)
    peer = turn.link.peer
    if peer is not None:
        turn.change_link(peer=replace(peer, ids=turn.state.ids))
    turn.enter(ReplicationState.ESTABLISHED)
    turn.add(StopResync())
    turn.settle()
    turn.add(WriteBitmap())
    turn.say("Resync done: the peer has our data", "resync-done")


def on_end_timer(turn: Turn, bits_set: int) -> None:
    """Look again whether the target's last acknowledgements are in; without any progress for long, connect anew."""
    state = turn.state
    if not (state.established and state.replication in SOURCE_STATES and state.end_tries):
        return
    if not bits_set:
        finish_as_source(turn, 0)
    elif bits_set >= state.end_bits and state.end_tries >= END_TRIES_MAX:
        if state.paused:
            # Nothing moves because nothing should; we look again when the resync goes on.
            return
        turn.say(
            f"The peer says that the resync is done, but {bits_set} blocks are not acknowledged: connecting anew",
            "resync-end-unconfirmed",
            WARNING,
        )
        turn.drop(ConnectionState.PROTOCOL_ERROR)
    else:
        progress = bits_set < state.end_bits
        turn.change(end_tries=1 if progress else state.end_tries + 1, end_bits=bits_set)
        turn.start_timer(END_TIMER, END_DELAY_MS)


def give_up_as_source(turn: Turn) -> None:
    """End as source without success: the target stays Inconsistent, and what it lacks stays marked."""
    turn.add(StopResync())
    turn.enter(ReplicationState.ESTABLISHED)
    turn.change(peer_disk=DiskState.INCONSISTENT, end_tries=0)
    turn.settle()
    turn.add(WriteBitmap())
    turn.say("Resync ended without the peer having everything", "resync-incomplete", WARNING)


def abort(turn: Turn) -> None:
    """Stop a resync or a verify because a disk is gone; what is marked stays marked."""
    if turn.state.replication in SOURCE_STATES | TARGET_STATES:
        turn.add(StopResync())
        turn.say("Resync aborted", "resync-aborted", WARNING)
    if turn.state.replication in VERIFY_STATES:
        turn.add(StopVerify())
        turn.say("Online verify aborted", "verify-aborted", WARNING)


def on_pause_sync(turn: Turn, command: PauseSync) -> None:
    """Pause or go on, by the user's word."""
    state = turn.state
    if state.user_paused == command.paused:
        turn.answer(command.token, Refusal.PAUSE_ALREADY_SET if command.paused else _why_still_paused(state))
        return
    turn.change(user_paused=command.paused)
    follow_pause(turn)
    turn.settle()
    if turn.state.established:
        turn.send_state()
    turn.answer(command.token)


def _why_still_paused(state: NodeState) -> Refusal:
    """Say why a resync rests that nobody here has paused (8.4 `drbd_adm_resume_sync`)."""
    if state.replication in {ReplicationState.PAUSED_SYNC_S, ReplicationState.PAUSED_SYNC_T}:
        if state.waits_for:
            return Refusal.PAUSE_BY_ORDER
        if state.paused_by_peer:
            return Refusal.PAUSE_BY_PEER
    return Refusal.PAUSE_ALREADY_CLEAR


def follow_pause(turn: Turn) -> None:
    """Bring a running resync in line with both sides' wish to pause."""
    paused = turn.state.paused
    match turn.state.replication:
        case ReplicationState.SYNC_SOURCE if paused:
            turn.change(replication=ReplicationState.PAUSED_SYNC_S)
        case ReplicationState.PAUSED_SYNC_S if not paused:
            turn.change(replication=ReplicationState.SYNC_SOURCE)
            if turn.state.end_tries:
                turn.change(end_tries=1)
                turn.start_timer(END_TIMER, END_DELAY_MS)
        case ReplicationState.SYNC_TARGET if paused:
            turn.change(replication=ReplicationState.PAUSED_SYNC_T)
            turn.add(StopResync())
        case ReplicationState.PAUSED_SYNC_T if not paused:
            turn.change(replication=ReplicationState.SYNC_TARGET)
            turn.settle()
            if not turn.state.before_target_runs:
                ask_for_blocks(turn)
        case _:
            pass
