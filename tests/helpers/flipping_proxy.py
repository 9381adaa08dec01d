"""A relay between two nodes that changes one byte of what one of them says, once, where the test tells it to."""

from __future__ import annotations

import contextlib
import socket
import threading

CHUNK = 1 << 16


class FlippingProxy:
    """Stands for a peer: listens where the node looks for it, and connects to the real one from that address."""

    def __init__(self, listen: tuple[str, int], peer: tuple[str, int], source: str) -> None:
        """`source` is the address under which the peer knows the node that connects."""
        self._peer, self._source = peer, source
        self._marker = b""
        self.flipped = 0
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(listen, backlog=8)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, marker: bytes) -> None:
        """Flip a bit behind the next `marker` that passes in either direction."""
        self._marker = marker

    def close(self) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._peer, 5, source_address=(self._source, 0))
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._sockets |= {near, far}
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self._relay, args=(one, other), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := one.recv(CHUNK):
                other.sendall(self._changed(chunk))
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def _changed(self, chunk: bytes) -> bytes:
        at = chunk.find(self._marker) if self._marker else -1
        end = at + len(self._marker)
        if at < 0 or end >= len(chunk):
            return chunk
        self._marker = b""
        self.flipped += 1
        return chunk[:end] + bytes([chunk[end] ^ 0x10]) + chunk[end + 1 :]
