"""The verbs of the admin socket: what becomes a command for the rules, what is only looked up, what is waited for.

A command is answered by the rules' `Answer`; a deadline sees to it that its user hears something, while the command
itself goes on. Looking up never waits for the data path. Exit codes and sentences are DRBD's.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pydrbd.model import effects, events
from pydrbd.model.events import Event
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.node.admin.admin_socket import EXIT_OK, EXIT_USAGE, Reply, Request
from pydrbd.node.admin.status import Json, as_text
from pydrbd.node.attachment import new_uuid
from pydrbd.node.performer import Performer
from pydrbd.node.process import StartError
from pydrbd.state.node_state import NodeState

EXIT_TIMED_OUT = 5
"""drbdsetup's, of `wait-connect` and `wait-sync`."""
EXIT_UNFINISHED = 20
EXIT_WITHOUT_DEVICE = 20
DEADLINE_S = 60.0
DOWN_DEADLINE_S = 120.0
SYNC_STATES = frozenset(
    {
        ReplicationState.STARTING_SYNC_S,
        ReplicationState.STARTING_SYNC_T,
        ReplicationState.WF_BITMAP_S,
        ReplicationState.WF_BITMAP_T,
        ReplicationState.WF_SYNC_UUID,
        ReplicationState.SYNC_SOURCE,
        ReplicationState.SYNC_TARGET,
        ReplicationState.PAUSED_SYNC_S,
        ReplicationState.PAUSED_SYNC_T,
        ReplicationState.VERIFY_S,
        ReplicationState.VERIFY_T,
    }
)


@dataclass(frozen=True, slots=True)
class Command:
    """How a verb becomes an event: its class, the options it takes, the values it always has."""

    event: Callable[..., Event]
    options: frozenset[str] = frozenset()
    fixed: tuple[tuple[str, object], ...] = ()
    draws_uuid: bool = False
    numbers: frozenset[str] = frozenset()
    """Options that are not yes or no."""
    deadline_s: float = DEADLINE_S

    def build(self, token: int, arguments: dict[str, Any]) -> Event:
        """Return the event. Raises `ValueError` for an argument that the verb does not have, or of another type."""
        for name, value in arguments.items():
            is_flag = name in self.options and isinstance(value, bool)
            is_number = name in self.numbers and type(value) is int and value >= 0
            if not (is_flag or is_number):
                raise ValueError(f"argument {name} is not one of this verb's")
        drawn = {"new_uuid": new_uuid()} if self.draws_uuid else {}
        return self.event(token=token, **arguments, **dict(self.fixed), **drawn)


_TAKES_THE_DEVICE = frozenset({"secondary", "down"})
_FORCE = frozenset({"force"})
COMMANDS: dict[str, Command] = {
    "primary": Command(events.Promote, _FORCE | {"human", "timeout_expired"}, draws_uuid=True),
    "secondary": Command(events.Demote, _FORCE),
    "connect": Command(events.Connect, frozenset({"discard_my_data", "tentative"})),
    "disconnect": Command(events.Disconnect, _FORCE),
    "invalidate": Command(events.Invalidate, draws_uuid=True),
    "invalidate-remote": Command(events.Invalidate, fixed=(("peer", True),), draws_uuid=True),
    "verify": Command(events.Verify, frozenset({"repair"}), numbers=frozenset({"start_sector", "stop_sector"})),
    "outdate": Command(events.Outdate),
    "new-current-uuid": Command(events.NewCurrentUuid, frozenset({"clear_bitmap"}), draws_uuid=True),
    "pause-sync": Command(events.PauseSync, fixed=(("paused", True),)),
    "resume-sync": Command(events.PauseSync, fixed=(("paused", False),)),
    "detach": Command(events.Detach, _FORCE),
    "suspend-io": Command(events.SuspendIo, fixed=(("suspended", True),)),
    "resume-io": Command(events.SuspendIo, fixed=(("suspended", False),)),
    "resize": Command(
        events.Resize,
        frozenset({"assume_clean", "assume_peer_has_space"}),
        numbers=frozenset({"sectors"}),
        draws_uuid=True,
    ),
    "down": Command(events.Down, _FORCE, deadline_s=DOWN_DEADLINE_S),
}


def is_settled(state: NodeState) -> bool:
    """Whether the peers are connected and no resync runs or is about to: one good disk beside a bad one means one."""
    worth = {state.disk, state.peer_disk}
    is_due = worth == {DiskState.UP_TO_DATE, DiskState.INCONSISTENT}
    return state.established and state.replication not in SYNC_STATES and not is_due


class Device(Protocol):
    """What the verbs need of the kernel device (`KernelDevice`)."""

    by_force: bool
    problem: str
    openers: list[Any]

    async def look(self) -> None:
        """Find out who has it open now."""


class Overview(Protocol):
    """What `status` and `why` tell."""

    def status(self) -> Json:
        """Return it."""

    async def look(self) -> None:
        """See how device and disk are now."""


class Verbs:
    """Answers requests."""

    def __init__(
        self,
        resource: str,
        performer: Performer,
        overview: Overview,
        device: Device,
    ) -> None:
        self.resource = resource
        self._performer = performer
        self._overview = overview
        self._device = device
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._lookups: dict[str, Callable[[Request], Awaitable[Reply | None]]] = {
            "status": self._on_status,
            "why": self._on_why,
            "role": self._on_role,
            "cstate": self._on_cstate,
            "dstate": self._on_dstate,
            "wait-connect": self._on_wait_connect,
            "wait-sync": self._on_wait_sync,
        }

    async def answer(self, request: Request) -> Reply | None:
        """Return the reply to a request; never raises for what a user can write. None: as `AdminSocket` has it."""
        lookup, command = self._lookups.get(request.verb), COMMANDS.get(request.verb)
        try:
            if lookup is not None:
                return await lookup(request)
            if command is None:
                return Reply(EXIT_USAGE, f"there is no verb {request.verb!r}")
            return await self.order(command, request.verb, request.arguments)
        except ValueError as error:
            return Reply(EXIT_USAGE, f"{request.verb}: {error}")

    def take(self, verb: str, answers: Callable[[Request], Awaitable[Reply | None]]) -> None:
        """Let `answers` answer a verb that is more than an event for the rules."""
        self._lookups[verb] = answers

    async def attach(self, open_disk: Callable[[int], Awaitable[Event]]) -> Reply:
        """Open a disk outside of the rules, then let them take it. `open_disk(token)` returns their event."""
        token = next(self._tokens)
        try:
            event = await open_disk(token)
        except StartError as error:
            return Reply(error.exit_code, error.sentence)
        return await self._answer_to(token, event, "attach", DEADLINE_S)

    async def order(self, command: Command, verb: str, arguments: dict[str, Any]) -> Reply:
        """Give a command to the rules and wait for their answer. Raises `ValueError` for a wrong argument."""
        token = next(self._tokens)
        event = command.build(token, arguments)
        if verb in _TAKES_THE_DEVICE:
            # Who has the device open may change at any time; the rules refuse by what is known now.
            await self._device.look()
            self._device.by_force = bool(arguments.get("force"))
        reply = await self._answer_to(token, event, verb, command.deadline_s)
        if verb == "primary" and reply.exit == EXIT_OK and self._device.problem:
            return Reply(EXIT_WITHOUT_DEVICE, f"{self.resource}: Primary, but without a device: {self._device.problem}")
        return reply

    async def _answer_to(self, token: int, event: Event, verb: str, deadline_s: float) -> Reply:
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answered
        try:
            self._performer.post(event)
            return await asyncio.wait_for(answered, deadline_s)
        except TimeoutError:
            sentence = f"{self.resource}: {verb} has not finished after {deadline_s:.0f} s; it goes on"
            return Reply(EXIT_UNFINISHED, sentence)
        finally:
            del self._waiting[token]

    async def on_answer(self, effect: effects.Answer) -> None:
        """Do an `Answer` effect. One whose asker has gone is for nobody."""
        waiting = self._waiting.get(effect.token)
        if waiting is None or waiting.done():
            return
        if effect.refusal is None:
            waiting.set_result(Reply(EXIT_OK, text=effect.text))
        else:
            text = effect.text
            if effect.refusal is Refusal.HELD_OPEN and not text:
                text = ", ".join(str(opener) for opener in self._device.openers)
            more = f" ({text})" if text else ""
            sentence = f"{self.resource}: State change failed: {effect.refusal.sentence}{more}"
            waiting.set_result(Reply(effect.refusal.exit_code, sentence))

    # --- looking up --------------------------------------------------------------------------------------------------

    async def _on_status(self, request: Request) -> Reply:
        await self._overview.look()
        data = self._overview.status()
        verbose, statistics = bool(request.arguments.get("verbose")), bool(request.arguments.get("statistics"))
        return Reply(text=as_text(data, verbose=verbose, statistics=statistics), data=data)

    async def _on_why(self, _: Request) -> Reply:
        return Reply(text="".join(f"{sentence}\n" for sentence in self._overview.status()["why"]))

    async def _on_role(self, _: Request) -> Reply:
        state = self._state
        return Reply(text=f"{state.role}/{state.peer_role}\n")

    async def _on_cstate(self, _: Request) -> Reply:
        return Reply(text=f"{self._state.connection}\n")

    async def _on_dstate(self, _: Request) -> Reply:
        state = self._state
        return Reply(text=f"{state.disk}/{state.peer_disk}\n")

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def _on_wait_connect(self, request: Request) -> Reply:
        return await self._wait(request, lambda state: state.established)

    async def _on_wait_sync(self, request: Request) -> Reply:
        return await self._wait(request, is_settled)

    async def _wait(self, request: Request, condition: Callable[[NodeState], bool]) -> Reply:
        """Wait for a state; `timeout_s` 0 is for ever. StandAlone ends it: no connection comes of itself any more."""
        timeout_s = request.arguments.get("timeout_s", 0)
        if not isinstance(timeout_s, int | float) or timeout_s < 0:
            return Reply(EXIT_USAGE, f"{request.verb}: timeout_s is not a number of seconds")

        def ended(state: NodeState) -> bool:
            return condition(state) or state.connection is ConnectionState.STANDALONE

        try:
            await asyncio.wait_for(self._performer.wait_until(ended), timeout_s or None)
        except TimeoutError:
            return Reply(EXIT_TIMED_OUT, f"{self.resource}: {request.verb}: nothing after {timeout_s:g} s")
        if not condition(self._state):
            return Reply(EXIT_TIMED_OUT, f"{self.resource}: {request.verb}: the resource is StandAlone")
        return Reply()

    @property
    def _state(self) -> NodeState:
        state: NodeState = self._performer.state
        return state
