"""Planted mistakes: each is one change to a copy of one source, and a simulation that must find it.

    python tests/sim/mutants.py [name ...]

prints which run went red, after how many seconds. A mistake that nobody finds within a minute, or a source in which the
place is not found any more, makes the exit code 1.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "mutants"
LIMIT_S = 60
STRIDES = (7, 2, 1)
"""First every seventh step, for most mistakes show at many."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands once in `file`. `runs`: (workload, victims, options) in which it shows, the likeliest first."""

    name: str
    mistake: str
    file: str
    old: str
    new: str
    runs: tuple[tuple[str, ...], ...]


MUTANTS = (
    Mutant(
        "transaction-not-flushed",
        "a transaction of the activity log is not flushed",
        "csrc/disk/hot_extents.c",
        "engine->disk.config.al_offset_bytes + hot->offset_bytes, true);",
        "engine->disk.config.al_offset_bytes + hot->offset_bytes, false);",
        (("replicated", "castor"), ("replicated", "both")),
    ),
    Mutant(
        "page-not-flushed",
        "a bitmap page is not flushed before its extent is evicted",
        "csrc/disk/bitmap_pages.c",
        "page_offset(engine, op->page), pages->count == 1);",
        "page_offset(engine, op->page), false);",
        (("alone", "castor"), ("disconnected", "castor")),
    ),
    Mutant(
        "barrier-before-flush",
        "BARRIER is answered before the flush",
        "csrc/peer/peer_write.c",
        "    if (engine->disk.config.flush != 0)\n        io_flush(engine->io, &peer->epoch_flush,",
        "    if (engine->disk.config.flush == 7)\n        io_flush(engine->io, &peer->epoch_flush,",
        (("replicated", "pollux"), ("replicated", "both")),
    ),
    Mutant(
        "identifiers-after-release",
        "the new identifiers are persisted after the release",
        "src/pydrbd/state/peer_loss.py",
        "    turn.settle()\n    turn.add(Release())\n",
        "    turn.settle()\n    turn.add(Release())\n"
        '    turn.effects.sort(key=lambda one: type(one).__name__ == "PersistMetadata")\n',
        (("broken", "castor", "--facts-ns", "200000", "--plain", "20"),),
    ),
    Mutant(
        "bit-cleared-early",
        "a block's bit is cleared before the peer's write was durable",
        "src/pydrbd/state/resync.py",
        "only our bitmap on disk knows of it.\n    turn.add(WriteBitmap())\n",
        "only our bitmap on disk knows of it.\n",
        (("disconnected", "pollux"),),
    ),
    Mutant(
        "extent-retired-early",
        "an extent is retired before the barrier is acknowledged",
        "csrc/peer/transfer_log.c",
        "    bool hot = (request->flags & REQUEST_HOT) != 0;",
        "    bool hot = false;",
        (("replicated", "both"),),
    ),
    Mutant(
        "overlapping-not-ordered",
        "overlapping writes are not ordered",
        "csrc/structures/ordering.c",
        "        return ORDER_APP_WRITE | ORDER_PEER_WRITE | ORDER_RS_READ | ORDER_RS_FETCH | ORDER_RS_WRITE;",
        "        return ORDER_PEER_WRITE | ORDER_RS_READ | ORDER_RS_FETCH | ORDER_RS_WRITE;",
        (("overlapping", "pollux", "--plain", "20"),),
    ),
)


def plant(mutant: Mutant) -> dict[str, str]:
    """Build the mutant; return the environment in which tests meet it."""
    source = ROOT / mutant.file
    text = source.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has changed, the place stands there no more"
    out = OUT / mutant.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    changed = text.replace(mutant.old, mutant.new)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"}
    if source.suffix == ".py":
        shutil.copytree(ROOT / "src", out / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        (out / mutant.file).write_text(changed, encoding="utf-8")
        environment["PYTHONPATH"] = f"{out / 'src'}:{ROOT / 'tests'}"
    else:
        copy = out / source.name
        copy.write_text(changed, encoding="utf-8")
        environment["PYDRBD_SIM_REPLACED"] = f"{source}={copy}"
        environment["PYDRBD_SIM_OUT"] = str(out)
        subprocess.run(
            [sys.executable, str(ROOT / "tests/sim/build_sim.py")],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return environment


def hunt(mutant: Mutant) -> tuple[str, float]:
    """Return which run found the mistake ("" for none), and the seconds until then, the build not counted."""
    environment = plant(mutant)
    began = time.monotonic()
    for (workload, victims, *more), every in product(mutant.runs, STRIDES):
        command = [sys.executable, str(ROOT / "tests/sim/run_cuts.py"), workload, victims, *more]
        command += ["--stop", "--every", str(every)]
        left = LIMIT_S - (time.monotonic() - began)
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=left, check=False)
        except subprocess.TimeoutExpired:
            break
        assert done.returncode in {0, 1}, f"exit {done.returncode}: {done.stderr}"
        if done.returncode:
            sentence = done.stdout.strip().splitlines()[-1]
            return f"{workload}, power cut of {victims}: {sentence}", time.monotonic() - began
    return "", time.monotonic() - began


def main(names: list[str]) -> int:
    """Plant them all, or those named; print the table."""
    missed = 0
    subprocess.run([sys.executable, str(ROOT / "tests/sim/build_sim.py")], check=True, stdout=subprocess.DEVNULL)
    print(f"{'mistake':60} {'seconds':>7}  found by")
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        found, seconds = hunt(mutant)
        missed += not found
        print(f"{mutant.mistake:60} {seconds:7.1f}  {found or 'NOBODY'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
