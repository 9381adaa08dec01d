"""What a model node has on its disk, and what travels between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.state.node_state import NO_MD_FLAGS


@dataclass
class Item:
    """Something on a stream: a control packet (number and payload) or a hot packet of the model (block and value)."""

    kind: str
    command: int = 0
    payload: bytes = b""
    block: int = 0
    value: int = 0
    bits: frozenset[int] = frozenset()


@dataclass
class Disk:
    """What survives a crash."""

    sectors: int
    blocks: list[int]
    ids: GenerationIds = field(default_factory=GenerationIds)
    flags: MdFlag = NO_MD_FLAGS
    agreed_sectors: int = 0
    bits: set[int] = field(default_factory=set)
    """The bitmap on disk."""
    hot: set[int] = field(default_factory=set)
    """What the activity log names: written as Primary since the disk was attached."""
    block_bytes: int = 512
    """The smallest request that it takes."""
