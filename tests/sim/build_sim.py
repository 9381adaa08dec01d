"""Compile the engine together with the simulated world into a module of its own, `_sim`, that no product contains.

    python tests/sim/build_sim.py

Objects are kept, so a build after a change to one C file takes a second. A mutant (mutants.py) is the same objects but
for one source: PYDRBD_SIM_REPLACED=source=other says which, PYDRBD_SIM_OUT where the module goes.
"""

import os
import subprocess
import sysconfig
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "sim"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-g", "-fPIC", "-fvisibility=hidden", "-UNDEBUG", "-Wall", "-Wextra"]
FLAGS += ["-DPOOL_UNTOUCHED=true"]
SANITIZE = os.environ.get("PYDRBD_SANITIZE", "")
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer"]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def sources() -> list[Path]:
    return sorted([*ROOT.glob("csrc/**/*.c"), *ROOT.glob("nbd/*.c")])


def includes() -> list[str]:
    folders = sorted({path.parent for path in [*ROOT.glob("csrc/**/*.h"), *ROOT.glob("nbd/*.h")]})
    return [f"-I{folder}" for folder in folders]


def _generated(out: Path) -> Path:
    """Write the C file with which cffi wraps both interfaces, if they have changed."""
    path = out / "_sim.c"
    headers = [ROOT / "csrc/core_values.h", ROOT / "csrc/core_api.h", ROOT / "csrc/sim/sim_api.h"]
    if path.exists() and all(one.stat().st_mtime_ns < path.stat().st_mtime_ns for one in [*headers, Path(__file__)]):
        return path
    ffi = FFI()
    for header in headers:
        ffi.cdef(header.read_text(encoding="utf-8"))
    ffi.set_source("_sim", '#include "core.h"\n#include "sim_api.h"\n')
    path.unlink(missing_ok=True)
    ffi.emit_c_code(str(path))
    return path


def _compile(source: Path, target: Path, more: list[str]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", *FLAGS, *more, *includes(), "-MMD", "-c", str(source), "-o", str(target)]
    subprocess.run(command, check=True)


def _is_fresh(target: Path) -> bool:
    """Whether an object is newer than all that it was made of."""
    listed = target.with_suffix(".d")
    if not target.exists() or not listed.exists():
        return False
    made = target.stat().st_mtime_ns
    parts = listed.read_text(encoding="utf-8").replace("\\\n", " ").split()[1:]
    return all(Path(part).exists() and Path(part).stat().st_mtime_ns < made for part in parts)


def build() -> Path:
    """Build what is not fresh and return the module's path."""
    out = Path(os.environ.get("PYDRBD_SIM_OUT", OUT))
    source, _, other = os.environ.get("PYDRBD_SIM_REPLACED", "").partition("=")
    return _build(out, {Path(source): Path(other)} if source else None)


def _build(out: Path, replaced: Mapping[Path, Path] | None) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    jobs: list[tuple[Path, Path, list[str]]] = []
    objects: list[Path] = []
    for source in sources():
        other = (replaced or {}).get(source)
        target = (OUT if other is None else out) / source.relative_to(ROOT).with_suffix(".o")
        objects.append(target)
        if not _is_fresh(target):
            jobs.append((other or source, target, []))
    wrapped = OUT / "_sim.o"
    objects.append(wrapped)
    if replaced is None:
        python = ["-w", f"-I{sysconfig.get_paths()['include']}"]
        generated = _generated(OUT)
        if not _is_fresh(wrapped):
            jobs.append((generated, wrapped, python))
    module = out / f"_sim{SUFFIX}"
    if jobs or not module.exists():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job: _compile(*job), jobs))
        sanitize = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
        fresh = module.with_suffix(".new")
        libraries = ["-luring", "-lcrypto", "-lpthread"]
        subprocess.run(["gcc", "-shared", *sanitize, "-o", str(fresh), *map(str, objects), *libraries], check=True)
        fresh.replace(module)
    return module


def load(path: Path) -> ModuleType:
    """Import the module that `build` has made."""
    spec = spec_from_file_location("_sim", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    print(build())
