"""Two machines in one world, replicas in sync, an application's ledger, and the promises that are checked at rest.

A scenario is a coroutine over a `Pair`; `Pair.run` runs it and, if anything goes wrong, adds seed, commit and trace to
what it raises.
"""

import asyncio
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pydrbd.model.events import Connect, Demote, Promote
from pydrbd.model.generation import GenerationIds
from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.ondisk import activity_log
from pydrbd.state.generations import plain
from sim.client import Client, GoneError
from sim.disks import GOOD, DiskSet
from sim.ledger import Ledger
from sim.node import SimNode, Wire, view_of
from sim.world import Chance, PowerCutError, World

EXTENT_SECTORS = 8192
BITS_PER_EXTENT = 1024
PATIENCE_S = 200.0
NOTICED_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Pair:
    """The two, and what was promised."""

    def __init__(
        self,
        seed: int,
        chance: Chance | None = None,
        *,
        al_extents: int = 2,
        extents: int = 5,
        internal: bool = False,
        tracing: bool = False,
        **more: str,
    ) -> None:
        """`more` is text for the configuration: `net`, `disk`."""
        self.world = World(seed, chance, tracing=tracing)
        self.wire = Wire(self.world)
        self.ledger = Ledger()
        self.al_extents = al_extents
        self.device_sectors = extents * EXTENT_SECTORS
        ids = GenerationIds(current=self.world.new_uuid())
        self.nodes: list[SimNode] = []
        for number, name in enumerate(("castor", "pollux")):
            disks = DiskSet(self.world, number, self.device_sectors, internal=internal)
            disks.create(ids, GOOD)
            view = view_of(name, al_extents=al_extents, internal=internal, **more)
            self.nodes.append(SimNode(self.world, number, view, disks, self.wire))
        self.castor, self.pollux = self.nodes

    def peer_of(self, node: SimNode) -> SimNode:
        return self.nodes[1 - node.number]

    # --- running -----------------------------------------------------------------------------------------------------

    @classmethod
    def run(cls, scenario: Callable[["Pair"], Coroutine[Any, Any, Any]], seed: int, **options: Any) -> Any:
        """Run one scenario; a failure is run again with tracing on, and raised with its trace beside it."""
        pair = cls(seed, **options)
        try:
            return pair.world.run(scenario(pair))
        except BaseException as failure:
            if options.get("tracing"):
                failure.add_note(f"commit {_commit()}\n{pair.world.trace()}")
            raise
        finally:
            pair.world.close()

    # --- what both do ------------------------------------------------------------------------------------------------

    async def boot(self) -> None:
        """Boot both and wait until they are in sync."""
        await asyncio.gather(*(node.boot() for node in self.nodes if not node.alive))
        await self.in_sync()

    async def in_sync(self) -> None:
        """Wait until both say UpToDate; after a cut that nobody was told of, until it must have been noticed."""
        if self.wire.silent:
            self.wire.silent = False
            await asyncio.sleep(NOTICED_S)
        both = asyncio.gather(*(node.until(_is_in_sync, PATIENCE_S) for node in self.nodes))
        await self.castor.unless_cut(self.pollux.unless_cut(both))

    async def promote(self, node: SimNode) -> Client:
        """Make a node Primary and connect an application to it."""
        await node.until(lambda state: state.peer_role is not Role.PRIMARY)
        refusal = await node.command(Promote, new_uuid=self.world.new_uuid())
        assert refusal is None, f"{node.name} may not be Primary: {refusal}"
        return await Client.connect(self.world, node, self.ledger)

    async def demote(self, node: SimNode, client: Client) -> None:
        client.close()
        await node.until(lambda state: state.clients == 0)
        refusal: Refusal | None = await node.command(Demote)
        assert refusal is None, f"{node.name} may not be Secondary: {refusal}"

    async def connect(self) -> None:
        """Let nodes that stand alone look for each other again."""
        for node in self.nodes:
            if node.state.connection is ConnectionState.STANDALONE:
                await node.command(Connect)

    # --- what must hold ----------------------------------------------------------------------------------------------

    async def at_rest(self) -> None:
        """Check everything that must hold when both are in sync and idle."""
        await self.settled()
        castor, pollux = self.nodes
        for node in self.nodes:
            assert node.bits_set == 0, f"{node.name} is UpToDate and has {node.bits_set} bits set"
        assert plain(castor.state.ids.current) == plain(pollux.state.ids.current)
        assert castor.state.ids.bitmap == pollux.state.ids.bitmap == 0
        differ = self.world.lib.sim_disk_differ(
            self.world.handle, castor.disks.data.fd, pollux.disks.data.fd, 0, self.device_sectors * 512
        )
        assert differ > self.device_sectors * 512, f"the disks differ at sector {differ // 512}"

    async def settled(self) -> None:
        """Wait until no engine has anything under way."""
        for _ in range(200):
            await asyncio.sleep(0.05)
            counters = [node.counters for node in self.nodes]
            busy = any(one.pending or one.unacked or one.unstable or one.lower_pending for one in counters)
            if not busy:
                return
        raise AssertionError(f"never at rest: {counters}")

    def current_id(self, node: SimNode) -> int:
        """Return the current identifier on a disk that nobody uses."""
        return node.disks.open(node.disks.place).superblock.ids.current

    def bits_allowed(self, node: SimNode) -> int:
        """Return how many blocks its disk, as it is, may let a resync copy at most: bitmap and activity log."""
        store = node.disks.open(node.disks.place)
        layout = store.layout
        ring = node.disks.metadata.read(layout.al_offset_bytes, layout.al_blocks * 4096)
        extents = activity_log.replay(ring, layout.al_stripes).extents
        return store.bits_set() + len(extents) * BITS_PER_EXTENT


def _is_in_sync(state: Any) -> bool:
    return (
        state.established
        and state.replication is ReplicationState.ESTABLISHED
        and state.disk is DiskState.UP_TO_DATE
        and state.peer_disk is DiskState.UP_TO_DATE
    )


def is_primary(node: SimNode) -> bool:
    return node.alive and node.state.role is Role.PRIMARY


def _commit() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


__all__ = ["Chance", "Client", "GoneError", "Pair", "PowerCutError", "is_primary"]
