"""The link to the peer as the rules order it: listen and connect, hand the sockets over, send packets, drop.

Holds what was agreed on with the peer of this connection, and decodes its packets. Between `SocketsReady` and the
order to adopt them it owns the sockets; afterwards the engine does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pydrbd.config.description import NetOptions
from pydrbd.core.engine import Digest, Engine, Peer
from pydrbd.model import events
from pydrbd.model.events import Event
from pydrbd.model.packets import Packet, Received
from pydrbd.node.handover.inheritance import Inheritance
from pydrbd.node.link.connector import Connector, Link, Terms
from pydrbd.node.link.handshake import IncompatibleError
from pydrbd.wire import Agreed, decode, pack

log = logging.getLogger(__name__)

LISTEN_AGAIN_S = 1.0
INTERNAL_TOKEN = 0
"""Of commands that no user gave: nobody waits for their answer."""


class PeerLink:
    """One resource's link."""

    def __init__(self, engine: Engine, terms: Terms, net: NetOptions, post: Callable[[Event], None]) -> None:
        self._engine = engine
        self._terms = terms
        self._net = net
        self._post = post
        self._connector: Connector | None = None
        self._attempt: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._agreed = Agreed()

    def reserve(self, inherited: Inheritance | None = None) -> None:
        """Bind the port now, so that an address in use is known before anything is touched. Raises `OSError`."""
        self._connector = Connector(self._terms)
        local = self._terms.local
        sock = None
        if inherited is not None:
            sock = inherited.take_listener("peer", (local.address, local.port))
        if sock is None:
            self._connector.listen()
        else:
            self._connector.go_on(sock)

    def keep(self) -> int:
        """Return the descriptor of what `reserve` bound, where the peer can wait; -1: nothing was. The caller's."""
        connector, self._connector = self._connector, None
        return -1 if connector is None else connector.keep()

    async def start_listening(self) -> None:
        """Listen and connect in the background; `SocketsReady` follows."""
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.ensure_future(self._find_peer())

    async def stop_listening(self) -> None:
        """Give up, close what is half open."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.gather(self._attempt, return_exceptions=True)
            self._attempt = None
        if self._connector is not None:
            self._connector.close()
            self._connector = None
        if self._link is not None:
            self._link.close()
            self._link = None

    async def adopt(self) -> None:
        """Hand both sockets to the engine."""
        link, self._link = self._link, None
        if link is None:
            raise OSError("there are no sockets to hand over")
        net = self._net
        blocks = net.on_congestion == "block"
        peer = Peer(
            data_fd=link.data.detach(),
            meta_fd=link.meta.detach(),
            agreed_version=link.agreed.version,
            features=link.agreed.features,
            ping_int_ms=net.ping_int_ms,
            ping_timeout_ms=net.ping_timeout_ms,
            timeout_ms=net.timeout_ms,
            ko_count=net.ko_count,
            max_epoch_size=net.max_epoch_size,
            max_buffers=net.max_buffers_pages,
            verify_alg=Digest.named(net.verify_alg),
            csums_alg=Digest.named(net.csums_alg),
            integrity_alg=Digest.named(net.data_integrity_alg),
            congestion_fill_sectors=0 if blocks else net.congestion_fill_sectors,
            congestion_extents=0 if blocks else net.congestion_extents,
        )
        try:
            await self._engine.peer_connect(peer)
        except OSError:
            log.exception("the engine did not take the connection")
            self._post(events.PeerLost(events.Lost.BROKEN, 0, 0))

    async def drop(self) -> None:
        """Send what is queued and close; sockets that the engine does not hold yet are just closed."""
        if self._link is not None:
            self._link.close()
            self._link = None
            self._post(events.PeerLost(events.Lost.ORDERED, 0, 0))
        else:
            await self._engine.peer_disconnect()

    async def send(self, packet: Packet) -> None:
        """Queue a control packet in its socket's stream."""
        self._engine.peer_send(packet.socket.value, packet.command, pack(packet, self._agreed))

    def decode(self, command: int, payload: bytes) -> Received:
        """Return the packet of this connection that the engine has read."""
        return decode(command, payload, self._agreed.version, self._agreed.features)

    async def _find_peer(self) -> None:
        try:
            link = await self._connect()
        except IncompatibleError as error:
            self._post(events.Disconnect(INTERNAL_TOKEN, because=str(error)))
            return
        self._link = link
        self._agreed = link.agreed
        log.info("handshake with %s: agreed on DRBD protocol %d", self._terms.peer, link.agreed.version)
        bits_set = self._engine.counters().out_of_sync_bits
        self._post(events.SocketsReady(link.agreed.version, link.agreed.features, link.resolve_conflicts, bits_set))

    async def _connect(self) -> Link:
        while True:
            connector = self._connector or Connector(self._terms)
            self._connector = None
            try:
                return await connector.connect()
            except OSError as error:
                log.log(logging.ERROR, "%s; trying again", error.strerror or error)
                await asyncio.sleep(LISTEN_AGAIN_S)
