"""A packet capture of two DRBD nodes -> their DRBD packets: one line each, and what could not be understood.

Reads classic pcap files of Ethernet frames, puts the TCP streams together and cuts them into DRBD packets. A stream
that is not DRBD from its first byte on, or a packet that the project has no name for, is trouble.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydrbd.model.commands import Command
from pydrbd.wire import WireError, unpack
from pydrbd.wire.codec import _UNPACK

NODES = {bytes([10, 0, 0, 1]): "castor", bytes([10, 0, 0, 2]): "pollux"}
MAGIC_H80, MAGIC_H95, MAGIC_H100 = 0x83740267, 0x835A, 0x8620EC20
HOT_BYTES_SHOWN = 24
HOT = {Command.DATA, Command.DATA_REPLY, Command.RS_DATA_REPLY, Command.BITMAP, Command.OV_REPLY, Command.OV_REQUEST}
MODULUS = 1 << 32
PCAP_HEADER_BYTES, FRAME_HEADER_BYTES = 24, 16
SYN, ACK = 2, 16
Segment = tuple[bytes, tuple[int, int], int, int, bytes]


@dataclass(slots=True)
class Stream:
    """One direction of one TCP connection."""

    sender: str
    expected: int
    pending: dict[int, bytes] = field(default_factory=dict)
    buffer: bytearray = field(default_factory=bytearray)
    kind: list[str] = field(default_factory=lambda: ["?"])
    """data or meta, shared with the other direction; the first packet says it."""
    broken: bool = False

    def take(self, sequence: int, data: bytes) -> None:
        """Add a segment, in whatever order it comes and however often."""
        self.pending[sequence] = data
        while True:
            for start, piece in list(self.pending.items()):
                ahead = (self.expected - start) % MODULUS
                if ahead < MODULUS // 2:
                    del self.pending[start]
                    if ahead < len(piece):
                        self.buffer += piece[ahead:]
                        self.expected = (start + len(piece)) % MODULUS
                        break
            else:
                return


@dataclass(frozen=True, slots=True)
class Packet:
    """One DRBD packet."""

    seconds: float
    sender: str
    socket: str
    header: str
    volume: int | None
    command: int
    payload: bytes

    @property
    def name(self) -> str:
        """DRBD's name, or the number."""
        return Command(self.command).name if self.command in set(Command) else hex(self.command)

    def line(self) -> str:
        """Return the transcript's line, as in `tests/golden/dialogues`."""
        shown = HOT_BYTES_SHOWN if self.command in HOT else 256
        text = self.payload[:shown].hex(" ", 4) + (" ..." if len(self.payload) > shown else "")
        volume = "-" if self.volume is None else self.volume
        return (
            f"{self.seconds:9.4f} {self.sender:6} {self.socket:4} {self.header:4} vol={volume} {self.name:20} "
            f"len={len(self.payload):<7} {text}"
        )


@dataclass(slots=True)
class Transcript:
    """What was said, and what nobody understands."""

    packets: list[Packet]
    trouble: list[str]

    def lines(self) -> str:
        """Return it as text."""
        return "\n".join([each.line() for each in self.packets] + self.trouble) + "\n"

    def sent(self, sender: str, command: Command) -> list[Packet]:
        """Return one node's packets of a kind."""
        return [each for each in self.packets if each.sender == sender and each.command == command]


@dataclass(slots=True)
class Capture:
    """A capture that may still grow: what has been read is not read again."""

    path: Path
    found: Transcript = field(default_factory=lambda: Transcript([], []))
    _streams: dict[tuple[bytes, int, int], Stream] = field(default_factory=dict)
    _offset: int = PCAP_HEADER_BYTES
    _began: float | None = None

    def read(self) -> Transcript:
        """Return the transcript of everything captured until now."""
        for seconds, frame in self._frames():
            self._began = seconds if self._began is None else self._began
            segment = _segment(frame)
            if segment is not None:
                self._take(segment, seconds - self._began)
        return self.found

    def _frames(self) -> Iterator[tuple[float, bytes]]:
        """Yield time and bytes of each new frame."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            raw = file.read()
        at = 0
        while at + FRAME_HEADER_BYTES <= len(raw):
            seconds, micro, captured, _ = struct.unpack_from("<IIII", raw, at)
            end = at + FRAME_HEADER_BYTES + captured
            if end > len(raw):
                break  # it is being written
            yield seconds + micro / 1e6, raw[at + FRAME_HEADER_BYTES : end]
            at = end
        self._offset += at

    def _take(self, segment: Segment, seconds: float) -> None:
        source, ports, sequence, flags, data = segment
        key = (source, *ports)
        if flags & SYN:
            answers = next((each for (_, *other), each in self._streams.items() if tuple(other) == ports[::-1]), None)
            is_answer = answers is not None and bool(flags & ACK)
            kind = answers.kind if answers is not None and is_answer else ["?"]
            self._streams[key] = Stream(NODES.get(source, "?"), (sequence + 1) % MODULUS, kind=kind)
        elif data and key in self._streams:
            stream = self._streams[key]
            stream.take(sequence, data)
            _cut(stream, seconds, self.found)


def _segment(frame: bytes) -> Segment | None:
    """Return (source, ports, sequence, flags, data) of a frame with TCP over IPv4."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    packet = frame[14:]
    length = struct.unpack_from(">H", packet, 2)[0]
    tcp = packet[(packet[0] & 15) * 4 : length]
    source_port, destination_port, sequence = struct.unpack_from(">HHI", tcp)
    if 7788 not in (source_port, destination_port):
        return None
    return packet[12:16], (source_port, destination_port), sequence, tcp[13], tcp[(tcp[12] >> 4) * 4 :]


def _cut(stream: Stream, seconds: float, found: Transcript) -> None:
    """Cut what has come into packets."""
    while not stream.broken:
        header = _header(stream.buffer)
        if header is None:
            return
        kind, size, volume, command, length = header
        if not size:
            stream.broken = True
            found.trouble.append(f"{seconds:9.4f} {stream.sender}: not a DRBD header: {stream.buffer[:16].hex(' ', 4)}")
            return
        if len(stream.buffer) < size + length:
            return
        payload = bytes(stream.buffer[size : size + length])
        del stream.buffer[: size + length]
        if command in (Command.INITIAL_META, Command.INITIAL_DATA):
            stream.kind[0] = "meta" if command == Command.INITIAL_META else "data"
        packet = Packet(seconds, stream.sender, stream.kind[0], kind, volume, command, payload)
        found.packets.append(packet)
        if command not in set(Command):
            found.trouble.append(f"unknown packet: {packet.line()}")
        elif command in _UNPACK or command == Command.SIZES:
            try:
                unpack(command, payload, 101, 15)
            except WireError as error:
                found.trouble.append(f"{error}: {packet.line()}")


def _header(buffer: bytearray) -> tuple[str, int, int | None, int, int] | None:
    """Return (kind, size, volume, command, length); size 0 for what is no header, None if there are too few bytes."""
    if len(buffer) < 8:
        return None
    magic = int.from_bytes(buffer[:4], "big")
    if magic == MAGIC_H80:
        command, length = struct.unpack_from(">HH", buffer, 4)
        return "h80", 8, None, command, length
    if magic >> 16 == MAGIC_H95:
        command, length = struct.unpack_from(">HI", buffer, 2)
        return "h95", 8, None, command, length
    if magic != MAGIC_H100:
        return "", 0, None, 0, 0
    if len(buffer) < 16:
        return None
    volume, command, length, _ = struct.unpack_from(">HHII", buffer, 4)
    return "h100", 16, volume, command, length
