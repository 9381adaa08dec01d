"""New generations begin with the first write that the peer misses, not with its loss or a promotion (as in DRBD 9).

The engine holds that write at the gate and says so; the new identifiers are durable before the gate opens. During a
handshake the identifiers must not change, because the peer has already been told the old ones: the write waits until
the handshake is through.
"""

from __future__ import annotations

from pydrbd.model.effects import Gate, SetGate
from pydrbd.model.events import FirstWriteHeld
from pydrbd.model.generation import Beginning
from pydrbd.model.states import Role
from pydrbd.state import engine_settings, generations
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import Turn


def on_first_write_held(turn: Turn, event: FirstWriteHeld) -> None:
    """Begin a generation, unless a handshake is under way or the peer has come back meanwhile."""
    turn.change(first_write_uuid=event.new_uuid)


def begin_if_held(turn: Turn) -> None:
    """Let a held first write go, with a new generation if one is needed. Every step ends with this."""
    state = turn.state
    if state.first_write_uuid is None or (state.link is not None and not state.established):
        return
    if state.role is not Role.PRIMARY:
        # It came too late: the export is being taken away, and what it holds fails.
        turn.change(first_write_uuid=None)
        return
    if engine_settings.suspended_for(state):
        return
    new_uuid = state.first_write_uuid
    if generations.needs_new_generation(state):
        turn.change(first_write_uuid=None)
        begin_generation(turn, new_uuid, "first-write")
    elif engine_settings.wanted_gate(state) is Gate.OPEN:
        turn.change(first_write_uuid=None)
        if state.settings.gate is Gate.OPEN:
            # The gate opened between the engine's word and ours; saying it twice does no harm.
            turn.add(SetGate(Gate.OPEN))


def misses_writes(state: NodeState, held: int, unstable: int) -> bool:
    """Whether the peer may lack a write that is about to be acknowledged, or was, while no identifier says so.

    Held writes count in either role: a node that is being demoted has them while its export closes. Unstable ones
    count for a Primary only: nobody has written since a demotion, and the bits that Release sets make the next
    handshake copy them.
    """
    if held and generations.lacks_generation(state):
        return True
    return unstable > 0 and generations.needs_new_generation(state)


def begin_generation(turn: Turn, new_uuid: int, rule: str, began: Beginning | None = None) -> None:
    """Draw the line: what the peer has is our bitmap identifier from now on. Durable before anything that follows.

    The bitmap identifier keeps the mark "was Primary" only if we were that when we last had the peer: the policies that
    discard the younger or the older primary look at it.
    """
    ids = turn.state.ids
    turn.began = began or turn.state.promoted_by or Beginning.CONNECTED
    if turn.state.promoted_alone:
        ids = generations.with_role(ids, Role.SECONDARY)
    begin = generations.next_generation if ids.bitmap else generations.new_generation
    turn.change(ids=begin(ids, new_uuid, turn.state.role), shared_current=False)
    turn.expose()
    turn.say(f"New data generation {turn.state.ids.current:016X}", rule)
    turn.settle()
    if turn.state.established:
        turn.send_uuids(turn.link.sent_bits)
