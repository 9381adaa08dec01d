"""suspend-io and resume-io: I/O of the applications held by a person's word, and let go whatever held it."""

from __future__ import annotations

from pydrbd.model.events import SuspendIo
from pydrbd.state.engine_settings import Suspended, suspended_for
from pydrbd.state.faults import verdict
from pydrbd.state.turn import WARNING, Turn


def on_suspend_io(turn: Turn, command: SuspendIo) -> None:
    """Hold I/O, or let it go on: after a fencing that failed too, and without data, when it then fails."""
    if command.suspended:
        turn.change(user_suspended=True)
        turn.settle()
        turn.say("I/O is suspended", "suspend-io", WARNING)
    else:
        _resume(turn)
    turn.answer(command.token)


def _resume(turn: Turn) -> None:
    turn.change(user_suspended=False)
    if Suspended.NO_DATA in suspended_for(turn.state):
        turn.change(no_data_waived=True)
    fence = turn.state.fence
    if fence is not None and fence.frozen:
        turn.say("I/O goes on by a person's word, although the peer is not known to be fenced", "resume-io", WARNING)
        verdict.thaw(turn, fence, "resume-io")
    turn.settle()
