"""Where a volume's data and metadata are, from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydrbd.config.description import MetaDiskKind, Volume
from pydrbd.ondisk.layout import SECTOR_BYTES, SLOT_SECTORS, MetaKind

_KINDS = {
    MetaDiskKind.INTERNAL: MetaKind.INTERNAL,
    MetaDiskKind.FLEXIBLE: MetaKind.FLEXIBLE,
    MetaDiskKind.INDEXED: MetaKind.INDEXED,
    MetaDiskKind.FILE: MetaKind.FLEXIBLE,
}


@dataclass(frozen=True, slots=True)
class MetadataPlace:
    """Where a volume's data and metadata are. `made_by_us`: the metadata is a file, which `create` makes."""

    disk: Path
    metadata: Path
    kind: MetaKind
    index: int = 0
    made_by_us: bool = False
    known: Path | None = None
    """Internal: the file that tells how large the disk was when it was last attached."""

    @classmethod
    def of(cls, volume: Volume, resource: str, state_dir: Path) -> MetadataPlace:
        """Return the place that the configuration gives to a volume."""
        internal = volume.meta_disk.kind is MetaDiskKind.INTERNAL
        return cls(
            disk=Path(volume.disk),
            metadata=volume.metadata_path(state_dir, resource),
            kind=_KINDS[volume.meta_disk.kind],
            index=volume.meta_disk.index or 0,
            made_by_us=volume.meta_disk.kind is MetaDiskKind.FILE,
            known=state_dir / f"{resource}+{volume.number}.lkbd" if internal else None,
        )

    @property
    def slot(self) -> tuple[int, int] | None:
        """Return what to lock of a shared metadata device, as (first byte, length)."""
        if self.kind is not MetaKind.INDEXED:
            return None
        return self.index * SLOT_SECTORS * SECTOR_BYTES, SLOT_SECTORS * SECTOR_BYTES
