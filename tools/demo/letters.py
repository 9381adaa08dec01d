"""What is written, and how it is known to be safe: a file counts as acknowledged when its fsync has returned."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

KIB = 1024


def write_durably(path: Path, data: bytes) -> None:
    """Write a file and return only when it is durable: on both nodes, if the device keeps its promise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Letters:
    """Acknowledged files by name, with their checksums."""

    def __init__(self, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.bytes = 0
        self.number = 0
        self.random = random.Random(seed)

    def put(self, root: Path, name: str, data: bytes) -> None:
        """Write a file under `root`; on return it is acknowledged."""
        write_durably(root / name, data)
        self.acknowledged[name] = hashlib.sha256(data).hexdigest()
        self.bytes += len(data)

    def write_next(self, root: Path) -> None:
        """Write one more letter of random length."""
        self.number += 1
        data = self.random.randbytes(self.random.randrange(KIB, 96 * KIB))
        self.put(root, f"letters/{self.number // 50:03}/letter-{self.number:05}", data)

    def copy_tree(self, source: Path, root: Path, folders: tuple[str, ...]) -> None:
        """Copy a real tree of files."""
        for folder in folders:
            for path in sorted((source / folder).rglob("*")):
                if path.is_file() and path.suffix in {".py", ".c", ".h", ".md"}:
                    self.put(root, f"tree/{path.relative_to(source)}", path.read_bytes())

    def lost(self, root: Path) -> list[str]:
        """Return the acknowledged files that are not there as they were written."""
        missing = []
        for name, checksum in self.acknowledged.items():
            try:
                data = (root / name).read_bytes()
            except OSError:
                data = b""
            if hashlib.sha256(data).hexdigest() != checksum:
                missing.append(name)
        return missing


class Author(threading.Thread):
    """Writes letters one after the other until it is stopped or the device goes away."""

    def __init__(self, letters: Letters, root: Path) -> None:
        super().__init__(name="author", daemon=True)
        self.letters = letters
        self.root = root
        self.stopping = threading.Event()
        self.error: OSError | None = None

    def run(self) -> None:
        """Write until the end."""
        try:
            while not self.stopping.is_set():
                self.letters.write_next(self.root)
        except OSError as error:
            self.error = error

    def finish(self) -> OSError | None:
        """Stop; return the error that ended it, if one did."""
        self.stopping.set()
        self.join(60)
        return self.error
