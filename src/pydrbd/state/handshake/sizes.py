"""How large the device is: the smaller disk, never less than is in use, never larger by accident (facts 2.8)."""

from __future__ import annotations

from dataclasses import replace

from pydrbd.model.packets import Sizes
from pydrbd.model.states import DiskState, Role
from pydrbd.state.node_state import NodeState
from pydrbd.state.turn import WARNING, Turn

SMALLEST_BLOCK_BYTES = 512
LARGEST_BLOCK_BYTES = 1 << 16


def _smaller(*sectors: int) -> int:
    """Return the smallest of the sizes that are not 0, or 0."""
    return min((size for size in sectors if size), default=0)


def size_alone(backing_sectors: int, agreed_sectors: int, user_sectors: int) -> int:
    """Return the size without a peer: what was last agreed on, or all that there is, and no more than is configured."""
    return _smaller(agreed_sectors or backing_sectors, backing_sectors, user_sectors)


def own_sizes(state: NodeState) -> Sizes:
    """Return what we tell the peer.

    A disk with good data names its present size as the wanted one, so that neither side grows the device merely
    because the disks would have room: the new blocks would differ. Growing is a command of its own.
    """
    options = state.options
    limits = replace(
        options.limits,
        physical_block_size=max(options.limits.physical_block_size, state.block_bytes),
        logical_block_size=state.block_bytes,
        io_min=max(options.limits.io_min, state.block_bytes),
    )
    if state.disk < DiskState.NEGOTIATING:
        return Sizes(0, 0, state.size_sectors, options.max_bio_size_bytes, limits=limits)
    user = options.user_sectors
    if state.disk > DiskState.INCONSISTENT:
        user = _smaller(user, state.size_sectors)
    return Sizes(state.backing_sectors, user, state.size_sectors, options.max_bio_size_bytes, limits=limits)


def peer_block_bytes(state: NodeState, packet: Sizes) -> int:
    """Return the smallest request that the peer's disk takes, or what it said last, if it says nothing sensible now."""
    found = packet.limits.logical_block_size if packet.limits is not None and packet.disk_sectors else 0
    sensible = SMALLEST_BLOCK_BYTES <= found <= LARGEST_BLOCK_BYTES and found & (found - 1) == 0
    return found if sensible else state.peer_block_bytes


def warn_of_blocks(turn: Turn, whose: str, block_bytes: int) -> None:
    """Say it when a disk joins that takes no request as small as applications may make (8.4 warns, too)."""
    state = turn.state
    if state.role is Role.PRIMARY and 0 < state.export_block_bytes < block_bytes:
        turn.say(
            f"{whose} disk takes nothing smaller than {block_bytes} bytes, and applications were told"
            f" {state.export_block_bytes}: a smaller write costs it the disk, until this node is promoted again",
            "block-sizes-differ",
            WARNING,
        )


def options_sectors(state: NodeState) -> int:
    """Return the configured size; 0 for as large as the disks allow."""
    return state.options.user_sectors


def _grown(own: Sizes, peer: Sizes) -> int:
    """Return the larger of two sizes in use: a resize was cut short between the two nodes. 0: there are none.

    Both disks have good data then, which each says by wanting the size that it has.
    """
    in_use = all(side.current_sectors and side.user_sectors == side.current_sectors for side in (own, peer))
    return max(own.current_sectors, peer.current_sectors) if in_use else 0


def agreed_size(state: NodeState, peer: Sizes) -> tuple[int, str]:
    """Return the size that both sides come to, and a sentence if it cannot be."""
    if not state.has_disk:
        # Without a disk of our own the peer knows best; what it says last is what its disk has room for.
        size = peer.current_sectors or peer.user_sectors or peer.disk_sectors or state.size_sectors
        return size, ""
    own = own_sizes(state)
    if not peer.disk_sectors:
        return state.size_sectors, ""
    room = _smaller(own.disk_sectors, peer.disk_sectors, options_sectors(state))
    grown = _grown(own, peer)
    if grown and grown <= room:
        return grown, ""
    size = _smaller(room, own.user_sectors, peer.user_sectors)
    if size < state.size_sectors and state.disk >= DiskState.OUTDATED:
        return size, f"The peer's disk size is too small! ({size} < {state.size_sectors} sectors)"
    return size, ""
