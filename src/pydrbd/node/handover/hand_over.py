"""The end of a daemon that makes room for the next program in its own process: `pydrbd restart`.

The order, and what a power cut finds after each step:

1. Nobody new is let in; who connects waits in the listening sockets' queues. As before.
2. The export is parked: what was taken from clients is carried out, safe at the peer, and answered. As before: the
   activity log still names what is hot.
3. The node goes down as on any day: it gives its role up, tells the peer, empties its activity log, and says on disk
   that this was an orderly end. A Secondary, as after `pydrbd down`: nothing that was acknowledged is in one place
   only that was not so before.
4. The engine ends, which waits for the disk: nothing of ours is under way anywhere. Then the next program is started,
   in the same process, with the sockets.
5. It attaches, meets the peer, asks to be Primary again by the same rules as a user, and goes on with the clients.

What cannot be brought to rest is not forced: I/O that is suspended stays suspended. A device outlives even a daemon
that just ends; a client's connection does not, so with clients the restart is refused then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable

from pydrbd.core.engine import Engine, Parked
from pydrbd.model import events
from pydrbd.model.states import Role
from pydrbd.node.admin.admin_socket import EXIT_OK, AdminSocket, Reply, Request
from pydrbd.node.admin.verbs import DOWN_DEADLINE_S, EXIT_UNFINISHED, Command, Verbs
from pydrbd.node.export_socket import ExportSocket
from pydrbd.node.handover.inheritance import Inheritance
from pydrbd.node.kernel.kernel_device import KernelDevice
from pydrbd.node.link.peer_link import PeerLink
from pydrbd.node.performer import Performer
from pydrbd.node.process import EXIT_INVALID, is_supervised

log = logging.getLogger(__name__)

PARK_S = 1.5
"""What takes longer to come to rest is not waited for: whoever uses the device waits, too."""


class HandOver:
    """One daemon's. `under_way`: the export's clients and the device are the next program's from here on."""

    def __init__(
        self,
        performer: Performer,
        engine: Engine,
        verbs: Verbs,
        device: KernelDevice,
        export: ExportSocket,
        leave: Callable[[], bool],
    ) -> None:
        """`leave` ends the daemon as a crash would, with its device in place; False: a client would notice."""
        self._resource = verbs.resource
        self._performer = performer
        self._engine = engine
        self._verbs = verbs
        self._device = device
        self._doors = {"export": export, "device": device.server}
        self._leave = leave
        self._asked = False
        self.under_way = False
        self.was_primary = False
        self.had_peer = False
        self.parked: list[Parked] = []

    async def restart(self, _: Request) -> Reply | None:
        """Carry out the verb; None: we are down, and the next program answers."""
        if self._asked:
            return Reply(EXIT_UNFINISHED, f"{self._resource}: is being restarted already")
        self._asked = True
        try:
            return self._refusal() or await self._restart()
        finally:
            self._asked = self.under_way

    def _refusal(self) -> Reply | None:
        state = self._performer.state
        if state.role is Role.PRIMARY and not state.has_disk:
            # What it has is the peer's, and the next program might not get that far.
            return Reply(EXIT_INVALID, f"{self._resource}: Primary without a disk is not restarted: attach one first")
        if not os.access(sys.executable, os.X_OK):
            return Reply(EXIT_INVALID, f"{self._resource}: cannot be restarted: {sys.executable} is gone")
        return None

    async def _restart(self) -> Reply | None:
        self.was_primary = self._performer.state.role is Role.PRIMARY
        self.had_peer = self._performer.state.established
        if self.was_primary and not await self._park():
            if self._leave():
                return Reply(data={"left": True, "supervised": is_supervised()})
            return Reply(
                EXIT_UNFINISHED,
                f"{self._resource}: not restarted: requests of its NBD clients have not ended within {PARK_S:g} s",
            )
        self.under_way = True
        log.warning("making room for the next program, with %d sockets", len(self.parked))
        # Who has the device open does not lose it; a peer is told, but not asked, as long as we were Primary: it may
        # be slow. It is Secondary, as we are by then, and nobody has to be fenced.
        down = Command(events.Down, frozenset({"force"}), deadline_s=DOWN_DEADLINE_S)
        reply = await self._verbs.order(down, "restart", {"force": self.was_primary})
        if reply.exit == EXIT_OK:
            return None
        # What has not finished goes on, up to the next program; that one has nobody to answer then.
        self.under_way = reply.exit == EXIT_UNFINISHED
        return reply

    async def _park(self) -> bool:
        """Bring the export to rest. False: it does not come to rest, and goes on."""
        for door in self._doors.values():
            door.pause()
        parking = asyncio.ensure_future(self._engine.export_park())
        done, _ = await asyncio.wait({parking}, timeout=PARK_S)
        if not done:
            self._engine.export_unpark()
        try:
            self.parked = await parking  # in the end it may have come to rest all the same
        except OSError as error:
            log.warning("not at rest: %s", error.strerror)
            self._engine.export_unpark()
            for door in self._doors.values():
                door.resume()
            return False
        return True

    # --- the end of the daemon ----------------------------------------------------------------------------------------

    def keep(self, admin: AdminSocket) -> Inheritance:
        """Keep the doors where clients wait from being closed with the rest; return what is handed over so far."""
        kept = {name: door.keep() for name, door in self._doors.items()} | {"admin": admin.keep()}
        listeners = {name: fd for name, fd in kept.items() if fd >= 0}
        return Inheritance(self.was_primary, self.had_peer, listeners=listeners, clients=self.parked)

    @staticmethod
    def finish(bequest: Inheritance, admin: AdminSocket, link: PeerLink) -> None:
        """Add who asked, and a door for the peer, who knocks from now on. Everything else has been closed."""
        bequest.asker = admin.asker
        try:
            link.reserve()
        except OSError as error:
            log.warning("%s", error.strerror)  # the next program tries again
        else:
            bequest.listeners["peer"] = link.keep()
