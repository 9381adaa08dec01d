"""A real filesystem on the NBD device: nbdfuse makes it a file, a loop device makes that a block device for ext4.

Needs root, FUSE and loop devices. nbdfuse 1.14 aborts when its server dies; what it leaves behind (a mount whose device
is gone) is taken away piece by piece.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pair import Node, wait_until


class NoFilesystemError(Exception):
    """This host cannot mount a filesystem over NBD; the reason in a few words."""


def why_not() -> str:
    """Return why no filesystem can be mounted here; empty when one probably can."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("nbdfuse", "fusermount3", "losetup", "mkfs.ext4", "mount"):
        if shutil.which(program) is None:
            return f"no {program}"
    for device in ("/dev/fuse", "/dev/loop-control"):
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            return f"{device}: {error.strerror}"
    return ""


def _run(*command: str | Path, check: bool = True) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)
    if check and result.returncode != 0:
        raise NoFilesystemError(f"{command[0]}: {result.stderr.strip()}")
    return result.stdout.strip()


@dataclass(slots=True)
class Filesystem:
    """The device of one node, mounted. `unmount` may be called at any time, and twice."""

    node: Node
    directory: Path
    fuse: subprocess.Popen[bytes] | None = None
    loop: str = ""
    is_mounted: bool = False

    @property
    def root(self) -> Path:
        """Where the files are."""
        return self.directory / "mnt"

    def attach(self) -> None:
        """Make the device a block device. Raises NoFilesystemError."""
        point = self.directory / "fuse"
        for place in (point, self.root):
            place.mkdir(parents=True, exist_ok=True)
        command = ["nbdfuse", str(point), "--unix", str(self.node.nbd_socket)]
        self.fuse = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until((point / "nbd").exists, "nbdfuse", 10)
        except TimeoutError as error:
            raise NoFilesystemError(str(error)) from None
        self.loop = _run("losetup", "--find", "--show", "--direct-io=on", point / "nbd")

    def make(self) -> None:
        """Write an ext4 on it, complete: nothing is left for the kernel to initialise later."""
        self.attach()
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.loop)

    def mount(self) -> None:
        """Attach and mount it. Raises NoFilesystemError."""
        self.attach()
        _run("mount", "-t", "ext4", self.loop, self.root)
        self.is_mounted = True

    def unmount(self) -> None:
        """Take everything away again, also when the device under it has died."""
        if self.is_mounted:
            _run("umount", self.root, check=False)
            if os.path.ismount(self.root):
                _run("umount", "--lazy", self.root, check=False)
            self.is_mounted = False
        if self.loop:
            _run("losetup", "--detach", self.loop, check=False)
            wait_until(lambda: not _run("losetup", self.loop, check=False), f"{self.loop} to be free", 10)
            self.loop = ""
        if self.fuse is not None:
            _run("fusermount3", "-u", "-z", self.directory / "fuse", check=False)
            try:
                self.fuse.wait(10)
            except subprocess.TimeoutExpired:
                self.fuse.kill()
                self.fuse.wait()
            self.fuse = None
