"""What a disk holds, told by its bytes: file systems, volumes, swap, partition tables, other DRBD metadata.

`create-md` asks before it writes. A recogniser looks at a few fixed places and answers with a name and, where the
format says it, with the size it occupies; a miss is not a promise that the disk is empty. Reads through a function
that it is given and never fails on bytes: what is cut short or impossible is simply not recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydrbd.ondisk.superblock import found_version

Read = Callable[[int, int], bytes]
"""`read(offset_bytes, size_bytes)`: what the disk holds there, shorter at its end."""

HEAD_BYTES = 264 * 1024
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `size_bytes`: from the start of the disk to its end, None if the format does not say."""

    what: str
    size_bytes: int | None = None

    def sentence(self) -> str:
        """Return e.g. "ext4 filesystem, 120 GiB"."""
        return self.what if self.size_bytes is None else f"{self.what}, {binary_size(self.size_bytes)}"

    def reaches_beyond(self, usable_bytes: int) -> bool:
        """Tell whether its tail lies behind the first `usable_bytes`, where internal metadata would be."""
        return self.size_bytes is not None and self.size_bytes > usable_bytes


def binary_size(size_bytes: int) -> str:
    """Return a size with at most one decimal, in the largest binary unit that it fills."""
    size: float = size_bytes
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.0f} PiB" if size == int(size) else f"{size:.1f} PiB"


def probe(read: Read, disk_bytes: int) -> list[Finding]:
    """Return what is found on a disk of this size, file systems first; "some data" for the unknown, [] for zeros."""
    head = read(0, min(HEAD_BYTES, disk_bytes))
    found: list[Finding] = []
    for recognise in _AT_THE_HEAD:
        found.extend(recognise(head))
    found.extend(_at_the_end(read, disk_bytes))
    if not found and any(head):
        found.append(Finding("some data"))
    return found


def _at(data: bytes, offset: int, size: int, order: str = "little") -> int:
    return int.from_bytes(data[offset : offset + size], "little" if order == "little" else "big")


def _has(data: bytes, offset: int, magic: bytes) -> bool:
    return data[offset : offset + len(magic)] == magic


def _ext(head: bytes) -> Iterator[Finding]:
    if len(head) < 2048 or _at(head, 0x438, 2) != 0xEF53:
        return
    compatible, incompatible = _at(head, 0x45C, 4), _at(head, 0x460, 4)
    blocks = _at(head, 0x404, 4)
    if incompatible & 0x80:
        blocks += _at(head, 0x550, 4) << 32
    log_block = _at(head, 0x418, 4)
    # extents, 64bit or flex_bg came with ext4; the journal with ext3.
    name = "ext4" if incompatible & 0x2C0 else "ext3" if compatible & 4 else "ext2"
    size_bytes = blocks * (1024 << log_block) if log_block <= 6 else None
    yield Finding(f"{name} filesystem", size_bytes)


def _xfs(head: bytes) -> Iterator[Finding]:
    if _has(head, 0, b"XFSB"):
        yield Finding("xfs filesystem", _at(head, 4, 4, "big") * _at(head, 8, 8, "big"))


def _btrfs(head: bytes) -> Iterator[Finding]:
    if _has(head, 0x10040, b"_BHRfS_M"):
        # The size of this device in its own item; a file system may have several.
        yield Finding("btrfs filesystem", _at(head, 0x100C9 + 8, 8))


def _reiserfs_jfs(head: bytes) -> Iterator[Finding]:
    if _has(head, 0x10034, b"ReIsErFs") or _has(head, 0x10034, b"ReIsEr2Fs"):
        yield Finding("reiserfs filesystem", _at(head, 0x10000, 4) * _at(head, 0x1002C, 2))
    if _has(head, 0x8000, b"JFS1"):
        yield Finding("jfs filesystem", _at(head, 0x8008, 8) * 512)


def _foreign_filesystems(head: bytes) -> Iterator[Finding]:
    if _has(head, 3, b"NTFS    "):
        yield Finding("ntfs filesystem", (_at(head, 0x28, 8) + 1) * _at(head, 0x0B, 2))
    elif _has(head, 3, b"EXFAT   "):
        shift = head[0x6C]
        yield Finding("exfat filesystem", _at(head, 0x48, 8) << shift if 9 <= shift <= 12 else None)
    elif _has(head, 510, b"\x55\xaa") and (_has(head, 54, b"FAT1") or _has(head, 82, b"FAT32")):
        sectors = _at(head, 0x13, 2) or _at(head, 0x20, 4)
        yield Finding("vfat filesystem", sectors * _at(head, 0x0B, 2))
    if _has(head, 0x8001, b"CD001"):
        yield Finding("iso9660 filesystem", _at(head, 0x8050, 4) * 2048)


def _zfs(head: bytes) -> Iterator[Finding]:
    for offset in range(128 * 1024, min(256 * 1024, len(head) - 8), 1024):
        if _at(head, offset, 8) == 0x00BAB10C or _at(head, offset, 8, "big") == 0x00BAB10C:
            yield Finding("zfs member")
            return


def _volumes(head: bytes) -> Iterator[Finding]:
    for sector in range(4):
        if _has(head, sector * 512, b"LABELONE") and _has(head, sector * 512 + 24, b"LVM2 001"):
            header = sector * 512 + _at(head, sector * 512 + 20, 4)
            yield Finding("LVM2 physical volume", _at(head, header + 32, 8) or None)
    if _has(head, 0, b"LUKS\xba\xbe"):
        yield Finding(f"LUKS{_at(head, 6, 2, 'big')} encrypted volume")
    for page in (4096, 8192, 16384, 65536):
        if _has(head, page - 10, b"SWAPSPACE2") or _has(head, page - 10, b"SWAP-SPACE"):
            last_page = _at(head, 1028, 4)
            yield Finding("swap space", (last_page + 1) * page if last_page else None)
            return


def _md(head: bytes) -> Iterator[Finding]:
    for offset, version in ((0, "1.1"), (4096, "1.2")):
        if _at(head, offset, 4) == 0xA92B4EFC:
            yield Finding(f"md {version} member", _md_end_bytes(head, offset))


def _md_end_bytes(data: bytes, offset: int) -> int | None:
    data_offset, data_size = _at(data, offset + 128, 8), _at(data, offset + 136, 8)
    return (data_offset + data_size) * 512 if data_size else None


def _partition_table(head: bytes) -> Iterator[Finding]:
    for sector_bytes in (512, 4096):
        if _has(head, sector_bytes, b"EFI PART"):
            yield Finding("GPT partition table", (_at(head, sector_bytes + 32, 8) + 1) * sector_bytes)
            return
    if not _has(head, 510, b"\x55\xaa"):
        return
    entries = [head[446 + 16 * index : 462 + 16 * index] for index in range(4)]
    used = [entry for entry in entries if entry[4] and _at(entry, 12, 4)]
    # A boot sector of a file system ends in the same two bytes, but not in four such entries.
    if used and all(entry[0] in {0, 0x80} for entry in entries):
        end_sector = max(_at(entry, 8, 4) + _at(entry, 12, 4) for entry in used)
        yield Finding("MBR partition table", end_sector * 512)


def _drbd_external(head: bytes) -> Iterator[Finding]:
    version = found_version(head[:_BLOCK])
    if version is not None:
        yield Finding(f"DRBD {version} metadata")


_AT_THE_HEAD: tuple[Callable[[bytes], Iterator[Finding]], ...] = (
    _ext,
    _xfs,
    _btrfs,
    _reiserfs_jfs,
    _foreign_filesystems,
    _zfs,
    _volumes,
    _md,
    _partition_table,
    _drbd_external,
)


def _at_the_end(read: Read, disk_bytes: int) -> Iterator[Finding]:
    """Recognise what stands at the end: DRBD's internal metadata, md 0.90 and 1.0."""
    last_block = (disk_bytes & ~(_BLOCK - 1)) - _BLOCK
    if last_block > 0:
        version = found_version(read(last_block, _BLOCK))
        if version is not None:
            yield Finding(f"DRBD {version} internal metadata")
    fixed = (disk_bytes & ~(_BLOCK - 1)) - (128 << 20)
    if fixed > 0 and found_version(read(fixed, _BLOCK)) == "v07":
        yield Finding("DRBD v07 internal metadata of fixed size")
    old = (disk_bytes & ~0xFFFF) - 0x10000
    if old > 0 and 0xA92B4EFC in {_at(data := read(old, _BLOCK), 0, 4), _at(data, 0, 4, "big")}:
        yield Finding("md 0.90 member", old)
    new = ((disk_bytes // 512 - 16) & ~7) * 512
    if new > 0 and _at(data := read(new, _BLOCK), 0, 4) == 0xA92B4EFC:
        yield Finding("md 1.0 member", _md_end_bytes(data, 0))
