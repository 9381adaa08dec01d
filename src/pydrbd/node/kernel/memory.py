"""Memory of a daemon whose device is used on its own host: the kernel frees memory by writing pages through us.

If we then wait for memory, nothing moves any more. So our tasks may not start such writing while they allocate
(PR_SET_IO_FLUSHER, inherited by every thread: called before the first), the engine's memory is locked, and the
out-of-memory killer looks elsewhere. What is refused is said in the log, once, and costs certainty, not correctness.
"""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

PR_SET_IO_FLUSHER = 57
PR_GET_IO_FLUSHER = 58
"""linux/prctl.h, since Linux 5.6"""
OOM_SCORE_MIN = -1000
SELF = Path("/proc/self")


def protect(proc: Path = SELF) -> list[str]:
    """Do both for this process and its children; return a sentence for each that was refused."""
    troubles = []
    if not _become_io_flusher():
        troubles.append("PR_SET_IO_FLUSHER was refused (CAP_SYS_RESOURCE); when memory is short, writing may stall")
    try:
        (proc / "oom_score_adj").write_text(str(OOM_SCORE_MIN))
    except OSError as error:
        troubles.append(f"the out-of-memory killer may choose this daemon: oom_score_adj: {error.strerror}")
    return troubles


def unlocked(pool_bytes: int, proc: Path = SELF) -> str | None:
    """Return a sentence if less than the engine's memory is locked."""
    for line in (proc / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmLck" and int(value.split()[0]) * 1024 >= pool_bytes:
            return None
    return f"the engine's {pool_bytes >> 20} MiB are not locked in memory (RLIMIT_MEMLOCK)"


def _become_io_flusher() -> bool:
    """Set the flag, and read it back: it is easily set wrong, and nobody would notice until memory is short."""
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_IO_FLUSHER, ctypes.c_ulong(1), zero, zero, zero) != 0:
        log.debug("PR_SET_IO_FLUSHER: %s", os.strerror(ctypes.get_errno()))
        return False
    return int(libc.prctl(PR_GET_IO_FLUSHER, zero, zero, zero, zero)) == 1
