"""Measure what a resync costs the application: 4 KiB writes at depth 1 with and without one, in one run, with defaults.

The nearest-rank 99th percentile of each, their ratio against the target, and the rate of the resync itself, under these
writes and alone. `invalidate-remote` makes the whole device resync from the node that is written to.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from contestants import MIB, Place, fill
from run import PAGE, RESULTS, ROOT, Job, machine, measure

from pair import RESOURCE, Node, Pair

TARGET = 2.0
JOB = Job("4k depth 1", ("--bs=4k", "--iodepth=1"))
HEADING = "## Writes during a resync\n"


@dataclass(frozen=True, slots=True)
class Round:
    """One round. Latencies in microseconds, rates in MiB/s."""

    quiet_p99_us: float
    resync_p99_us: float
    quiet_iops: float
    resync_iops: float
    rate_under_load: float
    rate_alone: float


def out_of_sync_mib(node: Node) -> float:
    """Return how much the peer still lacks."""
    return float(node.status().raw["connections"][0]["peer_devices"][0]["out-of-sync"]) / 1024


def begin_resync(pair: Pair) -> None:
    """Let the whole device be copied from castor to pollux; return once it runs."""
    pair.wait_in_sync()
    pair.castor.run("invalidate-remote", RESOURCE)
    pair.wait_for(lambda: pair.pollux.status().disk == "Inconsistent", "the resync to begin")


def one_round(pair: Pair, place: Place, seconds: int) -> Round:
    """Measure without a resync, during one, and one alone."""
    pair.wait_in_sync()
    quiet = measure(pair.castor.uri, JOB, place, seconds)
    begin_resync(pair)
    left, begun = out_of_sync_mib(pair.castor), time.monotonic()
    busy = measure(pair.castor.uri, JOB, place, seconds)
    took, still = time.monotonic() - begun, out_of_sync_mib(pair.castor)
    if still == 0:
        raise SystemExit("the resync ended before the writes did: give it more to copy (--size-mib)")
    begin_resync(pair)
    begun_alone = time.monotonic()
    left_alone = out_of_sync_mib(pair.castor)
    pair.wait_in_sync()
    alone = time.monotonic() - begun_alone
    return Round(
        quiet["p99_us"],
        busy["p99_us"],
        quiet["iops"],
        busy["iops"],
        (left - still) / took,
        left_alone / alone,
    )


def lines_of(rounds: list[Round], about: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    middle = {name: statistics.median(getattr(each, name) for each in rounds) for name in asdict(rounds[0])}
    ratio = statistics.median(each.resync_p99_us / each.quiet_p99_us for each in rounds)
    outcome = "met" if ratio <= TARGET else "MISSED"
    where = f"{about['cpus']} CPUs ({about['cpu']}), Linux {about['kernel']}, commit {about['commit']}"
    return [
        f"4 KiB at depth 1, defaults, medians of {len(rounds)} rounds in one run of `bench/resync.py`.",
        f"{where}, {about['date'][:10]}.",
        "",
        "| | alone | with a resync |",
        "|---|---|---|",
        f"| writes, p99 | {middle['quiet_p99_us']:.0f} us | {middle['resync_p99_us']:.0f} us |",
        f"| writes | {middle['quiet_iops']:,.0f} IOPS | {middle['resync_iops']:,.0f} IOPS |",
        f"| the resync itself | {middle['rate_alone']:.0f} MiB/s | {middle['rate_under_load']:.0f} MiB/s |",
        "",
        f"- p99 with a resync to p99 without: {ratio:.2f}, target at most {TARGET}: {outcome}",
    ]


def publish(lines: list[str]) -> None:
    """Put the section into docs/benchmarks.md, before the results of the other jobs, in place of the last one."""
    before, results = PAGE.read_text(encoding="utf-8").split("## Results\n")
    before = before.split(HEADING)[0]
    section = "\n".join(lines)
    PAGE.write_text(f"{before}{HEADING}\n{section}\n\n## Results\n{results}", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement (default 5)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--size-mib", type=int, default=2048, help="size of each replica (default 2048)")
    parser.add_argument("--directory", default="/dev/shm", help="where the replicas lie (default /dev/shm)")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, keep every round."""
    arguments = parse()
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="pydrbd-bench-") as directory:
        place = Place(Path(directory), arguments.size_mib * MIB)
        with Pair.create(place.directory, place.size_bytes) as pair:
            for node in pair.nodes:
                fill(node.disk, place.size_bytes)
            pair.create_metadata()
            pair.up()
            pair.first_sync()
            rounds = [one_round(pair, place, arguments.seconds) for _ in range(arguments.repeats)]
    about = machine()
    lines = lines_of(rounds, about)
    print("\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{about['date'][:19].replace(':', '')}-{about['commit']}-resync.json"
    kept = {"about": about, "rounds": [asdict(each) for each in rounds]}
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {file.relative_to(ROOT)}")
    if arguments.publish:
        publish(lines)


if __name__ == "__main__":
    main()
