"""`resize`: the device grows while it is in use (8.4 `drbd_adm_resize`, `receive_sizes`).

    us      SIZES, its current size 0: "look at your disk, and take the size that both have room for"
    peer    grows, durably; SIZES with the size that it has now
    us      grow, durably

Neither of them writes to what is new before the other has it: the Primary hears of the peer's new size before it opens
its own, or tells its own before it opens it, in the stream in which its writes follow. Then the Primary is the source
of a resync of what is new, unless that is said to be clean. Cut short between the two, the next handshake makes the
smaller one grow (`handshake.sizes`).
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import ResizeExport, SetSize, StopTimer
from pydrbd.model.events import PacketReceived, Resize
from pydrbd.model.packets import Sizes, SizesFlag
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import resync
from pydrbd.state.changes.growth import grow
from pydrbd.state.handshake.sizes import own_sizes
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import Turn

TIMER = "resize"


def on_resize(turn: Turn, command: Resize) -> None:
    """Grow alone, or ask the peer to grow first."""
    if command.backing_sectors:
        turn.change(backing_sectors=max(command.backing_sectors, turn.state.size_sectors))
    state = turn.state
    wanted = _wanted(state, command)
    refusal, text = _refusal(state, command, wanted)
    if refusal is not None:
        turn.answer(command.token, refusal, text)
    elif wanted == state.size_sectors:
        turn.answer(command.token, text=f"The device has {wanted} sectors already, all that the disk has room for\n")
    elif state.established and state.peer_disk >= DiskState.INCONSISTENT:
        turn.change(resize=command)
        turn.send(replace(own_sizes(state), user_sectors=wanted, current_sectors=0, dds_flags=_flags(command)))
        turn.start_timer(TIMER, state.options.answer_timeout_ms)
    else:
        grow(turn, wanted, mark=not command.assume_clean)
        if turn.state.established:
            turn.send(own_sizes(turn.state))
        _answer_grown(turn, command)


def _wanted(state: NodeState, command: Resize) -> int:
    """Return the size that is asked for; never more than there is room for unless it was said in so many words."""
    if command.sectors:
        return command.sectors
    return min(state.backing_sectors, state.options.user_sectors or state.backing_sectors)


def _refusal(state: NodeState, command: Resize, wanted: int) -> tuple[Refusal | None, str]:
    """Return why the device cannot get that size, and more about it."""
    if not state.has_disk:
        return Refusal.DISKLESS, ""
    if state.resize is not None:
        return Refusal.CONCURRENT_CHANGE, ""
    if wanted < state.size_sectors:
        return Refusal.RESIZE_SHRINKS, f"{wanted} of {state.size_sectors} sectors; a device shrinks while it is down"
    configured = state.options.user_sectors
    if configured and wanted > configured:
        # The next handshake and the next start would go by the configuration, and find too much.
        return Refusal.RESIZE_CONFIGURED, f"{configured} of {wanted} sectors"
    if wanted > state.backing_sectors:
        return Refusal.DISK_TOO_SMALL, f"room for {state.backing_sectors} of {wanted} sectors"
    if not state.established:
        unsure = wanted > state.size_sectors and not command.assume_peer_has_space
        return Refusal.RESIZE_PEER_SPACE if unsure else None, ""
    if state.replication is not ReplicationState.ESTABLISHED:
        return Refusal.RESIZE_DURING_RESYNC, ""
    if Role.PRIMARY not in {state.role, state.peer_role}:
        return Refusal.RESIZE_NO_PRIMARY, ""
    return None, ""


def _flags(command: Resize) -> int:
    forced = SizesFlag.FORCED if command.assume_peer_has_space else 0
    return int(forced | (SizesFlag.NO_RESYNC if command.assume_clean else 0))


def on_sizes(turn: Turn, packet: Sizes, event: PacketReceived) -> None:
    """Follow a SIZES on an established link."""
    turn.change_link(sizes=packet)
    if event.backing_sectors:
        turn.change(backing_sectors=max(event.backing_sectors, turn.state.size_sectors))
    state = turn.state
    if not packet.current_sectors and packet.disk_sectors:
        _grow_with_peer(turn, packet, event)
    elif state.resize is not None:
        _on_answer(turn, packet, event, state.resize)
    elif not state.has_disk and packet.current_sectors not in {0, state.size_sectors}:
        _follow_without_disk(turn, packet.current_sectors)
    elif packet.current_sectors not in {0, state.size_sectors} and state.size_sectors:
        turn.refuse_link(
            f"The peer has a device of {packet.current_sectors} sectors, ours has {state.size_sectors}",
            "sizes-differ",
        )


def _grow_with_peer(turn: Turn, packet: Sizes, event: PacketReceived) -> None:
    """Take the size that both disks have room for, and say it. Without room, or in a resync, it stays as it is."""
    state = turn.state
    steady = state.has_disk and state.replication is ReplicationState.ESTABLISHED and state.resize is None
    rooms = (state.backing_sectors, packet.disk_sectors, packet.user_sectors, state.options.user_sectors)
    size = min(room for room in rooms if room)
    clean = bool(packet.dds_flags & SizesFlag.NO_RESYNC)
    if not steady or size <= state.size_sectors:
        turn.send(replace(own_sizes(state), dds_flags=packet.dds_flags))
        return
    answer = replace(own_sizes(state), user_sectors=size, current_sectors=size, dds_flags=packet.dds_flags)
    grow(turn, size, mark=not clean, tell=answer)
    _resync_growth(turn, event, clean=clean)


def _on_answer(turn: Turn, packet: Sizes, event: PacketReceived, command: Resize) -> None:
    """Take the size that the peer has come to."""
    state = turn.state
    turn.change(resize=None)
    turn.add(StopTimer(TIMER))
    if packet.current_sectors <= state.size_sectors:
        room = f"its disk has room for {packet.disk_sectors} sectors, the device has {state.size_sectors}"
        if packet.disk_sectors > state.size_sectors:
            room += "; is a smaller size configured there?"
        turn.answer(command.token, Refusal.DISK_TOO_SMALL, f"{state.options.peer_name}: {room}")
        return
    if packet.current_sectors > state.backing_sectors or not state.has_disk:
        turn.answer(command.token, Refusal.REFUSED_BY_PEER)
        turn.refuse_link(
            f"The peer has grown to {packet.current_sectors} sectors, more than our disk has room for", "sizes-differ"
        )
        return
    grow(turn, packet.current_sectors, mark=not command.assume_clean)
    _answer_grown(turn, command)
    _resync_growth(turn, event, clean=command.assume_clean)


def _answer_grown(turn: Turn, command: Resize) -> None:
    turn.answer(command.token, text=f"The device has {turn.state.size_sectors} sectors now\n")


def _resync_growth(turn: Turn, event: PacketReceived, *, clean: bool) -> None:
    """Begin as source what both nodes marked alike, or wait for the peer to begin it (8.4 `resync_after_online_grow`).

    As target we wait for SYNC_UUID with a good disk: the peer's writes go on until it says so.
    """
    state = turn.state
    if clean:
        turn.say("Resync of new storage suppressed with --assume-clean", "resync-suppressed")
        return
    if state.peer_disk is not DiskState.UP_TO_DATE or state.disk is not DiskState.UP_TO_DATE:
        return
    primary = state.role is Role.PRIMARY
    source = primary if state.role is not state.peer_role else turn.link.resolve_conflicts
    turn.say("Resync of new storage after online grow", "resync-after-grow")
    if source:
        resync.become_source(turn, event.new_uuid, event.bits_set)
    else:
        turn.change(target_of_growth=True)


def _follow_without_disk(turn: Turn, sectors: int) -> None:
    """Serve the peer's disk in its new size."""
    turn.say(f"The device has {sectors} sectors now (was {turn.state.size_sectors})", "device-grew")
    turn.change(size_sectors=sectors)
    turn.add(SetSize(sectors))
    if turn.state.role is Role.PRIMARY:
        turn.add(ResizeExport(sectors))


def on_timeout(turn: Turn) -> None:
    """Give up waiting; the next handshake finds out whether the peer has grown."""
    command = turn.state.resize
    if command is None:
        return
    turn.change(resize=None)
    turn.answer(command.token, Refusal.PEER_TIMEOUT)
    if turn.state.established:
        turn.drop_broken("The peer did not answer a resize in time", "resize-timeout")


def give_up_if_lost(turn: Turn) -> None:
    """Answer a command whose peer is gone. If that had grown already, the next handshake makes us follow."""
    command = turn.state.resize
    if command is None or turn.state.established:
        return
    turn.change(resize=None)
    turn.add(StopTimer(TIMER))
    turn.answer(command.token, Refusal.NEEDS_CONNECTION, "the peer was lost while the device was to grow")
