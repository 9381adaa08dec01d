"""One disk, opened: a block device or a regular file, its size, and nobody else in it.

A block device is opened with O_EXCL, which the kernel refuses while it is mounted, swapped on, or held by md, LVM or
another O_EXCL; a file gets an exclusive `flock`. A device that several resources share by slots (indexed metadata)
cannot be held whole: there the slot alone is locked. `DiskInUseError` names who is in the way where the kernel tells.

Reads and writes are whole 4 KiB blocks in aligned memory, with O_DIRECT where the disk can, and every result is
checked. A write is durable after `flush`. Knows no format.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from pydrbd.node.disk_holders import holders_of, lock_holder, opener_of
from pydrbd.ondisk.errors import OnDiskError

BLOCK_BYTES = 4096
_BUFFER_BYTES = 1 << 20
_FLOCK = struct.Struct("hhqqi4x")
"""`struct flock` on 64-bit Linux: type, whence, start, length, pid."""


class DiskInUseError(OnDiskError):
    """Someone else has the disk: mounted, swapped on, held by another driver or process."""

    exit_code = 20


class DiskUnusableError(OnDiskError):
    """The disk cannot be opened: missing, forbidden, or neither a block device nor a file."""

    exit_code = 20


class DiskIoError(OnDiskError):
    """A read, a write or a flush failed, or was shorter than asked for."""

    exit_code = 10


@dataclass(slots=True)
class BackingDisk:
    """An open disk. `direct`: O_DIRECT is in force."""

    path: Path
    fd: int
    size_bytes: int
    is_block_device: bool
    direct: bool

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        exclusive: bool = True,
        writable: bool = True,
        slot: tuple[int, int] | None = None,
    ) -> BackingDisk:
        """Open the disk; raise `DiskUnusableError` or `DiskInUseError`.

        `slot`, as (first byte, length), locks that part instead of the whole. Without `exclusive` nothing is locked and
        nobody is asked: for reading beside the one who holds the disk.
        """
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise _unusable(path, error) from None
        is_block_device = stat.S_ISBLK(mode)
        if not is_block_device and not stat.S_ISREG(mode):
            raise DiskUnusableError(f"{path} is neither a block device nor a file")
        if exclusive and (holders := holders_of(path)):
            raise DiskInUseError(f"{path} is in use: {holders[0]}")
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if exclusive and is_block_device and slot is None:
            flags |= os.O_EXCL
        fd, direct = _open(path, flags)
        try:
            if exclusive:
                _lock(path, fd, is_block_device=is_block_device, slot=slot)
            size_bytes = os.lseek(fd, 0, os.SEEK_END)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, size_bytes, is_block_device, direct)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Return so many bytes; what lies behind the end of the disk is not there. Raise `DiskIoError`."""
        end = min(offset_bytes + size_bytes, self.size_bytes)
        parts: list[bytes] = []
        at = offset_bytes & ~(BLOCK_BYTES - 1)
        buffer = mmap.mmap(-1, _BUFFER_BYTES)
        while at < end:
            wanted = min(_BUFFER_BYTES, -(-(end - at) // BLOCK_BYTES) * BLOCK_BYTES)
            useful = min(wanted, end - at)
            self._read_into(buffer, wanted, useful, at)
            parts.append(buffer[max(0, offset_bytes - at) : useful])
            at += wanted
        return b"".join(parts)

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole blocks; durable after `flush`. Raise `DiskIoError`."""
        if offset_bytes % BLOCK_BYTES or len(data) % BLOCK_BYTES:
            raise DiskIoError(f"a write of {len(data)} bytes at byte {offset_bytes} is not whole blocks")
        whole = memoryview(data)
        buffer = mmap.mmap(-1, min(_BUFFER_BYTES, max(len(whole), BLOCK_BYTES)))
        for start in range(0, len(whole), _BUFFER_BYTES):
            part = whole[start : start + _BUFFER_BYTES]
            buffer[: len(part)] = bytes(part)
            self._write_from(buffer, len(part), offset_bytes + start)

    def flush(self) -> None:
        """Make what was written durable. Raise `DiskIoError`."""
        try:
            os.fdatasync(self.fd)
        except OSError as error:
            raise DiskIoError(f"flushing {self.path} failed: {error.strerror}") from error

    def look_again(self) -> int:
        """Return the size in bytes as it is now: the disk may have grown. Raise `DiskIoError`."""
        try:
            self.size_bytes = os.lseek(self.fd, 0, os.SEEK_END)
        except OSError as error:
            raise DiskIoError(f"{self.path} does not tell its size: {error.strerror}") from error
        return self.size_bytes

    def grown_bytes(self) -> int:
        """Return by how much it is larger than `size_bytes`; 0 if it is not. Asks the kernel alone, not the disk."""
        try:
            return max(0, os.lseek(self.fd, 0, os.SEEK_END) - self.size_bytes)
        except OSError:
            return 0

    def user(self) -> str | None:
        """Return "name (pid N)" of another process that has the disk, without locking it; None if none is seen to."""
        return opener_of(self.path) if self.is_block_device else lock_holder(self.fd)

    def duplicate(self) -> int:
        """Return another descriptor of the same opening; the locks last until all are closed. The caller's to close."""
        return os.dup(self.fd)

    def close(self) -> None:
        """Close it. Twice is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read_into(self, buffer: mmap.mmap, wanted: int, useful: int, at: int) -> None:
        try:
            got = os.preadv(self.fd, [memoryview(buffer)[:wanted]], at)
        except OSError as error:
            raise DiskIoError(f"reading {self.path} at byte {at} failed: {error.strerror}") from error
        if got < useful:
            raise DiskIoError(f"reading {self.path} at byte {at} ended after {got} of {useful} bytes")

    def _write_from(self, buffer: mmap.mmap, size_bytes: int, at: int) -> None:
        try:
            put = os.pwritev(self.fd, [memoryview(buffer)[:size_bytes]], at)
        except OSError as error:
            raise DiskIoError(f"writing {self.path} at byte {at} failed: {error.strerror}") from error
        if put != size_bytes:
            raise DiskIoError(f"writing {self.path} at byte {at} ended after {put} of {size_bytes} bytes")


def _open(path: Path, flags: int) -> tuple[int, bool]:
    """Open with O_DIRECT, or without where the file system has none (tmpfs before Linux 6.6)."""
    try:
        return os.open(path, flags | os.O_DIRECT), True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise _unusable(path, error) from None
    try:
        return os.open(path, flags), False
    except OSError as error:
        raise _unusable(path, error) from None


def _lock(path: Path, fd: int, *, is_block_device: bool, slot: tuple[int, int] | None) -> None:
    """Lock the slot, or a whole file; a whole block device is held by O_EXCL, and a lock would keep udev away."""
    try:
        if slot is not None:
            wish = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, slot[0], slot[1], 0)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wish)
        elif not is_block_device:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EACCES}:
            raise _unusable(path, error) from None
        raise DiskInUseError(f"{path} is in use by {lock_holder(fd) or 'another process'}") from None


def _unusable(path: Path, error: OSError) -> OnDiskError:
    if error.errno == errno.EBUSY:
        return DiskInUseError(f"{path} is in use by {opener_of(path) or 'another driver or process'}")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return DiskUnusableError(f"{path} cannot be opened: permission denied")
    if error.errno == errno.ENOENT:
        return DiskUnusableError(f"{path} does not exist")
    return DiskUnusableError(f"{path} cannot be opened: {error.strerror}")
