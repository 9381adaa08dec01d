"""What the guests boot: a Debian root, a kernel, an initrd, and the project as its wheel installs it.

Each is made once and kept in a cache outside the tree, under a name that is a hash of what it was made from. Needs
root, because the root is a Debian with its owners and device numbers. It knows nothing of what the tests do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = Path(os.environ.get("PYDRBD_VM_PROJECT") or HERE.parent.parent)
"""The tree that is installed in the guests; another one can be named, a release for example."""
GUEST_FILES = ("init", "agent.py", "ledger.py", "preloaded.py", "workload.py")
PROJECT_SOURCES = ("src", "csrc", "nbd", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
VENV = "venv"
GUEST_PROJECT = "/usr/lib/pydrbd"
"""Where a guest mounts the image of the project; the shebangs in it say so."""


@dataclass(frozen=True, slots=True)
class Image:
    """The files that a guest boots."""

    kernel: Path
    initrd: Path
    root: Path
    project: Path
    versions: dict[str, str]


def cache_directory() -> Path:
    """Return where images are kept: PYDRBD_VM_CACHE, else pydrbd-vm in the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PYDRBD_VM_CACHE") or base / "pydrbd-vm")


def build() -> Image:
    """Make whatever is missing, one at a time on this machine; return the image."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = _made(cache, "root", _hash_of([HERE / "make-root"]), _make_root)
        initrd = _made(
            cache, "initrd", _hash_of([root / "initrd.gz", *_guest_files()]), lambda to: _make_initrd(root, to)
        )
        project = _made(cache, "project", _hash_of(_project_files()), lambda to: _make_project(cache, to))
    lines = (root / "versions").read_text(encoding="utf-8").splitlines()
    return Image(
        kernel=root / "vmlinuz",
        initrd=initrd / "initrd.gz",
        root=root / "root.img",
        project=project / "project.img",
        versions=dict(line.split(" ", 1) for line in lines),
    )


def _made(cache: Path, kind: str, key: str, make: object) -> Path:
    """Return the directory of this kind and key, made if it is missing; others of the kind are removed but the
    newest."""
    place = cache / f"{kind}-{key}"
    if not place.is_dir():
        with _scratch(cache) as scratch:
            made = scratch / kind
            made.mkdir()
            make(made)  # type: ignore[operator]
            made.rename(place)
    os.utime(place)
    kept = sorted(cache.glob(f"{kind}-*"), key=lambda each: each.stat().st_mtime)
    for old in kept[:-6]:  # other clones of the project on this machine may use theirs
        shutil.rmtree(old)
    return place


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as name:
        yield Path(name)


def _hash_of(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _guest_files() -> list[Path]:
    return [HERE / "guest" / name for name in ("initrd-init", *GUEST_FILES)]


def _project_files() -> list[Path]:
    found = [Path(__file__)]
    for name in PROJECT_SOURCES:
        path = PROJECT / name
        found += [path] if path.is_file() else [each for each in path.rglob("*") if _is_source(each)]
    return found


def _is_source(path: Path) -> bool:
    return path.is_file() and path.suffix not in {".so", ".pyc", ".o"} and ".egg-info" not in str(path)


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run([*map(str, command)], check=True, cwd=cwd)


def _make_root(to: Path) -> None:
    _run(HERE / "make-root", to)


def _make_initrd(root: Path, to: Path) -> None:
    """Append the guest's own files to the initrd of busybox and modules: the kernel unpacks one archive after the
    other."""
    tree = to / "tree"
    (tree / "guest").mkdir(parents=True)
    for name in GUEST_FILES:
        shutil.copy2(HERE / "guest" / name, tree / "guest" / name)
    (tree / "guest" / "init").chmod(0o755)
    shutil.copy2(HERE / "guest" / "initrd-init", tree / "init")
    (tree / "init").chmod(0o755)
    archive = "find . | cpio --quiet -o -H newc | gzip -1"
    added = subprocess.run(["sh", "-c", archive], cwd=tree, check=True, stdout=subprocess.PIPE).stdout
    (to / "initrd.gz").write_bytes((root / "initrd.gz").read_bytes() + added)
    shutil.rmtree(tree)


def _make_project(cache: Path, to: Path) -> None:
    """Build the wheel and install it with what it needs into a virtual environment, as a disk image."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    tree, source, wheels = to / "tree", to / "source", cache / "wheels"
    source.mkdir()
    for name in PROJECT_SOURCES:
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
        else:
            shutil.copy2(path, source / name)
    _run(*pip, "wheel", "--wheel-dir", wheels, "--find-links", wheels, "--no-deps", source)
    wheel = next(iter(wheels.glob("pydrbd-*.whl"))).rename(to / next(iter(wheels.glob("pydrbd-*.whl"))).name)
    # Needed wheels are fetched (crcmod is compiled) once, here: a guest has no way out.
    _run(*pip, "wheel", "--wheel-dir", wheels, "--find-links", wheels, wheel)
    for own in wheels.glob("pydrbd-*.whl"):
        own.unlink()
    _run("/usr/bin/python3", "-m", "venv", "--without-pip", tree / VENV)
    python = tree / VENV / "bin" / "python"
    _run(*pip, "--python", python, "install", "--no-index", "--find-links", wheels, wheel)
    (tree / "bin").mkdir()
    for name in ("pydrbd", "pydrbd-node", "pydrbd-datadisk", "pydrbd-drbddisk"):
        script = tree / VENV / "bin" / name
        text = script.read_text(encoding="utf-8").partition("\n")[2]
        script.write_text(f"#!{GUEST_PROJECT}/{VENV}/bin/python\n{text}", encoding="utf-8")
        (tree / "bin" / name).symlink_to(f"../{VENV}/bin/{name}")
    _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", tree, to / "project.img", "192M")
    shutil.rmtree(tree)
    shutil.rmtree(source)


if __name__ == "__main__":
    print(build())
