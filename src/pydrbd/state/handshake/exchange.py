"""From two sockets to an established link: PROTOCOL, SYNC_PARAM89, SIZES, UUIDS, STATE, checked as they come.

The peer's STATE is the last of them: with it everything that the decision needs is known to both sides, and both come
to the same one.
"""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.effects import AdoptSockets, RunHandler, SetSize, StopListening, StopTimer
from pydrbd.model.events import SocketsReady
from pydrbd.model.packets import Protocol, Sizes, State, SyncParam, UuidFlag, Uuids
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state import resync, roles
from pydrbd.state.changes import growth
from pydrbd.state.generations import plain
from pydrbd.state.handshake import survivor
from pydrbd.state.handshake.compatibility import own_protocol, protocol_refusal, sync_param_refusal
from pydrbd.state.handshake.sizes import agreed_size, own_sizes, peer_block_bytes, warn_of_blocks
from pydrbd.state.handshake.strategy import Case, Strategy, decide
from pydrbd.state.handshake.uuid_compare import Side
from pydrbd.state.node_state import Link, SplitBrain
from pydrbd.state.turn import ERROR, WARNING, Turn, is_doubtful

TIMER = "handshake"


def on_sockets_ready(turn: Turn, event: SocketsReady) -> None:
    """Say everything about ourselves."""
    state = turn.state
    if state.connection is not ConnectionState.CONNECTING or state.link is not None:
        turn.add(StopListening())
        return
    if event.backing_sectors and state.has_disk:
        turn.change(backing_sectors=max(event.backing_sectors, state.size_sectors))
        state = turn.state
    turn.change(link=Link(event.agreed_version, event.features, event.resolve_conflicts, event.bits_set))
    turn.add(AdoptSockets())
    turn.send(own_protocol(state))
    turn.send(state.options.sync)
    turn.send(own_sizes(state))
    turn.send_uuids(event.bits_set)
    turn.send_state()
    turn.start_timer(TIMER, state.options.handshake_timeout_ms)


def on_timeout(turn: Turn) -> None:
    """Give up a handshake that does not end."""
    if turn.state.link is not None and not turn.state.link.established and not turn.state.dropping:
        turn.drop_broken("The peer did not finish the handshake in time", "handshake-timeout")


def on_protocol(turn: Turn, packet: Protocol) -> None:
    """Check what must be configured alike."""
    refusal = protocol_refusal(turn.state, packet)
    if refusal:
        turn.refuse_both(refusal, "incompatible-settings")
        return
    turn.change_link(protocol_seen=True, dry_run=packet.dry_run)


def on_sync_param(turn: Turn, packet: SyncParam) -> None:
    """Check the digests; the peer's speed is its own business."""
    if turn.link.established:
        return
    refusal = sync_param_refusal(turn.state.options, packet)
    if refusal:
        turn.refuse_both(refusal, "incompatible-settings")


def on_sizes(turn: Turn, packet: Sizes) -> None:
    """Agree on a size."""
    state = turn.state
    size, refusal = agreed_size(state, packet)
    if refusal:
        turn.refuse_link(refusal, "peer-too-small")
        return
    turn.change_link(sizes=packet)
    turn.change(peer_block_bytes=peer_block_bytes(state, packet))
    warn_of_blocks(turn, "The peer's", turn.state.peer_block_bytes)
    if size > state.size_sectors and state.has_disk:
        # What is new is marked in the bitmap of whoever grew first; it comes with the exchange of bitmaps.
        growth.grow(turn, size, mark=False)
    elif size != state.size_sectors:
        turn.say(f"The device has {size} sectors now (was {state.size_sectors})", "size-agreed")
        turn.change(size_sectors=size)
        turn.settle()
        turn.add(SetSize(size))


def on_uuids(turn: Turn, packet: Uuids) -> None:
    """Remember the peer's identifiers."""
    state = turn.state
    turn.change_link(peer=packet, renewed=True)
    peer_current = plain(packet.ids.current)
    blind = not state.has_disk and state.role is Role.PRIMARY
    if blind and not turn.link.established and state.exposed not in {0, peer_current}:
        turn.refuse_link(
            f"Can only connect to data with current UUID={state.exposed:016X}; the peer has {peer_current:016X}",
            "diskless-primary-other-data",
        )
        return
    if not state.has_disk and turn.link.established:
        turn.change(exposed=peer_current)


def on_state(turn: Turn, packet: State) -> None:
    """Decide: the first STATE on a new link."""
    link = turn.link
    if not link.protocol_seen or link.sizes is None:
        turn.drop_broken("The peer sent STATE before PROTOCOL and SIZES", "handshake-order")
        return
    peer_disk = real_peer_disk(packet, link.peer)
    compared = turn.state.has_disk and peer_disk >= DiskState.INCONSISTENT
    if compared and link.peer is None:
        turn.drop_broken("The peer has a disk but sent no UUIDS", "handshake-order")
        return
    may_demote = not turn.state.clients and turn.state.first_write_uuid is None
    strategy = decide_strategy(turn, packet, peer_disk, may_demote=may_demote) if compared else None
    both_primary = turn.state.role is Role.PRIMARY and packet.role is Role.PRIMARY
    if strategy is not None and strategy.refusal:
        refuse_strategy(turn, strategy, peer_refuses=both_primary)
        return
    gives_up = strategy is not None and (strategy.demotes or strategy.peer_demotes)
    if both_primary and not gives_up:
        turn.refuse_both("Both nodes are Primary: multiple primaries are not allowed", "two-primaries")
        return
    if turn.state.tentative or link.dry_run:
        _dry_run(turn, strategy)
        return
    if strategy is not None and strategy.demotes:
        roles.become_secondary(turn)
    elif strategy is not None and strategy.peer_demotes:
        # It does so before it says that the link stands, or it drops the link.
        packet = replace(packet, role=Role.SECONDARY)
    _establish(turn, packet, peer_disk, strategy)


def real_peer_disk(packet: State, peer: Uuids | None) -> DiskState:
    """Return what the peer's disk is worth; while it negotiates, its UUIDS say it."""
    if packet.disk is not DiskState.NEGOTIATING:
        return packet.disk
    inconsistent = peer is not None and peer.flags & UuidFlag.INCONSISTENT
    return DiskState.INCONSISTENT if inconsistent else DiskState.CONSISTENT


def decide_strategy(turn: Turn, packet: State, peer_disk: DiskState, *, may_demote: bool = False) -> Strategy:
    """Compare identifiers, weigh states and policies, and say what came out.

    The identifiers are mended where the rule says so.
    """
    state, link = turn.state, turn.link
    peer = link.peer or Uuids(state.ids)
    # Whoever reads and writes by the peer anyway may be its target, Primary or not.
    own_disk = min(state.worth, DiskState.OUTDATED) if state.disk is DiskState.NEGOTIATING else state.disk
    case = Case(
        own=Side(
            state.ids,
            state.role,
            is_doubtful(state, link.sent_bits),
            link.sent_bits,
            survivor.survived(state),
            survivor.yields(state),
        ),
        peer=Side(
            peer.ids,
            packet.role,
            bool(peer.flags & UuidFlag.CRASHED_PRIMARY),
            peer.bits_set,
            bool(peer.flags & UuidFlag.SURVIVED),
            bool(peer.flags & UuidFlag.YIELDS),
        ),
        own_disk=own_disk,
        peer_disk=peer_disk,
        own_discards=state.discard_my_data,
        peer_discards=bool(peer.flags & UuidFlag.DISCARD_MY_DATA),
        resolve_conflicts=link.resolve_conflicts,
        own_may_demote=may_demote,
    )
    strategy = decide(case, state.options)
    finding = strategy.finding
    level = ERROR if strategy.refusal else WARNING if finding.kind.is_split_brain else 20
    turn.say(f"{strategy.sentence} (rule {finding.number})", strategy.rule, level)
    turn.add(*(RunHandler(name) for name in strategy.handlers))
    if not strategy.refusal:
        turn.change(ids=finding.own)
        turn.change_link(peer=Uuids(finding.peer, peer.bits_set, peer.flags))
    return strategy


def refuse_strategy(turn: Turn, strategy: Strategy, *, peer_refuses: bool = False) -> None:
    """Stay StandAlone: people have to decide. `peer_refuses`: it does, whatever it makes of the identifiers."""
    link = turn.link
    wrote = SplitBrain(link.sent_bits, link.peer.bits_set) if strategy.diverged and link.peer is not None else None
    peer_refuses = peer_refuses or not (strategy.kind.is_source or strategy.kind.is_target)
    refuse = turn.refuse_both if peer_refuses and not link.established else turn.refuse_link
    refuse(f"{strategy.refusal}; the connection is dropped until a person decides", strategy.rule, wrote)


def _dry_run(turn: Turn, strategy: Strategy | None) -> None:
    sentence = strategy.sentence if strategy is not None else "No resync is possible without two disks"
    turn.say(f"Dry run: {sentence}", "dry-run")
    turn.change(tentative=False)
    turn.drop(ConnectionState.DISCONNECTING)


def _establish(turn: Turn, packet: State, peer_disk: DiskState, strategy: Strategy | None) -> None:
    bits_set, state = turn.link.sent_bits, turn.state
    turn.add(StopTimer(TIMER))
    turn.change_link(established=True)
    turn.change(
        connection=ConnectionState.CONNECTED,
        peer_role=packet.role,
        peer_disk=peer_disk,
        peer_paused=packet.user_paused,
        peer_waits=packet.after_paused,
        discard_my_data=False,
        promoted_alone=False,
        promoted_by=None,
        fence=state.fence if state.fence is not None and state.fence.promote is not None else None,
        no_data_waived=False,
    )
    turn.say(f"Connected to {turn.state.options.peer_name}", "connected")
    if strategy is None or not (strategy.kind.is_source or strategy.kind.is_target):
        turn.enter(ReplicationState.ESTABLISHED)
    else:
        resync.start_bitmap_exchange(
            turn, source=strategy.kind.is_source, full=strategy.kind.is_full, bits_set=bits_set
        )
    turn.expose()
    turn.settle()
    turn.send_state()
    resync.send_bitmap(turn)
