"""Two nodes of one resource: the real rules twice, the real codecs between them, a model of engine, disk and network.

The model engine does what `core_api.h` says, block by block, on a list of numbers. Packets travel as bytes on two
ordered streams per direction, one for each socket, and arrive when the test delivers them. A packet that the engine was
not told to accept is an error of the rules and raises `NotAcceptedError`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from typing import Any

from helpers.resource_parts import Disk, Item
from pydrbd.model import effects, events
from pydrbd.model.commands import Socket
from pydrbd.model.effects import Effect, Gate, Reads, Replication
from pydrbd.model.events import Event, Lost
from pydrbd.model.generation import MdFlag
from pydrbd.state.machine import step
from pydrbd.state.node_state import NodeState, Options
from pydrbd.wire import Agreed, decode, pack

WRITES, READS, RESYNC, BITMAP, OUT_OF_SYNC, VERIFY = 1, 2, 4, 8, 16, 32
AGREED = Agreed(101, 15)
SECTORS_PER_BLOCK = 8


class NotAcceptedError(AssertionError):
    """The peer sent what the rules had not told the engine to accept."""


class Node:
    """One node: the rules, and the engine's model."""

    def __init__(self, name: str, disk: Disk, options: Options, uuids: Iterator[int]) -> None:
        self.name = name
        self.disk = disk
        self.uuids = uuids
        self.options = options
        self.sent: list[tuple[Socket, int, bytes]] = []
        self.answers: dict[int, list[effects.Answer]] = {}
        self.said: list[effects.Say] = []
        self.performed: list[Effect] = []
        self.tokens = 0
        self.reset()

    def reset(self) -> None:
        """Begin as a fresh process."""
        self.state = NodeState(options=self.options)
        self.events: deque[Event] = deque()
        self.bits: set[int] = set()
        self.attached = False
        """As the engine sees it: the rules' state is already that of the end of a list of orders."""
        self.replication = Replication.NONE
        self.reads = Reads.NONE
        self.gate = Gate.OPEN
        self.accept = 0
        self.export = False
        self.export_sectors = 0
        self.listening = False
        self.exited = False
        self.resync: str = ""
        self.verifying: list[int] = []
        self.found = 0
        self.reading = True
        self.in_link = False
        self.lost = False
        self.unacked: dict[int, int] = {}
        self.unstable: set[int] = set()
        self.at_gate: list[tuple[int, int]] = []
        self.untold: dict[int, int] = {}
        self.failed: list[tuple[int, int]] = []
        self.acknowledged: dict[int, int] = {}
        self.timers: dict[str, int] = {}
        self.to_resume = 0
        self.data_out: deque[Item] = deque()
        self.meta_out: deque[Item] = deque()
        self.closed = False

    # --- what the test does ------------------------------------------------------------------------------------------

    def command(self, kind: type, **fields: Any) -> int:  # noqa: ANN401
        """Give a command; return its token."""
        self.tokens += 1
        token = self.tokens
        self.answers[token] = []
        if kind in {events.Promote, events.Invalidate}:
            fields["new_uuid"] = next(self.uuids)
        if kind is events.Resize:
            fields["backing_sectors"] = self.disk.sectors
        self.post(kind(token, **fields))
        return token

    def attach(self, token: int = 0) -> None:
        """Open the disk, as a node does when it starts."""
        disk = self.disk
        self.attached = True
        known = (disk.agreed_sectors or disk.sectors) // SECTORS_PER_BLOCK
        self.bits = {bit for bit in disk.bits if bit < known}
        crashed = bool(disk.flags & MdFlag.PRIMARY_IND)
        if crashed or disk.hot:
            self.bits |= disk.hot
        self.post(
            events.Attached(
                disk.ids,
                disk.flags,
                1,
                disk.agreed_sectors,
                disk.sectors,
                len(self.bits),
                crashed,
                token=token,
                block_bytes=disk.block_bytes,
            )
        )

    def write(self, block: int, value: int) -> bool:
        """Write a block through the export; return whether there is one."""
        if not self.export or self.reads is Reads.NONE or block * SECTORS_PER_BLOCK >= self.export_sectors:
            return False
        self.at_gate.append((block, value))
        self._open_gate()
        return True

    def read(self, block: int) -> int | None:
        """Read a block through the export, if it can be served from this side."""
        return self.disk.blocks[block] if self.export and self.reads is Reads.LOCAL else None

    def timer(self, name: str) -> None:
        """Let a timer run out."""
        del self.timers[name]
        self.post(events.TimerFired(name, len(self.bits), len(self.unacked) + len(self.unstable)))

    def post(self, event: Event) -> None:
        """Give the rules an event, and those that follow from what they order."""
        self.events.append(event)
        if len(self.events) > 1:
            return
        while self.events:
            self._step(self.events[0])
            self.events.popleft()

    def _step(self, event: Event) -> None:
        self.state, todo = step(self.state, event, 0)
        if self.exited:
            return
        resumes = sum(isinstance(effect, effects.ResumeReading | effects.DropConnection) for effect in todo)
        stopped = isinstance(event, events.BitmapReceived) or (
            isinstance(event, events.PacketReceived) and event.packet.socket is Socket.DATA
        )
        if stopped and self.in_link and not self.lost and not self.closed:
            assert resumes == 1, (event, todo)
        for effect in todo:
            self._perform(effect)

    # --- what the rules order ----------------------------------------------------------------------------------------

    def _perform(self, effect: Effect) -> None:
        self.performed.append(effect)
        match effect:
            case effects.PersistMetadata(ids=ids, flags=flags, agreed_sectors=sectors):
                self.disk.ids, self.disk.flags, self.disk.agreed_sectors = ids, flags, sectors
            case effects.WriteBitmap():
                self.disk.bits = set(self.bits)
            case effects.SetAllBits():
                self.bits = set(range(self.state.total_bits))
            case effects.ClearAllBits():
                self.bits = set()
            case effects.SetReplication(mode=mode):
                self.replication = mode
            case effects.SetReads(source=source):
                self.reads = source
            case effects.SetAccept(accept=accept):
                self.accept = accept
            case effects.SetGate(gate=gate):
                self.gate = gate
                self._open_gate()
            case effects.OpenExport():
                self.export = True
                self.export_sectors = self.state.size_sectors
            case effects.CloseExport():
                self._close_export()
            case effects.StartListening():
                self.listening = True
            case effects.StopListening():
                self.listening = False
            case effects.Say():
                self.said.append(effect)
            case effects.Answer(token=token):
                self.answers[token].append(effect)
            case effects.StartTimer(name=name, delay_ms=delay_ms):
                self.timers[name] = delay_ms
            case effects.StopTimer(name=name):
                self.timers.pop(name, None)
            case effects.SetSize() | effects.ResizeExport():
                self._perform_resize(effect)
            case effects.FlushDisk() | effects.KeepDisk() | effects.SetResyncing() | effects.RunHandler():
                pass  # a test says how handlers end
            case effects.DetachDisk():
                self.attached = False
                self.disk.hot.clear()
                self.bits = set()
            case effects.Exit():
                self.exited = True
            case _:
                self._perform_on_link(effect)

    def _perform_resize(self, effect: effects.SetSize | effects.ResizeExport) -> None:
        if isinstance(effect, effects.ResizeExport):
            assert not self.attached or self.disk.agreed_sectors == effect.sectors, "the superblock comes first"
            self.export_sectors = effect.sectors
            return
        blocks = effect.sectors // SECTORS_PER_BLOCK
        self.disk.blocks += [-1] * (blocks - len(self.disk.blocks))  # what a new disk holds is nobody's
        self.bits = {bit for bit in self.bits if bit < blocks}
        if effect.out_of_sync_from is not None:
            self.bits |= set(range(effect.out_of_sync_from // SECTORS_PER_BLOCK, blocks))

    def _perform_on_link(self, effect: Effect) -> None:
        match effect:
            case effects.AdoptSockets():
                self.listening = False
                self.in_link = True
            case effects.SendPacket(packet=packet):
                payload = pack(packet, AGREED)
                self.sent.append((packet.socket, packet.command, payload))
                stream = self.data_out if packet.socket is Socket.DATA else self.meta_out
                stream.append(Item("packet", packet.command, payload))
            case effects.SendBitmap():
                self.data_out.append(Item("bitmap", bits=frozenset(self.bits)))
            case effects.AnnounceBitmap():
                self.data_out.extend(Item("out-of-sync", block=block) for block in sorted(self.bits))
            case effects.ResumeReading():
                self.reading = True
            case effects.DropConnection():
                self.closed = True
                self.post(self._peer_lost(Lost.ORDERED))
            case effects.Release():
                self._release()
            case effects.StartResync(target=target):
                self.resync = "target" if target else "source"
                if target:
                    self._ask_for_blocks()
            case effects.StopResync():
                self.resync = ""
            case effects.StartVerify(source=source, start_sector=start, stop_sector=stop):
                end = self.state.size_sectors if stop is None else stop
                self.verifying, self.found = list(range(start // SECTORS_PER_BLOCK, end // SECTORS_PER_BLOCK)), 0
                self.data_out += [Item("ov-request", block=block) for block in self.verifying if source]
            case effects.StopVerify():
                self.end_verify(errno.ECANCELED)
            case _:
                raise AssertionError(f"no model of {effect}")

    def end_verify(self, error: int = 0) -> None:
        """Say how far a verify came."""
        position = min(self.verifying, default=self.state.total_bits) * SECTORS_PER_BLOCK
        self.post(events.VerifyDone(self.found, position, error, len(self.bits), next(self.uuids)))
        self.verifying = []

    def _compared(self, item: Item, *, equal: bool) -> None:
        if item.block in self.verifying:
            self.verifying.remove(item.block)
            self.bits |= set() if equal else {item.block}
            self.found += not equal
            if not self.verifying:
                self.end_verify()

    def _peer_lost(self, reason: Lost) -> events.PeerLost:
        self.lost = True
        if self.verifying:
            self.end_verify(errno.ECANCELED)
        return events.PeerLost(reason, len(self.unacked), len(self.unstable), next(self.uuids))

    def lose(self, reason: Lost) -> None:
        """The connection is gone."""
        if self.in_link and not self.lost:
            self.post(self._peer_lost(reason))

    def _release(self) -> None:
        if self.lost:
            self.in_link = self.lost = False
            self.resync = ""
        self.bits |= set(self.unacked) | self.unstable
        if self.gate is Gate.SUSPENDED:
            self.untold |= self.unacked
        else:
            self.acknowledged |= self.unacked
        self.unacked, self.unstable = {}, set()

    def _close_export(self) -> None:
        """Close; a write that waits for the peer is held for ever, so the model loses the peer first."""
        assert not self.at_gate, "closing the export would wait for the gate"
        self.export = False

    # --- the engine --------------------------------------------------------------------------------------------------

    def _open_gate(self) -> None:
        if self.gate is Gate.FAIL:
            self.failed += [*self.at_gate, *self.untold.items()]
            self.at_gate, self.untold = [], {}
        if self.gate is Gate.FIRST_WRITE and len(self.at_gate) + len(self.untold) == 1:
            self.post(events.FirstWriteHeld(next(self.uuids)))
        if self.gate is Gate.OPEN:
            self.acknowledged |= self.untold
            self.untold = {}
        while self.gate is Gate.OPEN and self.at_gate:
            self._submit(*self.at_gate.pop(0))

    def _submit(self, block: int, value: int) -> None:
        has_disk = self.attached
        if has_disk:
            self.disk.hot.add(block)
            self.disk.blocks[block] = value
        if self.replication is Replication.PEER:
            if has_disk and self.resync:
                self.bits.discard(block)
            self.unacked[block] = value
            self.data_out.append(Item("write", block=block, value=value))
            return
        assert has_disk, "a write went nowhere"
        self.bits.add(block)
        self.acknowledged[block] = value
        if self.replication is Replication.OUT_OF_SYNC:
            self.data_out.append(Item("out-of-sync", block=block))

    def barrier(self) -> None:
        """Everything that the peer has acknowledged is stable there."""
        self.unstable.clear()

    def _ask_for_blocks(self) -> None:
        for block in sorted(self.bits):
            self.data_out.append(Item("rs-request", block=block))
        self._maybe_done()

    def _maybe_done(self) -> None:
        if self.resync == "target" and not self.bits:
            self.resync = ""
            self.disk.bits = set()
            self.post(events.ResyncDone(0))

    def _need(self, accept: int, item: Item) -> None:
        if not self.accept & accept:
            raise NotAcceptedError(f"{self.name} got {item.kind} while {self.state.replication}")

    def receive(self, socket: Socket, item: Item) -> None:
        """Take one thing from a stream."""
        match item.kind:
            case "packet":
                packet = decode(item.command, item.payload, AGREED.version, AGREED.features)
                if socket is Socket.DATA:
                    self.reading = False
                room = self.disk.sectors if self.attached else 0
                self.post(events.PacketReceived(packet, len(self.bits), next(self.uuids), room))
            case "bitmap":
                self._need(BITMAP, item)
                self.bits |= item.bits
                self.reading = False
                self.post(events.BitmapReceived(len(self.bits), next(self.uuids)))
            case "write":
                self._need(WRITES, item)
                if item.block * SECTORS_PER_BLOCK >= self.state.size_sectors:
                    raise NotAcceptedError(f"{self.name} got a write behind the end of its device")
                self.disk.blocks[item.block] = item.value
                if self.replication is Replication.NONE:
                    self.bits.add(item.block)  # its writer has no disk
                else:
                    self.bits.discard(item.block)
                self.meta_out.append(Item("ack", block=item.block, value=item.value))
                self._maybe_done()
            case "out-of-sync":
                self._need(OUT_OF_SYNC, item)
                self.bits.add(item.block)
                if self.resync == "target":
                    self.data_out.append(Item("rs-request", block=item.block))
            case _:
                self._receive_resync(item)

    def _receive_resync(self, item: Item) -> None:
        match item.kind:
            case "ov-request":
                self._need(VERIFY, item)
                self.data_out.append(Item("ov-reply", block=item.block, value=self.disk.blocks[item.block]))
            case "ov-reply":
                equal = item.value == self.disk.blocks[item.block]
                self.meta_out.append(Item("ov-result", block=item.block, value=equal))
                self._compared(item, equal=equal)
            case "ov-result":
                self._compared(item, equal=bool(item.value))
            case "rs-request":
                self._need(RESYNC, item)
                reply = Item("rs-reply", block=item.block, value=self.disk.blocks[item.block])
                self.data_out.append(reply)
            case "rs-reply":
                if item.block in self.bits and self.resync == "target":
                    self.disk.blocks[item.block] = item.value
                    self.bits.discard(item.block)
                self.meta_out.append(Item("rs-ack", block=item.block))
                self._maybe_done()
            case "rs-ack":
                if self.resync == "source":
                    self.bits.discard(item.block)
            case "ack":
                if self.unacked.get(item.block) == item.value:
                    del self.unacked[item.block]
                    self.unstable.add(item.block)
                    self.acknowledged[item.block] = item.value
                    if self.resync == "source":
                        self.bits.discard(item.block)
            case _:
                raise AssertionError(item)


class ResourcePair:
    """Both nodes and the network between them."""

    def __init__(self, castor: Node, pollux: Node) -> None:
        self.castor, self.pollux = castor, pollux
        self.nodes = (castor, pollux)

    def peer_of(self, node: Node) -> Node:
        """Return the other one."""
        return self.pollux if node is self.castor else self.castor

    def may_connect(self) -> bool:
        """Whether both look for each other and no old link stands."""
        return all(node.listening and not node.in_link for node in self.nodes)

    def connect(self, resolver: Node | None = None) -> None:
        """Let both sockets stand; `resolver` accepted the meta socket."""
        for node in self.nodes:
            node.data_out.clear()
            node.meta_out.clear()
            node.reading, node.closed, node.lost = True, False, False
        for node in self.nodes:
            resolves = node is (resolver or self.pollux)
            room = node.disk.sectors if node.attached else 0
            ready = events.SocketsReady(AGREED.version, AGREED.features, resolves, len(node.bits), room)
            node.post(ready)

    def deliverable(self) -> list[tuple[Node, Socket]]:
        """Return (receiver, socket) of every stream from which something can be read now."""
        found = []
        for node in self.nodes:
            peer = self.peer_of(node)
            if not node.in_link or node.lost:
                continue
            if node.reading and (peer.data_out or peer.closed or not peer.in_link):
                found.append((node, Socket.DATA))
            if peer.meta_out:
                found.append((node, Socket.META))
        return found

    def deliver(self, node: Node, socket: Socket) -> None:
        """Give a node the next thing on a stream, or the end of it."""
        peer = self.peer_of(node)
        stream = peer.data_out if socket is Socket.DATA else peer.meta_out
        if stream:
            node.receive(socket, stream.popleft())
        elif peer.closed or not peer.in_link:
            node.lose(Lost.CLOSED)

    def run(self, limit: int = 100_000) -> None:
        """Deliver everything, connect whatever can, until nothing moves; meta before data."""
        for _ in range(limit):
            ready = self.deliverable()
            if ready:
                self.deliver(*max(ready, key=lambda found: found[1].value))
            elif self.may_connect():
                self.connect()
            elif not self._short_timer():
                return
        raise AssertionError("the pair does not come to rest")

    def _short_timer(self) -> bool:
        """Let one of the timers run out that are only a short pause; return whether there was one."""
        for node in self.nodes:
            for name in ("linger", "resync-end", "reconnect"):
                if name in node.timers:
                    node.timer(name)
                    return True
        return False

    def cut(self) -> None:
        """Both lose the connection; what was under way is lost."""
        for node in self.nodes:
            node.data_out.clear()
            node.meta_out.clear()
        for node in self.nodes:
            node.lose(Lost.BROKEN)

    def crash(self, node: Node) -> None:
        """kill -9: what is on disk stays; the peer sees the end of the stream."""
        peer = self.peer_of(node)
        node.reset()
        peer.lose(Lost.CLOSED)
