"""One event's worth of work: the state as it becomes, and the orders in the order in which they are to be carried out.

A rule is a function that takes a `Turn`, looks at `state`, and calls `change`, `add` and `settle`. What must be
durable before anything else happens is written by `settle`, which a rule calls before it orders what depends on it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydrbd.model.effects import (
    Answer,
    DropConnection,
    Effect,
    Gate,
    PersistMetadata,
    Say,
    SendPacket,
    SetAllBits,
    SetGate,
    StartTimer,
    StopTimer,
    WriteBitmap,
)
from pydrbd.model.generation import Beginning, MdFlag
from pydrbd.model.packets import NO_FLAGS, Packet, State, UuidFlag, Uuids
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import engine_settings
from pydrbd.state.generations import plain
from pydrbd.state.handshake import survivor
from pydrbd.state.node_state import Because, Link, Metadata, NodeState, SplitBrain

DEBUG = 10
INFO = 20
WARNING = 30
ERROR = 40


def metadata_flags(state: NodeState) -> MdFlag:
    """Return the flags that the superblock has to have (8.4 `_drbd_set_state`)."""
    flags = state.kept_flags
    peer_writes_blind = state.peer_disk < DiskState.INCONSISTENT and state.peer_role is Role.PRIMARY
    if state.role is Role.PRIMARY or peer_writes_blind or state.last_writes:
        flags |= MdFlag.PRIMARY_IND
    if state.established:
        flags |= MdFlag.CONNECTED_IND
    if state.disk > DiskState.INCONSISTENT:
        flags |= MdFlag.CONSISTENT
    if state.disk > DiskState.OUTDATED:
        flags |= MdFlag.WAS_UP_TO_DATE
    if DiskState.INCONSISTENT <= state.peer_disk <= DiskState.OUTDATED:
        flags |= MdFlag.PEER_OUT_DATED
    if state.crashed_primary:
        flags |= MdFlag.CRASHED_PRIMARY
    if state.full_sync:
        flags |= MdFlag.FULL_SYNC
    return flags


LINGER_TIMER = "linger"
LINGER_MS = 1000


class Turn:
    """The state and the orders so far. Lives for one `step`."""

    __slots__ = ("began", "effects", "now_ms", "state")

    def __init__(self, state: NodeState, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms
        self.effects: list[Effect] = []
        self.began: Beginning | None = None
        """A generation of ours begins in this way with the next superblock."""

    def change(self, **fields: Any) -> None:  # noqa: ANN401
        """Set fields of the state."""
        self.state = replace(self.state, **fields)

    def change_link(self, **fields: Any) -> None:  # noqa: ANN401
        """Set fields of the link, which must exist."""
        self.state = replace(self.state, link=replace(self.link, **fields))

    @property
    def link(self) -> Link:
        """Return the link; a rule that asks has made sure that there is one."""
        if self.state.link is None:
            raise AssertionError("a rule about the link ran without one")
        return self.state.link

    def add(self, *orders: Effect) -> None:
        """Append orders."""
        self.effects.extend(orders)

    def say(self, sentence: str, rule: str = "", level: int = INFO) -> None:
        """Append one sentence for the log."""
        self.effects.append(Say(sentence, rule, level))

    def answer(self, token: int, refusal: Refusal | None = None, text: str = "") -> None:
        """Append the answer to a command."""
        self.effects.append(Answer(token, refusal, text))

    def send(self, packet: Packet) -> None:
        """Append a packet."""
        self.effects.append(SendPacket(packet))

    def start_timer(self, name: str, delay_ms: int) -> None:
        """Append a timer."""
        self.effects.append(StartTimer(name, delay_ms))

    def settle(self) -> None:
        """Make durable what is not, then bring the engine's settings in line with the state."""
        self._persist()
        wanted = engine_settings.wanted(self.state)
        self.effects.extend(engine_settings.differences(self.state.settings, wanted))
        self.change(settings=wanted)

    def _persist(self) -> None:
        state = self.state
        if not state.has_disk:
            return
        metadata = Metadata(state.ids, metadata_flags(state), state.size_sectors)
        if metadata != state.metadata:
            persist = PersistMetadata(metadata.ids, metadata.flags, metadata.agreed_sectors, self.began)
            self.effects.append(persist)
            self.change(metadata=metadata)
            self.began = None

    def hold_requests(self) -> None:
        """Hold what applications ask for until the next `settle` opens the gate."""
        self.effects.append(SetGate(Gate.SUSPENDED))
        self.change(settings=replace(self.state.settings, gate=Gate.SUSPENDED))

    def suspend_for(self, packet: Packet) -> None:
        """Send a packet between two writes: hold requests, send it, change the settings, let requests go on."""
        self._persist()
        self.hold_requests()
        self.send(packet)
        self.settle()

    def order_settings_again(self) -> None:
        """Order every setting, because it is not known which of the last orders were carried out."""
        wanted = engine_settings.wanted(self.state)
        self.effects.extend(engine_settings.all_orders(wanted))
        self.change(settings=wanted)

    def set_all_bits(self) -> None:
        """Every block is out of sync, on disk too; a crash in between is remembered as "full sync"."""
        self.change(full_sync=True)
        self.settle()
        self.add(SetAllBits(), WriteBitmap())
        self.change(full_sync=False)
        self.settle()

    def enter(self, replication: ReplicationState, **fields: Any) -> None:  # noqa: ANN401
        """Go to a replication state; both disk states follow its limits."""
        self.change(replication=replication, **fields)
        disk, peer_disk = engine_settings.within_limits(replication, self.state.disk, self.state.peer_disk)
        if not self.state.has_disk:
            disk = self.state.disk
        self.change(disk=disk, peer_disk=peer_disk)
        if disk is DiskState.UP_TO_DATE and peer_disk is DiskState.UP_TO_DATE:
            self.change(crashed_primary=False)

    def expose(self) -> None:
        """Remember that applications may see the data of our current identifier."""
        if self.state.disk >= DiskState.CONSISTENT:
            self.change(exposed=plain(self.state.ids.current))

    def refuse_link(self, sentence: str, rule: str, split_brain: SplitBrain | None = None) -> None:
        """Give the connection up for good: a person has to change something first."""
        self.say(sentence, rule, ERROR)
        self.change(because=Because(rule, sentence, split_brain))
        self.drop(ConnectionState.DISCONNECTING)

    def refuse_both(self, sentence: str, rule: str, split_brain: SplitBrain | None = None) -> None:
        """Give up a connection that the peer, too, is about to give up, for the same reason.

        It is closed a moment later, or by the peer: what we have said must arrive, so that the peer finds out for
        itself and does not look for us for ever.
        """
        self.say(sentence, rule, ERROR)
        self.change(because=Because(rule, sentence, split_brain), connection=ConnectionState.DISCONNECTING)
        self.change(lingering=True)
        self.settle()
        self.start_timer(LINGER_TIMER, LINGER_MS)

    def drop_broken(self, sentence: str, rule: str) -> None:
        """Close the connection because the peer broke the protocol; we will try again."""
        self.say(sentence, rule, ERROR)
        self.drop(ConnectionState.PROTOCOL_ERROR)

    def drop(self, connection: ConnectionState) -> None:
        """Order the connection closed; `connection` says why, and what comes after the engine has closed it."""
        self.change(connection=connection)
        self.settle()
        if self.state.lingering:
            self.change(lingering=False)
            self.add(StopTimer(LINGER_TIMER))
        self.add(DropConnection())

    def send_uuids(self, bits_set: int, extra: UuidFlag = NO_FLAGS) -> None:
        """Tell the peer our identifiers. Without a disk there are none to tell."""
        state = self.state
        if state.disk < DiskState.NEGOTIATING:
            return
        flags = extra | survivor.flags(state)
        if state.discard_my_data:
            flags |= UuidFlag.DISCARD_MY_DATA
        if is_doubtful(state, bits_set):
            flags |= UuidFlag.CRASHED_PRIMARY
        self.change_link(sent_bits=bits_set)
        self.send(Uuids(state.ids, bits_set, flags))

    def own_state(self) -> State:
        """Return the packet that says how we see both nodes."""
        state = self.state
        connection = state.connection if state.link is None or state.established else ConnectionState.CONNECTING
        return State(
            role=state.role,
            peer_role=state.peer_role,
            connection=connection,
            replication=state.replication,
            disk=state.disk,
            peer_disk=state.peer_disk,
            user_paused=state.user_paused,
            after_paused=bool(state.waits_for),
            peer_paused=state.paused_by_peer,
        )

    def send_state(self) -> None:
        """Tell the peer how we see both nodes."""
        self.send(self.own_state())


def is_doubtful(state: NodeState, bits_set: int) -> bool:
    """Whether our data may differ from the peer's although the identifiers agree.

    So it is after a crash as Primary; and also when bits are set that no bitmap identifier explains. The second is
    told to the peer as the first, so that both come to the same decision, a kernel's DRBD as well.
    """
    unexplained = bits_set > 0 and state.ids.bitmap == 0 and state.disk > DiskState.INCONSISTENT
    return state.crashed_primary or unexplained
