"""on-congestion: protocol A over a link that is slower than the applications (facts 2.15; 8.4 `maybe_pull_ahead`).

    Congested    a new generation, durably; the peer hears AHEAD behind the last write that it is sent   [on_congested]
    the peer     Behind: Outdated on disk, so that nobody promotes it                                    [follow]
    writes       set their bits, and wait for nobody
    every second whether the peer has stable what it was sent: then it is told of every bit that is set,
                 and a resync begins, as after any other interruption                                    [on_timer]

8.4 goes back when a last acknowledgement comes, and when that has passed unseen it stays Behind for ever. We look at
the clock instead: however the last acknowledgement came, a second later it is seen.

Nobody pulls ahead of a resync or a verify: what a resync has sent and the peer has not acknowledged would be marked as
in sync over a write that came meanwhile. Nor while a question to the peer is under way, whose answer begins one.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import AnnounceBitmap, Replication, SetReplication, StopResync
from pydrbd.model.events import Congested, TimerFired
from pydrbd.model.packets import State
from pydrbd.model.policies import OnCongestion
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import first_write, generations, resync
from pydrbd.state.engine_settings import TARGET_STATES
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import INFO, WARNING, Turn

TIMER = "congestion"
LOOK_MS = 1000


def on_congested(turn: Turn, event: Congested) -> None:
    """Act as `on-congestion` says; the engine says it again every second, so what cannot be done now is done then."""
    state = turn.state
    if not _may(state):
        return
    sentence = f"Congestion: {event.sectors} sectors are in flight to {state.options.peer_name}"
    match state.options.on_congestion:
        case OnCongestion.PULL_AHEAD:
            _pull_ahead(turn, event, sentence)
        case OnCongestion.DISCONNECT:
            turn.refuse_link(f"{sentence}: disconnecting", "congestion-disconnect")
        case OnCongestion.BLOCK:
            pass


def _may(state: NodeState) -> bool:
    """Whether writes can do without the peer: our own data are good, and nothing else is under way or asked for."""
    good = state.disk is state.peer_disk is DiskState.UP_TO_DATE
    at_rest = state.replication is ReplicationState.ESTABLISHED and state.pending is None
    return state.established and good and state.role is Role.PRIMARY and at_rest


def _pull_ahead(turn: Turn, event: Congested, sentence: str) -> None:
    # Before the first write that the peer misses is acknowledged, the identifiers say that it misses some.
    if generations.lacks_generation(turn.state):
        first_write.begin_generation(turn, event.new_uuid, "pull-ahead")
    turn.enter(ReplicationState.AHEAD)
    turn.hold_requests()
    turn.send_state()
    turn.settle()
    turn.start_timer(TIMER, LOOK_MS)
    turn.say(f"{sentence}: going on without it until they have arrived", "pull-ahead", WARNING)


def follow(turn: Turn, packet: State) -> None:
    """As secondary: the peer has pulled ahead. Our data are old from here on."""
    state = turn.state
    if packet.replication is not ReplicationState.AHEAD or state.replication is ReplicationState.BEHIND:
        return
    if state.replication in TARGET_STATES:
        turn.add(StopResync())
    if state.has_disk:
        turn.change(replication=ReplicationState.BEHIND)
        turn.say(f"{state.options.peer_name} has pulled ahead: we are Behind", "behind", WARNING)


def on_timer(turn: Turn, event: TimerFired) -> None:
    """Go back to replication when everything that the peer was sent is stable there."""
    state = turn.state
    if not state.established or state.replication is not ReplicationState.AHEAD:
        return
    if event.unstable:
        turn.start_timer(TIMER, LOOK_MS)
        return
    turn.say("The congestion is over", "congestion-over", INFO)
    # From here on each write is told as it comes, so that the announcement misses none.
    turn.add(SetReplication(Replication.OUT_OF_SYNC), AnnounceBitmap())
    turn.change(settings=replace(state.settings, replication=Replication.OUT_OF_SYNC))
    resync.become_source(turn, 0, event.bits_set)
