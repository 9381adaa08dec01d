"""Describes the compiled core `pydrbd.core._core` to cffi.

`core_values.h` and `core_api.h` are handed to cffi's cdef byte for byte, so C and Python read the same
declarations. The sources are every C file of `csrc/` and `nbd/` but the simulated world: a new file needs no mention
here. Paths are relative to the project's root, where setuptools runs.

`PYDRBD_SANITIZE=address,undefined` builds the core with those sanitizers.
"""

import os
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wconversion",
    "-Wstrict-prototypes",
    "-Wvla",
]
# Our warnings are for our sources (`make test-c` compiles them with -Werror and -Wmissing-prototypes too); what cffi
# generates, and the Python headers that it includes, are not ours to mend.
GENERATED = """
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "core.h"
"""


def relative(pattern: str) -> list[str]:
    """Return the files that match `pattern`, in a fixed order, relative to the project's root."""
    return [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(pattern))]


def is_simulated(name: str) -> bool:
    """Whether a source belongs to the simulated world, which the product does not contain (tests/sim/build_sim.py)."""
    return name.startswith("csrc/sim/") or name.endswith("/io_sim.c")


def sanitizer_flags() -> list[str]:
    """Return the flags, for compiler and linker alike, that PYDRBD_SANITIZE asks for."""
    sanitizers = os.environ.get("PYDRBD_SANITIZE", "")
    return [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-g"] if sanitizers else []


ffi = FFI()
for header in ("core_values.h", "core_api.h"):
    ffi.cdef((ROOT / "csrc" / header).read_text(encoding="utf-8"))
ffi.set_source(
    "pydrbd.core._core",
    GENERATED,
    sources=[name for name in relative("csrc/**/*.c") if not is_simulated(name)] + relative("nbd/**/*.c"),
    depends=relative("csrc/**/*.h") + relative("nbd/**/*.h"),
    include_dirs=["csrc", *relative("csrc/*/"), "nbd"],
    libraries=["uring", "crypto"],
    define_macros=[("_GNU_SOURCE", None)],
    undef_macros=["NDEBUG"],  # Python's own flags set it; what must hold is asserted in a release too
    extra_compile_args=["-std=c11", "-O2", "-g", "-fvisibility=hidden", *WARNINGS, *sanitizer_flags()],
    extra_link_args=sanitizer_flags(),
)
