"""Verified writes inside a guest, on a block device or on an NBD export.

    workload.py write  TARGET --seed 7 --waves 20 --depth 8 --area 16777216 [--flush-every 4] [--seconds S]
    workload.py verify TARGET --seed 7 --waves 20 --depth 8 --area 16777216
    workload.py zero|trim|read TARGET OFFSET LENGTH

A wave is `depth` writes in flight together, of odd sizes, in different parts of the area, so that the last content of
every byte follows from the seed alone. TARGET is a path or an NBD URI. Copied into the guest; standard library and
python3-libnbd.
"""

import argparse
import mmap
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

SECTOR = 512
PART = 1 << 20
LENGTHS = (512, 1024, 4096, 4096, 4096, 7 * 512, 8192, 12288, 65536, 131072, 262144)
Write = tuple[int, bytes]


def plan(seed: int, waves: int, depth: int, area: int) -> Iterator[list[Write]]:
    """Yield the waves."""
    generator = random.Random(seed)
    for _ in range(waves):
        wave = []
        for part in generator.sample(range(area // PART), min(depth, area // PART)):
            length = generator.choice(LENGTHS)
            offset = part * PART + SECTOR * generator.randrange((PART - length) // SECTOR + 1)
            if generator.random() < 0.6:
                offset &= ~4095
            wave.append((offset, generator.randbytes(length)))
        yield wave


class Device:
    """A block device, past the page cache."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.pool = ThreadPoolExecutor(16)

    def _write(self, write: Write) -> None:
        offset, data = write
        with mmap.mmap(-1, len(data)) as aligned:
            aligned.write(data)
            assert os.pwritev(self.fd, [aligned], offset) == len(data)

    def wave(self, writes: list[Write]) -> None:
        list(self.pool.map(self._write, writes))

    def flush(self) -> None:
        os.fsync(self.fd)

    def read(self, offset: int, length: int) -> bytes:
        with mmap.mmap(-1, length) as aligned:
            assert os.preadv(self.fd, [aligned], offset) == length
            return aligned[:]

    def size(self) -> int:
        return os.lseek(self.fd, 0, os.SEEK_END)


class Export:
    """An NBD export."""

    def __init__(self, uri: str) -> None:
        import nbd

        self.nbd = nbd
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)

    def wave(self, writes: list[Write]) -> None:
        pending = [self.handle.aio_pwrite(self.nbd.Buffer.from_bytearray(bytearray(d)), o) for o, d in writes]
        while pending:
            self.handle.poll(-1)
            pending = [cookie for cookie in pending if not self.handle.aio_command_completed(cookie)]

    def flush(self) -> None:
        self.handle.flush()

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.handle.pread(length, offset))

    def zero(self, offset: int, length: int) -> None:
        self.handle.zero(length, offset)

    def trim(self, offset: int, length: int) -> None:
        self.handle.trim(length, offset)

    def size(self) -> int:
        return int(self.handle.get_size())


def opened(target: str) -> Device | Export:
    return Device(target) if target.startswith("/") else Export(target)


def write(options: argparse.Namespace) -> None:
    """Write the plan; with --seconds, again and again for so long (the content at the end is the same)."""
    target = opened(options.target)
    end = time.monotonic() + options.seconds
    worst = 0.0
    while True:
        for number, wave in enumerate(plan(options.seed, options.waves, options.depth, options.area), start=1):
            began = time.monotonic()
            target.wave(wave)
            if number % options.flush_every == 0:
                target.flush()
            worst = max(worst, time.monotonic() - began)
        if time.monotonic() > end:
            break
    target.flush()
    print(f"worst wave {worst:.3f} s")


def verify(options: argparse.Namespace) -> None:
    """Compare what was written with what is read."""
    target = opened(options.target)
    expected = {}
    for wave in plan(options.seed, options.waves, options.depth, options.area):
        for offset, data in wave:
            for sector in range(len(data) // SECTOR):
                expected[offset // SECTOR + sector] = data[sector * SECTOR : (sector + 1) * SECTOR]
    parts = sorted({sector * SECTOR // PART for sector in expected})
    wrong = []
    for part in parts:
        content = target.read(part * PART, min(PART, target.size() - part * PART))
        for sector in range(part * PART // SECTOR, part * PART // SECTOR + len(content) // SECTOR):
            at = sector * SECTOR - part * PART
            if sector in expected and content[at : at + SECTOR] != expected[sector]:
                wrong.append(sector)
    if wrong:
        sys.exit(f"{len(wrong)} of {len(expected)} sectors are wrong, the first is {wrong[0]}")
    print(f"{len(expected)} sectors are right")


def one(options: argparse.Namespace) -> None:
    """Zero, trim or read a range."""
    target = opened(options.target)
    if options.verb == "read":
        sys.stdout.buffer.write(target.read(options.offset, options.length))
    elif isinstance(target, Export):
        getattr(target, options.verb)(options.offset, options.length)
        target.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("write", "verify"):
        verb = verbs.add_parser(name)
        verb.add_argument("target")
        verb.add_argument("--seed", type=int, required=True)
        verb.add_argument("--waves", type=int, default=20)
        verb.add_argument("--depth", type=int, default=8)
        verb.add_argument("--area", type=int, default=16 << 20)
        verb.add_argument("--flush-every", type=int, default=4)
        verb.add_argument("--seconds", type=float, default=0)
    for name in ("zero", "trim", "read"):
        verb = verbs.add_parser(name)
        verb.add_argument("target")
        verb.add_argument("offset", type=int)
        verb.add_argument("length", type=int)
    options = parser.parse_args()
    {"write": write, "verify": verify}.get(options.verb, one)(options)


main()
