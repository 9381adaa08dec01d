"""A resource of two nodes on loopback, with small files as disks, as a test's configuration text and views."""

from __future__ import annotations

import secrets
from pathlib import Path

from fakes.loop import free_port
from pydrbd import config
from pydrbd.config.description import ResourceView
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.metadata_store import MetadataStore

DISK_BYTES = 1 << 20

TEXT = """\
resource drbd0 {{
  protocol = C
  attach = none
  on castor {{
    device = /dev/nb0
    disk = {directory}/castor.disk
    address = 127.0.0.1
    port = {port}
  }}
  on pollux {{
    device = /dev/nb0
    disk = {directory}/pollux.disk
    address = 127.0.0.2
    port = {port}
  }}
}}
"""


def write_configuration(directory: Path) -> Path:
    """Write drbd.conf and both disks; return the configuration's path."""
    path = directory / "drbd.conf"
    path.write_text(TEXT.format(directory=directory, port=free_port("127.0.0.1", "127.0.0.2")))
    for name in ("castor", "pollux"):
        with (directory / f"{name}.disk").open("wb") as disk:
            disk.truncate(DISK_BYTES)
    return path


def view_of(path: Path, node: str = "castor") -> ResourceView:
    """Return the resource as a node sees it."""
    return config.load(path).resource("drbd0").for_node(node)


def create_metadata(view: ResourceView, state_dir: Path) -> MetadataPlace:
    """Write fresh metadata for a node."""
    place = MetadataPlace.of(view.local.volumes[0], view.resource.name, state_dir)
    MetadataStore.create(place, device_uuid=secrets.randbits(64) | 1).close()
    return place
