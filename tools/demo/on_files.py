"""The story's load with a filesystem: a tree of files on ext4, each fsynced, each known by its checksum."""

from __future__ import annotations

from pathlib import Path

from demo.filesystem import Filesystem
from demo.letters import Author, Letters
from pair import Node, wait_until

PROJECT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("src", "csrc", "nbd", "docs")
BEFORE_THE_KILL = 60
ATTACH = "nbdfuse fuse --unix nbd.sock & LOOP=$(losetup --find --show fuse/nbd)"


class FileLoad:
    """Files on whichever node is primary."""

    unit = "files"

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.letters = Letters(seed)
        self.filesystem: Filesystem | None = None
        self.author: Author | None = None

    @property
    def acknowledged(self) -> int:
        """How many files are known to be durable."""
        return len(self.letters.acknowledged)

    @property
    def root(self) -> Path:
        """Where the files are now."""
        if self.filesystem is None:
            raise RuntimeError("nothing is mounted")
        return self.filesystem.root

    def prepare(self, node: Node) -> str:
        """Make a filesystem on the node's device; return what was done, as a command line."""
        filesystem = Filesystem(node, self.directory / "fresh")
        self.filesystem = filesystem
        filesystem.make()
        self.close()
        return f"{ATTACH}; mkfs.ext4 $LOOP"

    def open(self, node: Node) -> str:
        """Mount the node's device; return what was done, as a command line."""
        self.filesystem = Filesystem(node, self.directory / f"mount-{node.name}")
        self.filesystem.mount()
        return f"{ATTACH}; mount $LOOP mnt"

    def close(self) -> None:
        """Unmount, also after the device has died."""
        if self.filesystem is not None:
            self.filesystem.unmount()
            self.filesystem = None

    def write(self) -> str:
        """Write a real tree and return what was written."""
        self.letters.copy_tree(PROJECT, self.root, FOLDERS)
        return f"a tree of {self.acknowledged} files, each fsynced"

    def start(self) -> None:
        """Go on writing in the background; return when it is well under way."""
        self.author = Author(self.letters, self.root)
        goal = self.letters.number + BEFORE_THE_KILL
        self.author.start()
        wait_until(lambda: self.letters.number >= goal or self.author_failed(), "the author to write", 60)

    def author_failed(self) -> bool:
        """Return whether the background writer has ended by itself."""
        return self.author is not None and not self.author.is_alive()

    def stop(self) -> str:
        """End the background writer; return what ended it."""
        if self.author is None:
            return ""
        error = self.author.finish()
        self.author = None
        return "" if error is None else f"the application got: {error.strerror}"

    def write_more(self) -> str:
        """Write some more in the foreground."""
        before = self.acknowledged
        for _ in range(BEFORE_THE_KILL):
            self.letters.write_next(self.root)
        return f"{self.acknowledged - before} more files"

    def lost(self) -> list[str]:
        """Return what was acknowledged and is not there."""
        return self.letters.lost(self.root)
