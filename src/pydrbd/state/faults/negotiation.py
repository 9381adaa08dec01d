"""A disk that comes while the link stands: both nodes compare identifiers again, and I/O goes on by the peer meanwhile.

    attach      Negotiating; SIZES, UUIDS and STATE go to the peer                              [begin]
    the peer    decides, answers with its UUIDS and STATE                                        [peer_state]
    its UUIDS   ... its STATE: we decide, from the same numbers, and the resync begins as ever   [on_state]

A disk that may not be used is given up again; the link stays (8.4 `receive_state`, "attach aborted").
"""

from __future__ import annotations

from pydrbd.model.effects import DetachDisk
from pydrbd.model.packets import NO_FLAGS, State, UuidFlag
from pydrbd.model.policies import Fencing
from pydrbd.model.states import DiskState, ReplicationState, Role
from pydrbd.state import resync
from pydrbd.state.generations import plain
from pydrbd.state.handshake import exchange
from pydrbd.state.handshake.sizes import own_sizes
from pydrbd.state.turn import ERROR, Turn


def begin(turn: Turn, worth: DiskState, bits_set: int) -> None:
    """Tell the peer of the disk. `worth` is what its own flags make of it."""
    turn.change(disk=DiskState.NEGOTIATING, worth=worth)
    turn.change_link(renewed=False)
    turn.send(own_sizes(turn.state))
    turn.send_uuids(bits_set, UuidFlag.INCONSISTENT if worth is DiskState.INCONSISTENT else NO_FLAGS)
    turn.send_state()


def on_state(turn: Turn, packet: State) -> None:
    """Decide, once the peer has said its identifiers anew."""
    peer_disk = exchange.real_peer_disk(packet, turn.link.peer)
    turn.change(peer_role=packet.role, peer_disk=peer_disk)
    if not turn.link.renewed:
        return
    if peer_disk < DiskState.INCONSISTENT:
        turn.change(disk=turn.state.worth)
        turn.enter(ReplicationState.ESTABLISHED)
        turn.settle()
        turn.send_state()
        return
    strategy = exchange.decide_strategy(turn, packet, peer_disk)
    if strategy.refusal:
        give_up(turn, f"{strategy.refusal}: the disk is given up again")
        return
    # As target we are Outdated from the first moment, whatever the flags say.
    turn.change(disk=turn.state.worth)
    bits_set = turn.link.sent_bits
    if strategy.kind.is_source or strategy.kind.is_target:
        resync.start_bitmap_exchange(
            turn, source=strategy.kind.is_source, full=strategy.kind.is_full, bits_set=bits_set
        )
    else:
        turn.enter(ReplicationState.ESTABLISHED)
    turn.expose()
    turn.settle()
    turn.send_state()
    resync.send_bitmap(turn)


def on_link_lost(turn: Turn) -> None:
    """Take the disk for what its flags make of it, unless applications have seen newer data."""
    state = turn.state
    if state.disk is not DiskState.NEGOTIATING:
        return
    if state.role is Role.PRIMARY and state.exposed not in {0, plain(state.ids.current)}:
        give_up(turn, "The peer is lost, and the disk has older data than it: the disk is given up again")
        return
    doubted = state.worth is DiskState.UP_TO_DATE and state.options.fencing is not Fencing.DONT_CARE
    turn.change(disk=DiskState.CONSISTENT if doubted else state.worth)


def give_up(turn: Turn, sentence: str) -> None:
    """Be Diskless again; the peer hears of it."""
    turn.say(sentence, "attach-refused", ERROR)
    turn.hold_requests()
    turn.add(DetachDisk())
    turn.change(disk=DiskState.DISKLESS, metadata=None)
    turn.settle()
    if turn.state.established:
        turn.send_state()
