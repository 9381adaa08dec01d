"""How two nodes find each other (DRBD 8.4 `conn_connect`).

Both ends listen on their own address and port and connect to the peer's. Each makes an outgoing socket for data, then
one for meta; what the other made is accepted and complements them. Attempts that crossed are thrown away on both sides
and tried again after a random pause. The side that accepted the meta socket resolves conflicts (8.4's
RESOLVE_CONFLICTS).

Only the configured peer's address is let in, before a byte is read; half-open sockets are few and have a deadline. What
is refused is said in the log, seldom enough not to fill it. Knows no rule: the result is a `Link`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from pydrbd.model.commands import Command
from pydrbd.node.link.authenticate import authenticate
from pydrbd.node.link.handshake import (
    HandshakeError,
    IncompatibleError,
    agree,
    first_packet,
    receive_first_packet,
)
from pydrbd.wire import Agreed

log = logging.getLogger(__name__)

HALF_OPEN_MAX = 8
"""Accepted sockets that have not named themselves yet, at most."""
FIRST_PACKET_PING_TIMEOUTS = 4
"""8.4 waits for the first packet four times ping-timeout."""
HANDSHAKE_PING_TIMEOUTS = 10
RETRY_S = 1.0
"""8.4 waits a second after a handshake that failed."""
KNOCKED_S = 0.2
"""So long who stood there already may take to name himself, before we go out."""
SAY_AGAIN_S = 10.0
SAID_MAX = 100
"""Strangers from many addresses must not fill the memory either."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port; `address` is numeric."""

    address: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """Return the address family."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the two nodes are, and how patient they are."""

    local: Endpoint
    peer: Endpoint
    connect_int_s: float = 10.0
    ping_timeout_s: float = 0.5
    socket_check_timeout_s: float = 0.0
    """Time that both sockets must survive before they count; 0: ping-timeout."""
    sndbuf_bytes: int = 0
    rcvbuf_bytes: int = 0
    cram_hmac_alg: str | None = None
    shared_secret: str = ""


@dataclass(slots=True)
class Link:
    """Both sockets, connected and agreed; nothing of the engine's stream has been read. The owner closes them."""

    data: socket.socket
    meta: socket.socket
    agreed: Agreed
    resolve_conflicts: bool

    def close(self) -> None:
        """Close both sockets."""
        self.data.close()
        self.meta.close()


@dataclass(slots=True)
class _Pair:
    """The sockets of one attempt."""

    data: socket.socket | None = None
    meta: socket.socket | None = None
    resolve_conflicts: bool = False

    def forget_dead(self) -> None:
        """Drop the sockets that the peer has closed."""
        if self.data is not None and not _is_alive(self.data):
            self.data.close()
            self.data = None
        if self.meta is not None and not _is_alive(self.meta):
            self.meta.close()
            self.meta = None

    def both(self) -> tuple[socket.socket, socket.socket] | None:
        """Return data and meta socket, if both are there."""
        return None if self.data is None or self.meta is None else (self.data, self.meta)

    def sockets(self) -> Iterator[socket.socket]:
        """Yield those that are there."""
        yield from (sock for sock in (self.data, self.meta) if sock is not None)

    def close(self) -> None:
        """Close both."""
        for sock in self.sockets():
            sock.close()
        self.data = self.meta = None


class Connector:
    """Listens and connects until a `Link` stands."""

    def __init__(self, terms: Terms, chance: random.Random | None = None) -> None:
        """`chance` decides who waits after crossed attempts."""
        self._terms = terms
        self._chance = chance or random.SystemRandom()
        self._listener: socket.socket | None = None
        self._accepted: asyncio.Queue[tuple[Command, socket.socket]] = asyncio.Queue()
        self._arrived = asyncio.Event()
        """Set while `_accepted` holds something."""
        self._half_open: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}
        self._knocked = False
        """Somebody was in the listening socket's queue before anybody looked."""

    def listen(self) -> socket.socket:
        """Bind and listen; `connect` does it by itself if nobody has.

        Raises `OSError` (EADDRINUSE, EADDRNOTAVAIL, EACCES) with the endpoint in its sentence.
        """
        local = self._terms.local
        sock = socket.socket(local.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._set_buffers(sock)
            sock.bind((local.address, local.port))
            sock.listen(2 * HALF_OPEN_MAX)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"cannot listen on {local}: {error.strerror}") from error
        self._listener = sock
        return sock

    def go_on(self, listener: socket.socket) -> None:
        """Listen with a socket that another program has bound."""
        self._listener = listener

    def keep(self) -> int:
        """Return the descriptor of the listening socket, the caller's; -1: there is none. `connect` is not called."""
        listener, self._listener = self._listener, None
        return -1 if listener is None else listener.detach()

    async def connect(self) -> Link:
        """Return the link once it stands. Raises `IncompatibleError`; any other failure is tried again for ever."""
        listener = self._listener or self.listen()
        self._knocked = _is_readable(listener)
        acceptor = asyncio.ensure_future(self._accept_all(listener))
        try:
            while True:
                try:
                    return await self._attempt()
                except IncompatibleError:
                    raise
                except (HandshakeError, TimeoutError) as error:
                    self._say(f"connection attempt failed: {str(error) or 'the peer did not answer in time'}")
                    await asyncio.sleep(RETRY_S * self._chance.uniform(0.75, 1.25))
        finally:
            acceptor.cancel()
            await asyncio.gather(acceptor, return_exceptions=True)
            self._close_all()

    def close(self) -> None:
        """Close the listening socket, if `connect` has not been called."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self) -> Link:
        pair = _Pair()
        try:
            data, meta = await self._stand(pair)
            async with asyncio.timeout(HANDSHAKE_PING_TIMEOUTS * self._terms.ping_timeout_s):
                agreed = await agree(data)
                if self._terms.cram_hmac_alg is not None:
                    await authenticate(data, self._terms.cram_hmac_alg, self._terms.shared_secret)
        except BaseException:
            pair.close()
            raise
        return Link(data, meta, agreed, pair.resolve_conflicts)

    async def _stand(self, pair: _Pair) -> tuple[socket.socket, socket.socket]:
        """Return both sockets when they stand and have survived the check."""
        await self._let_in_who_knocked(pair)
        while True:
            pair.forget_dead()
            await self._go_out(pair)
            both = await self._established(pair)
            if both is None and await self._take_accepted(pair):
                both = await self._established(pair)
            if both is not None:
                return both

    async def _let_in_who_knocked(self, pair: _Pair) -> None:
        """Take what stood in the listening socket's queue before we came, instead of crossing it with ours.

        That is so after a planned restart: the peer has knocked meanwhile, and waits.
        """
        if not self._knocked:
            return
        self._knocked = False
        with contextlib.suppress(TimeoutError):
            name, sock = await asyncio.wait_for(self._accepted.get(), KNOCKED_S)
            if self._accepted.empty():
                self._arrived.clear()
            self._complement(pair, name, sock)

    async def _go_out(self, pair: _Pair) -> None:
        """Make the next outgoing socket, unless one comes in while we try."""
        if pair.data is not None and pair.meta is not None:
            return
        sock = await self._try_connect()
        if sock is None:
            return
        name = Command.INITIAL_DATA if pair.data is None else Command.INITIAL_META
        try:
            sock.send(first_packet(name))
        except OSError:
            sock.close()
            return
        if name is Command.INITIAL_DATA:
            pair.data = sock
        else:
            pair.meta = sock
            pair.resolve_conflicts = False

    async def _try_connect(self) -> socket.socket | None:
        terms = self._terms
        sock = socket.socket(terms.peer.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._set_buffers(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # From our own address, for that is by what the peer knows us.
            sock.bind((terms.local.address, 0))
            destination = (terms.peer.address, terms.peer.port)
            attempt = asyncio.ensure_future(asyncio.get_running_loop().sock_connect(sock, destination))
            if await self._first_of(attempt):
                return sock
        except OSError as error:
            self._say(f"cannot connect to {terms.peer}: {error.strerror}", logging.DEBUG)
        except asyncio.CancelledError:
            sock.close()
            raise
        sock.close()
        return None

    async def _first_of(self, attempt: asyncio.Task[None]) -> bool:
        """Wait for the attempt, connect-int, or an accepted socket. True: the attempt has succeeded."""
        arrival = asyncio.ensure_future(self._arrived.wait())
        try:
            done, _ = await asyncio.wait(
                {attempt, arrival}, timeout=self._terms.connect_int_s, return_when=asyncio.FIRST_COMPLETED
            )
            if attempt in done:
                attempt.result()
            return attempt in done
        finally:
            arrival.cancel()
            attempt.cancel()
            await asyncio.gather(arrival, attempt, return_exceptions=True)

    async def _take_accepted(self, pair: _Pair) -> bool:
        """Wait about connect-int for the peer to come in.

        False: it did not, or attempts crossed and we go out again.
        """
        while True:
            jitter = self._terms.connect_int_s / 7
            patience_s = self._terms.connect_int_s + self._chance.choice((-jitter, jitter))
            try:
                name, sock = await asyncio.wait_for(self._accepted.get(), patience_s)
            except TimeoutError:
                return False
            if self._accepted.empty():
                self._arrived.clear()
            pair.forget_dead()
            if not self._complement(pair, name, sock):
                return True
            self._say(f"initial packets crossed ({'data' if name is Command.INITIAL_DATA else 'meta'})")
            if not self._chance.getrandbits(1):
                return True

    @staticmethod
    def _complement(pair: _Pair, name: Command, sock: socket.socket) -> bool:
        """Put an accepted socket in its place. True: one of ours stood there, the attempts crossed."""
        if name is Command.INITIAL_DATA:
            old, pair.data = pair.data, sock
        else:
            old, pair.meta = pair.meta, sock
            pair.resolve_conflicts = True
        if old is not None:
            old.close()
        return old is not None

    async def _established(self, pair: _Pair) -> tuple[socket.socket, socket.socket] | None:
        """Return both sockets if they stand, and still do after the time in which crossed attempts show."""
        both = pair.both()
        if both is None:
            return None
        await _wait_readable(both[0], self._terms.socket_check_timeout_s or self._terms.ping_timeout_s)
        pair.forget_dead()
        return pair.both()

    # --- those who come in -------------------------------------------------------------------------------------------

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                self._say(f"cannot accept a connection: {error.strerror}", logging.ERROR)
                await asyncio.sleep(RETRY_S)
                continue
            if ip_address(address[0].partition("%")[0]) != ip_address(self._terms.peer.address):
                sock.close()
                self._say(f"refused a connection from {address[0]}: the peer is {self._terms.peer.address}")
            elif len(self._half_open) >= HALF_OPEN_MAX:
                sock.close()
                self._say(
                    f"refused a connection from {address[0]}: {HALF_OPEN_MAX} others have not named themselves yet"
                )
            else:
                task = asyncio.ensure_future(self._admit(sock, Endpoint(address[0], address[1])))
                self._half_open.add(task)
                task.add_done_callback(self._half_open.discard)

    async def _admit(self, sock: socket.socket, origin: Endpoint) -> None:
        """Read the name of an accepted socket, within the deadline."""
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(FIRST_PACKET_PING_TIMEOUTS * self._terms.ping_timeout_s):
                name = await receive_first_packet(sock)
        except (HandshakeError, TimeoutError, OSError) as error:
            sock.close()
            self._say(f"refused a connection from {origin}: {str(error) or 'no packet named it in time'}")
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            self._accepted.put_nowait((name, sock))
            self._arrived.set()

    # --- small things ------------------------------------------------------------------------------------------------

    def _set_buffers(self, sock: socket.socket) -> None:
        if self._terms.sndbuf_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._terms.sndbuf_bytes)
        if self._terms.rcvbuf_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._terms.rcvbuf_bytes)

    def _say(self, sentence: str, level: int = logging.WARNING) -> None:
        """Log a sentence, but the same one not again for a while: a stranger must not fill the log."""
        now = asyncio.get_running_loop().time()
        key = sentence.partition(":")[0]
        if len(self._said) > SAID_MAX:
            self._said.clear()
        if now >= self._said.get(key, 0.0):
            self._said[key] = now + SAY_AGAIN_S
            log.log(level, "%s", sentence)

    def _close_all(self) -> None:
        for task in self._half_open:
            task.cancel()
        while not self._accepted.empty():
            self._accepted.get_nowait()[1].close()
        self.close()


def _is_alive(sock: socket.socket) -> bool:
    """Whether the peer has not closed the socket, be there unread bytes or not."""
    gone = select.POLLRDHUP | select.POLLHUP | select.POLLERR
    poll = select.poll()
    poll.register(sock, gone)
    return not poll.poll(0)


def _is_readable(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


async def _wait_readable(sock: socket.socket, timeout_s: float) -> None:
    """Return when something arrives (the peer goes on, or closes), or after the time."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(sock.fileno(), readable.cancel)
    try:
        await asyncio.wait({readable}, timeout=timeout_s)
    finally:
        loop.remove_reader(sock.fileno())
