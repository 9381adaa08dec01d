"""Two real daemons over disks that fail on command, and writes that are verified."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

from helpers.failing_disk import FailingDisk
from helpers.nbd_client import NbdClient
from pair import Node, Pair

KIB = 1 << 10
MIB = 1 << 20
DISK_BYTES = 32 * MIB
DATA_BYTES = 30 * MIB
METADATA_BYTES = 1 * MIB
LONGEST_STALL_S = 5.0
"""No timeout is waited for: a disk that fails says so at once. The rest is a busy machine."""

CONFIGURATION = """\
resource drbd0 {
  net { protocol C; NET }
  disk { al-extents 67; on-io-error ON_IO_ERROR; DISK }
  HANDLERS
  device minor 0;
  on castor { disk DISK_OF_castor; meta-disk META_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; meta-disk META_OF_pollux; address 127.0.0.2:PORT; }
}
"""


class FailingPair:
    """A pair in sync, castor primary, both disks ready to fail, and both nodes' metadata where they are apart."""

    def __init__(self, pair: Pair, disks: dict[str, FailingDisk], metadata: dict[str, FailingDisk]) -> None:
        self.pair = pair
        self.disks = disks
        self.metadata = metadata
        self.castor, self.pollux = pair.nodes
        self.written: dict[int, bytes] = {}
        self._random = random.Random(7)

    def write(self, client: NbdClient, seconds: float, within_bytes: int = DATA_BYTES) -> float:
        """Write blocks at random for a while; return the longest time that one took."""
        longest, end = 0.0, time.monotonic() + seconds
        while time.monotonic() < end:
            offset = self._random.randrange(within_bytes // (4 * KIB)) * 4 * KIB
            data = self._random.randbytes(4 * KIB)
            begun = time.monotonic()
            client.write(offset, data)
            longest = max(longest, time.monotonic() - begun)
            self.written[offset] = data
        return longest

    def verify(self, client: NbdClient) -> None:
        """Every block holds what was last written, as the application sees it."""
        for offset, data in self.written.items():
            assert client.read(offset, len(data)) == data, f"at {offset}"

    def verify_on(self, node: Node) -> None:
        """Every block holds what was last written, on the disk of this node."""
        with self.disks[node.name].store.open("rb") as image:
            for offset, data in self.written.items():
                image.seek(offset)
                assert image.read(len(data)) == data, f"at {offset} on {node.name}"

    def wait_for_disk(self, node: Node, word: str) -> None:
        self.pair.wait_for(lambda: node.status().disk == word, f"{node.name}'s disk to be {word}")


def failing_pair(
    directory: Path,
    on_io_error: str = "detach",
    *,
    error: str = "EIO",
    metadata_apart: bool = False,
    **added: str,
) -> Iterator[FailingPair]:
    """Yield the pair; `net`, `disk` and `handlers` are added to the configuration's sections."""
    net, disk, handlers = (added.get(section, "") for section in ("net", "disk", "handlers"))
    text = CONFIGURATION.replace("ON_IO_ERROR", on_io_error).replace("NET", net).replace("DISK }", f"{disk} }}")
    text = text.replace("HANDLERS", f"handlers {{ {handlers} }}" if handlers else "")
    with Pair.create(directory, DISK_BYTES, configuration=text) as pair, contextlib.ExitStack() as stack:
        disks = {node.name: FailingDisk(node.disk, error) for node in pair.nodes}
        metadata: dict[str, FailingDisk] = {}
        configured = pair.castor.configuration.read_text(encoding="utf-8")
        for node in pair.nodes:
            place = "internal"
            if metadata_apart:
                store = node.directory / "metadata"
                store.write_bytes(bytes(METADATA_BYTES))
                metadata[node.name] = FailingDisk(store, error)
                place = str(metadata[node.name].file)
            configured = configured.replace(f"META_OF_{node.name}", place)
            configured = configured.replace(f"disk {node.disk};", f"disk {disks[node.name].file};")
        pair.castor.configuration.write_text(configured, encoding="utf-8")
        for each in (*disks.values(), *metadata.values()):
            stack.enter_context(each)
        pair.create_metadata()
        pair.up()
        pair.first_sync()
        try:
            yield FailingPair(pair, disks, metadata)
        finally:
            for each in (*disks.values(), *metadata.values()):
                each.heal()
            pair.end()
