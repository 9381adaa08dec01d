"""A file of our own that holds a volume's metadata: made, and grown with the disk."""

from __future__ import annotations

import os
from pathlib import Path

from pydrbd.node.backing.folder import flush_folder
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import BackingDisk, DiskIoError
from pydrbd.ondisk.layout import SECTOR_BYTES, flexible_bytes


def grow_file(path: Path, needed_bytes: int) -> None:
    """Make the file, or make it so large, durably. Raise `DiskIoError`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < needed_bytes:
                os.posix_fallocate(fd, 0, needed_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise DiskIoError(f"{path} cannot be made: {error.strerror}") from error


def make_file(place: MetadataPlace, al_blocks: int) -> None:
    """Make the metadata file, or grow it; durable together with its name."""
    data = BackingDisk.open(place.disk)
    try:
        needed_bytes = flexible_bytes(data.size_bytes // SECTOR_BYTES, al_blocks)
    finally:
        data.close()
    try:
        place.metadata.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        grow_file(place.metadata, needed_bytes)
        flush_folder(place.metadata.parent)
    except OSError as error:
        raise DiskIoError(f"{place.metadata} cannot be made: {error.strerror}") from error
