"""The backing disk: attaching it, losing it, calling it Outdated (facts 2.1, 2.2, 2.15)."""

from __future__ import annotations

from pydrbd.model.effects import (
    Answer,
    CloseExport,
    DetachDisk,
    DropConnection,
    Exit,
    KeepDisk,
    OpenExport,
    Release,
    ResumeReading,
    RunHandler,
    SendBitmap,
    SendPacket,
    SetSize,
    StartListening,
    StartTimer,
    StopListening,
    StopResync,
    StopTimer,
    StopVerify,
    WriteBitmap,
)
from pydrbd.model.events import Attached, Detach, DiskFailed, MetadataFailed, Outdate
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.model.policies import Fencing, OnIoError
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import generations, resync
from pydrbd.state.engine_settings import VERIFY_STATES
from pydrbd.state.faults import negotiation
from pydrbd.state.handshake.sizes import size_alone, warn_of_blocks
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import ERROR, WARNING, Turn

_KEPT = MdFlag.AL_DISABLED
_CRASHED = MdFlag.PRIMARY_IND | MdFlag.CRASHED_PRIMARY


def on_attached(turn: Turn, event: Attached) -> None:
    """Take a disk into use: what it is worth is what its flags say (8.4 `drbd_adm_attach`)."""
    state = turn.state
    if state.disk > DiskState.DISKLESS:
        turn.say("A disk was attached while there is one", "attach-twice", ERROR)
        _answer(turn, event, Refusal.DISK_IN_USE)
        return
    size = size_alone(event.backing_sectors, event.agreed_sectors, state.options.user_sectors)
    if in_use(state):
        size = state.size_sectors
    refusal, rule, sentence = _attach_refusal(state, event, size)
    if refusal is not None:
        turn.say(sentence, rule, ERROR)
        turn.add(DetachDisk())
    else:
        _take(turn, event, size)
    _answer(turn, event, refusal)


def in_use(state: NodeState) -> bool:
    """Whether the device has a size already that no disk may change."""
    return state.size_sectors > 0 and (state.role is Role.PRIMARY or state.link is not None)


def _answer(turn: Turn, event: Attached, refusal: Refusal | None) -> None:
    if event.token:
        turn.answer(event.token, refusal)


def _attach_refusal(state: NodeState, event: Attached, size: int) -> tuple[Refusal | None, str, str]:
    """Return why a disk may not be used: it is too small, or its data are not those that applications had last."""
    was = max(event.agreed_sectors if event.flags & MdFlag.CONSISTENT and not in_use(state) else 0, size)
    room = min(size, event.backing_sectors)
    if room < was and size != state.options.user_sectors:
        sentence = f"The disk was in use with {was} sectors and has room for {room}: refusing to attach it"
        return Refusal.DISK_TOO_SMALL, "implicit-shrink", sentence
    current = generations.plain(event.ids.current)
    if state.role is Role.PRIMARY and not state.established and state.exposed not in {0, current}:
        sentence = f"Can only attach data with current UUID={state.exposed:016X}; the disk has {current:016X}"
        return Refusal.DATA_NOT_CURRENT, "attach-other-data", sentence
    return None, "", ""


def _take(turn: Turn, event: Attached, size: int) -> None:
    state = turn.state
    flags = event.flags
    crashed = bool(flags & _CRASHED)
    peer_disk = DiskState.OUTDATED if flags & MdFlag.PEER_OUT_DATED else state.peer_disk
    negotiates = state.established
    worth = DiskState.NEGOTIATING if negotiates else _disk_worth(state, flags, peer_disk)
    turn.change(
        ids=generations.with_role(event.ids, state.role),
        disk=worth,
        passed_on=False,
        peer_disk=peer_disk if state.link is None else state.peer_disk,
        crashed_primary=crashed,
        yields=state.role is not Role.PRIMARY,
        survived=0,
        shared_current=generations.may_share_current(event.ids),
        kept_flags=flags & _KEPT,
        backing_sectors=event.backing_sectors,
        size_sectors=size,
        block_bytes=event.block_bytes,
        metadata=None,
    )
    warn_of_blocks(turn, "Our", event.block_bytes)
    turn.add(SetSize(size))
    if flags & MdFlag.FULL_SYNC or (crashed and flags & MdFlag.AL_DISABLED):
        turn.say("Assuming that all blocks are out of sync (aka FullSync)", "full-sync", WARNING)
        turn.set_all_bits()
    elif event.agreed_sectors == 0 and not flags & MdFlag.CONSISTENT:
        # A disk that was never in use: 8.4 marks all of what is new to the device, and its users see it in `oos`.
        turn.set_all_bits()
    turn.expose()
    turn.settle()
    if state.options.user_sectors == size < event.agreed_sectors and flags & MdFlag.CONSISTENT:
        turn.say(f"The configured size cuts the device: {size} of {event.agreed_sectors} sectors", "size-cuts", WARNING)
    turn.say(f"Attached: {turn.state.disk}, {size} sectors, {_ids_text(turn.state.ids)}", "attached")
    if event.backing_sectors > size and size != state.options.user_sectors:
        room = f"The disk has room for {event.backing_sectors} sectors, the device has {size}: `pydrbd resize` grows it"
        turn.say(room, "disk-has-room")
    if crashed:
        turn.say("This node was Primary when it died", "crashed-primary", WARNING)
    if negotiates:
        negotiation.begin(turn, _disk_worth(state, flags, DiskState.OUTDATED), event.bits_set)
    elif state.link is not None:
        # Identifiers, sizes and states have to be compared again; a new connection does just that.
        turn.say("Connecting anew with the disk", "attach-renegotiates")
        turn.drop(ConnectionState.TEAR_DOWN)


def _disk_worth(state: NodeState, flags: MdFlag, peer_disk: DiskState) -> DiskState:
    if not flags & MdFlag.CONSISTENT:
        return DiskState.INCONSISTENT
    if not flags & MdFlag.WAS_UP_TO_DATE:
        return DiskState.OUTDATED
    sure = peer_disk is DiskState.OUTDATED or state.options.fencing is Fencing.DONT_CARE
    return DiskState.UP_TO_DATE if sure else DiskState.CONSISTENT


def _ids_text(ids: GenerationIds) -> str:
    return f"{ids.current:016X}:{ids.bitmap:016X}:{ids.history0:016X}:{ids.history1:016X}"


def on_disk_failed(turn: Turn, event: DiskFailed) -> None:
    """Act as `on-io-error` says."""
    state = turn.state
    if state.disk < DiskState.NEGOTIATING:
        return
    if event.operation == "timeout":
        turn.say("Local backing device failed to meet the disk-timeout", "disk-timeout", ERROR)
    elif event.operation == "removal":
        turn.say("The backing disk was removed", "disk-removed", ERROR)
    else:
        sentence = f"The backing disk failed: {event.operation} at sector {event.sector}, error {event.error}"
        turn.say(sentence, "io-error", ERROR)
    if state.options.on_io_error is OnIoError.CALL_LOCAL_IO_ERROR:
        turn.add(RunHandler("local-io-error"))
    if event.operation == "read" and state.has_disk and state.established:
        # The bit of the block that could not be read is in memory alone, and no activity log names it: it must be
        # durable before the disk is called Inconsistent, or taken back, for a resync copies only what is marked.
        turn.add(WriteBitmap())
    if state.options.on_io_error is OnIoError.PASS_ON and event.operation in {"read", "write"} and state.has_disk:
        _pass_on(turn)
    else:
        lose_disk(turn)


def _pass_on(turn: Turn) -> None:
    """Keep the disk. Where the peer has good data it serves the blocks that failed; without it the error is passed on.

    8.4 becomes Inconsistent in either case, and then cannot read any more what it has just written.
    """
    state = turn.state
    peer_good = state.established and state.peer_disk is DiskState.UP_TO_DATE
    if state.disk > DiskState.INCONSISTENT and (peer_good or state.role is not Role.PRIMARY):
        if state.replication in VERIFY_STATES:
            resync.abort(turn)
            turn.enter(ReplicationState.ESTABLISHED)
        turn.change(disk=DiskState.INCONSISTENT, passed_on=peer_good)
        turn.settle()
        if turn.state.established:
            turn.send_state()
    turn.add(KeepDisk())


def on_detach(turn: Turn, command: Detach) -> None:
    """Give the disk up by a person's word: the peer has to have the data, unless forced."""
    state = turn.state
    peer_good = state.established and state.peer_disk is DiskState.UP_TO_DATE
    if state.disk is DiskState.DISKLESS:
        turn.answer(command.token)
    elif state.role is Role.PRIMARY and not peer_good and not command.force:
        turn.answer(command.token, Refusal.NO_UP_TO_DATE_DISK)
    else:
        turn.say("Detaching the disk", "detach", WARNING)
        if state.has_disk and not command.force:
            turn.add(WriteBitmap())
        lose_disk(turn, force=command.force)
        turn.answer(command.token)


def lose_disk(turn: Turn, *, force: bool = False) -> None:
    """Go on without the disk, by the peer's if it has good data. Requests wait meanwhile; `force`: not for the disk."""
    resync.abort(turn)
    established = turn.state.established
    turn.hold_requests()
    turn.change(disk=DiskState.FAILED)
    if established:
        turn.change(replication=ReplicationState.ESTABLISHED)
        turn.send_state()
    turn.add(DetachDisk(force))
    turn.change(disk=DiskState.DISKLESS, metadata=None, passed_on=False)
    turn.settle()
    if established:
        turn.send_state()


_STILL_WANTED = (CloseExport, StopListening, StartListening, StartTimer, StopTimer, StopResync, StopVerify)
"""Orders that are carried out late rather than not at all."""


def on_metadata_failed(turn: Turn, event: MetadataFailed) -> None:
    """Give the disk up, because what should have become durable did not; see to what stood behind it.

    Commands whose answer was dropped are refused; a promotion that did not get as far as the export is taken back. A
    peer that was to be told something, or whose reading was to be resumed, is dropped: a new connection tells it all.
    The engine's settings are ordered again, all of them. What was held is released: without a disk the engine fails it,
    it does not acknowledge it.
    """
    turn.say(event.reason, "metadata-failed", ERROR)
    dropped = event.dropped
    if any(isinstance(effect, OpenExport) for effect in dropped):
        turn.change(role=Role.SECONDARY)
    turn.add(*(effect for effect in dropped if isinstance(effect, _STILL_WANTED)))
    if turn.state.has_disk:
        lose_disk(turn)
    turn.order_settings_again()
    turn.add(*(effect for effect in dropped if isinstance(effect, Release)))
    for effect in dropped:
        if isinstance(effect, Answer):
            turn.answer(effect.token, Refusal.METADATA_IO, event.reason)
    told = any(isinstance(effect, ResumeReading | SendPacket | SendBitmap | DropConnection) for effect in dropped)
    if told and turn.state.link is not None:
        turn.drop(turn.state.connection if turn.state.dropping else ConnectionState.PROTOCOL_ERROR)
    turn.add(*(effect for effect in dropped if isinstance(effect, Exit)))


def on_outdate(turn: Turn, command: Outdate) -> None:
    """Call our data old: the peer is known to have newer ones."""
    state = turn.state
    refusal = _outdate_refusal(state)
    if refusal is None and state.disk is not DiskState.OUTDATED:
        turn.change(disk=DiskState.OUTDATED)
        turn.settle()
        turn.say("Our data are Outdated", "outdate", WARNING)
    turn.answer(command.token, refusal)


def _outdate_refusal(state: NodeState) -> Refusal | None:
    if not state.has_disk:
        return Refusal.DISKLESS
    if state.disk < DiskState.OUTDATED:
        return Refusal.LOWER_THAN_OUTDATED
    if state.role is Role.PRIMARY:
        return Refusal.PRIMARY_OUTDATE
    return Refusal.OUTDATE_CONNECTED if state.link is not None else None
