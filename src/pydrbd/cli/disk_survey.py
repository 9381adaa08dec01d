"""What stands in the way of `create-md`: what the disks hold, and what of it the metadata would overwrite.

Mounted or held disks are not a question but a refusal, which the exclusive opening gives before anything is looked at.
"""

from __future__ import annotations

from pathlib import Path

from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.backing_disk import BackingDisk
from pydrbd.ondisk.layout import SECTOR_BYTES, Layout, MetaKind, flexible_bytes, layout_for
from pydrbd.ondisk.probe import Finding, binary_size, probe
from pydrbd.ondisk.superblock import found_version

_UNKNOWN = "some data"


def survey(place: MetadataPlace, al_stripes: int, al_stripe_size_4k: int) -> tuple[Layout, list[str]]:
    """Return the layout to be, and a sentence for everything found. Raise an `OnDiskError` if it cannot be."""
    data = BackingDisk.open(place.disk)
    try:
        if place.kind is MetaKind.INTERNAL:
            layout = layout_for(place.kind, data.size_bytes, al_stripes=al_stripes, al_stripe_size_4k=al_stripe_size_4k)
            return layout, [_internal(place.disk, each, layout) for each in probe(data.read, data.size_bytes)]
        needed_bytes = flexible_bytes(data.size_bytes // SECTOR_BYTES, al_stripes * al_stripe_size_4k)
        metadata_bytes, found = _survey_external(place, needed_bytes)
        layout = layout_for(
            place.kind,
            metadata_bytes,
            backing_bytes=data.size_bytes,
            index=place.index,
            al_stripes=al_stripes,
            al_stripe_size_4k=al_stripe_size_4k,
        )
        # With its metadata elsewhere the disk keeps its data, so that unknown data is no reason to ask.
        known = [each for each in probe(data.read, data.size_bytes) if each.what != _UNKNOWN]
        return layout, found + [_kept(place.disk, each, layout) for each in known]
    finally:
        data.close()


def _survey_external(place: MetadataPlace, needed_bytes: int) -> tuple[int, list[str]]:
    """Return the size that the metadata device has or, if it is a file of ours, will have; and what it holds."""
    if place.made_by_us and not place.metadata.exists():
        return needed_bytes, []
    metadata = BackingDisk.open(place.metadata, slot=place.slot)
    try:
        size_bytes = max(metadata.size_bytes, needed_bytes) if place.made_by_us else metadata.size_bytes
        found = probe(metadata.read, metadata.size_bytes)
        if place.made_by_us:
            # Nobody else writes there: what is unknown is what wipe-md has left.
            found = [each for each in found if each.what != _UNKNOWN]
        if place.slot is not None:
            # The other slots are other resources' business.
            found = [each for each in found if not each.what.startswith("DRBD")]
            version = found_version(metadata.read(place.slot[0], 4096))
            if version is not None:
                found = [Finding(f"DRBD {version} metadata in slot {place.index}")]
            elif found == [Finding(_UNKNOWN)] and place.index > 0:
                found = []
        return size_bytes, [f"{place.metadata}: found {each.sentence()}, which would be overwritten" for each in found]
    finally:
        metadata.close()


def _internal(disk: Path, found: Finding, layout: Layout) -> str:
    sentence = f"{disk}: found {found.sentence()}"
    usable_bytes = layout.max_sectors * SECTOR_BYTES
    if found.what.startswith("DRBD"):
        return f"{sentence}, which would be overwritten"
    if found.reaches_beyond(usable_bytes):
        excess = binary_size((found.size_bytes or 0) - usable_bytes)
        return f"{sentence}: its last {excess} would be overwritten by the metadata; external metadata leaves it whole"
    if found.size_bytes is None:
        return (
            f"{sentence}: the last {binary_size(layout.end_byte - layout.first_byte)} of the disk would be overwritten"
        )
    return f"{sentence}, which leaves room for the metadata behind it"


def _kept(disk: Path, found: Finding, layout: Layout) -> str:
    sentence = f"{disk}: found {found.sentence()}"
    if found.reaches_beyond(layout.max_sectors * SECTOR_BYTES):
        return f"{sentence}, larger than the {binary_size(layout.max_sectors * SECTOR_BYTES)} this metadata allows"
    return f"{sentence}; it is kept, unless a sync from the peer overwrites it"
