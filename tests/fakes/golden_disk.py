"""The end of a disk of 512 MiB as the kernel's DRBD left it, and what drbdmeta said of it."""

from dataclasses import dataclass
from pathlib import Path

from pydrbd.ondisk.layout import Layout, MetaKind
from pydrbd.ondisk.superblock import Superblock, check_against_disk, parse

DISK_BYTES = 512 << 20
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "metadata"
NAMES = ("primary-running", "secondary-running", "down-with-2-bits-set")


@dataclass(frozen=True)
class GoldenDisk:
    """One of the captured disks."""

    tail: bytes
    said: str

    @property
    def block(self) -> bytes:
        return self.tail[-4096:]

    @property
    def superblock(self) -> Superblock:
        return parse(self.block)

    @property
    def layout(self) -> Layout:
        return check_against_disk(self.superblock, MetaKind.INTERNAL, DISK_BYTES)

    def at(self, offset_bytes: int, size_bytes: int) -> bytes:
        start = offset_bytes - DISK_BYTES + len(self.tail)
        return self.tail[start : start + size_bytes]

    @property
    def ring(self) -> bytes:
        return self.at(self.layout.al_offset_bytes, 32 * 1024)

    @property
    def bitmap(self) -> bytes:
        return self.at(self.layout.bm_offset_bytes, 4096)

    @classmethod
    def load(cls, name: str) -> "GoldenDisk":
        return cls((GOLDEN / f"{name}.tail64k.bin").read_bytes(), (GOLDEN / f"{name}.txt").read_text())
