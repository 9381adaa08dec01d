"""The story's load without a filesystem: whole images through nbdcopy; what counts is every block of them.

An image whose copy ended well (with its flush) is acknowledged. While a second one is being copied over it a block may
hold either; nothing else.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path

from pair import Node

MIB = 1 << 20
BLOCK_BYTES = 4096
IMAGE_BYTES = 96 * MIB


class ImageLoad:
    """Images on whichever node is primary."""

    unit = "blocks of 4 KiB"

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.number = 0
        self.node: Node | None = None
        self.allowed: list[Path] = []
        self.copier: subprocess.Popen[bytes] | None = None

    @property
    def acknowledged(self) -> int:
        """How many blocks are known to be durable."""
        return IMAGE_BYTES // BLOCK_BYTES if self.allowed else 0

    def prepare(self, node: Node) -> str:
        """Look at the device as a foreign program does; return what was typed."""
        subprocess.run(["nbdinfo", "--size", node.uri], check=True, capture_output=True, timeout=30)
        return "nbdinfo --size nbd+unix:///?socket=nbd.sock"

    def open(self, node: Node) -> str:
        """Use the node's device; return what will be typed."""
        self.node = node
        return "nbdcopy image nbd+unix:///?socket=nbd.sock"

    def close(self) -> None:
        """Leave the device."""
        self.stop()
        self.node = None

    def _uri(self) -> str:
        if self.node is None:
            raise RuntimeError("no device is open")
        return self.node.uri

    def _image(self) -> Path:
        self.number += 1
        path = self.directory / f"image-{self.number}"
        path.write_bytes(self.random.randbytes(IMAGE_BYTES))
        return path

    def write(self) -> str:
        """Copy one image and flush."""
        image = self._image()
        subprocess.run(["nbdcopy", "--flush", image, self._uri()], check=True, timeout=120)
        self.allowed = [image]
        return f"an image of {IMAGE_BYTES // MIB} MiB, flushed (nbdcopy)"

    def start(self) -> None:
        """Begin to copy another image over it, slowly enough to be caught at it."""
        image = self._image()
        self.allowed.append(image)
        command = ["nbdcopy", "--connections=1", "--requests=1", "--request-size=4096", str(image), self._uri()]
        self.copier = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def stop(self) -> str:
        """End the copy; return what ended it."""
        if self.copier is None:
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.copier.wait(1)  # it ends by itself where its server has died
        code = self.copier.poll()
        self.copier.kill()
        self.copier.wait()
        self.copier = None
        return f"nbdcopy exited with {code}" if code else ""

    def write_more(self) -> str:
        """Copy a third image, whole."""
        return self.write()

    def lost(self) -> list[str]:
        """Return the blocks that hold none of the contents that they may hold."""
        back = self.directory / "back"
        subprocess.run(["nbdcopy", self._uri(), back], check=True, timeout=120)
        data = back.read_bytes()[:IMAGE_BYTES]
        back.unlink()
        images = [path.read_bytes() for path in self.allowed]
        wrong = []
        for offset in range(0, IMAGE_BYTES, BLOCK_BYTES):
            block = data[offset : offset + BLOCK_BYTES]
            if all(block != image[offset : offset + BLOCK_BYTES] for image in images):
                wrong.append(f"block at {offset}")
        # What was read is what it is from now on.
        pinned = self.directory / "pinned"
        pinned.write_bytes(data)
        self.allowed = [pinned]
        return wrong
