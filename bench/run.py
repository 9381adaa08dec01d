"""Measure pydrbd beside its peers, in one run: the same jobs, the same load generator, files in memory, protocol C.

What counts are the ratios of one run. bench/README.md says what each number means and what it does not.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS, MIB, Place
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
ONE_CPU = ("taskset", "-c", "0")
REGIMES: dict[str, tuple[str, ...]] = {"free": (), "one CPU": ONE_CPU}


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of load."""

    name: str
    options: tuple[str, ...]
    in_mb_s: bool = False


JOBS = (
    Job("4k depth 1", ("--bs=4k", "--iodepth=1")),
    Job("4k depth 32", ("--bs=4k", "--iodepth=32")),
    Job("1M depth 4", ("--bs=1m", "--iodepth=4"), in_mb_s=True),
)
TARGETS = (
    ("free", "4k depth 32", "mirror", 3.0),
    ("free", "1M depth 4", "mirror", 2.5),
    ("one CPU", "4k depth 32", "floor", 0.7),
)


def measure(uri: str, job: Job, place: Place, seconds: int) -> dict[str, Any]:
    """Run one job; return what fio says of its writes, and the command."""
    size = place.size_bytes // MIB - 8  # pydrbd's metadata takes its share of the disk
    command = [
        *place.prefix,
        "fio",
        f"--name={job.name.replace(' ', '-')}",
        "--ioengine=nbd",
        f"--uri={uri}",
        "--rw=randwrite",
        *job.options,
        f"--size={size}m",
        "--time_based",
        f"--runtime={seconds}",
        "--ramp_time=1",
        "--norandommap",
        "--output-format=json",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    write = json.loads(output[output.index("{") :])["jobs"][0]["write"]
    percentiles = write["clat_ns"].get("percentile", {})
    return {
        "iops": write["iops"],
        "mb_s": write["bw_bytes"] / 1e6,
        "p50_us": percentiles.get("50.000000", 0) / 1000,
        "p99_us": percentiles.get("99.000000", 0) / 1000,
        "command": " ".join(command).replace(str(place.directory), "DIRECTORY"),
    }


def machine() -> dict[str, Any]:
    """Describe what the figures depend on."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.split(":")[1].strip() for line in cpus.splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], check=False, capture_output=True
    )
    fio = subprocess.run(["fio", "--version"], check=False, capture_output=True, text=True)
    qemu = subprocess.run(["qemu-storage-daemon", "--version"], check=False, capture_output=True, text=True)
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.decode().strip(),
        "cpus": len(models),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release().partition("-")[0],  # the version, not whose build it is
        "fio": fio.stdout.strip(),
        "mirror": (qemu.stdout.splitlines() or ["none"])[0],
        "tcp_congestion": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="ascii").strip(),
    }


def run_contestant(name: str, regime: str, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Start one contestant, give it every job, end it."""
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="pydrbd-bench-") as directory:
        place = Place(Path(directory), arguments.size_mib * MIB, REGIMES[regime])
        with CONTESTANTS[name](place) as uri:
            results = {}
            for job in JOBS:
                results[job.name] = measure(uri, job, place, arguments.seconds)
                console.print(f"  {regime:8} {name:8} {job.name:12} {figure(job, results[job.name])}", highlight=False)
            return results


def figure(job: Job, result: dict[str, Any]) -> str:
    """Write a result as its job counts."""
    if job.in_mb_s:
        return f"{result['mb_s']:,.0f} MB/s"
    return f"{result['iops']:,.0f} IOPS ({result['p50_us']:.0f} us)"


def median(runs: list[dict[str, Any]], job: Job) -> dict[str, Any]:
    """Return the run whose rate is the median."""
    results: list[dict[str, Any]] = sorted((run[job.name] for run in runs), key=lambda result: float(result["iops"]))
    return results[(len(runs) - 1) // 2]


def ratio(runs: dict[str, list[dict[str, Any]]], job: Job, peer: str) -> float:
    """Return pydrbd's median rate in units of the peer's."""
    ours, theirs = (statistics.median(float(run[job.name]["iops"]) for run in runs[name]) for name in ("pydrbd", peer))
    return ours / theirs


def rows(results: dict[str, dict[str, list[dict[str, Any]]]], names: list[str]) -> list[list[str]]:
    """Return the table: one row per regime and job, one column per contestant, then pydrbd's ratios."""
    table = []
    for regime, runs in results.items():
        for job in JOBS:
            row = [regime, job.name, *(figure(job, median(runs[name], job)) for name in names)]
            row += [f"{ratio(runs, job, peer):.2f}" for peer in names if peer != "pydrbd" and "pydrbd" in names]
            table.append(row)
    return table


def verdicts(results: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Compare with the targets of docs/benchmarks.md."""
    said = []
    for regime, name, peer, target in TARGETS:
        runs = results.get(regime, {})
        if {"pydrbd", peer} <= runs.keys():
            reached = ratio(runs, next(job for job in JOBS if job.name == name), peer)
            outcome = "met" if reached >= target else "MISSED"
            said.append(f"{name}, {regime}: {reached:.2f} of {peer}, target {target}: {outcome}")
    return said


def publish(header: list[str], table: list[list[str]], about: dict[str, Any], said: list[str]) -> None:
    """Write the table into docs/benchmarks.md."""
    text = PAGE.read_text(encoding="utf-8").split("## Results\n")[0]
    lines = ["## Results", "", f"{about['cpus']} CPUs ({about['cpu']}), Linux {about['kernel']}, {about['fio']}, "]
    lines[-1] += (
        f"{about['mirror']}, commit {about['commit']}, {about['date'][:10]}. Medians; in brackets the median latency."
    )
    lines += ["", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in table]
    lines += ["", *(f"- {sentence}" for sentence in said)]
    PAGE.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="length of each job (default 5)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each contestant runs (default 3)")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of each replica (default 1024)")
    parser.add_argument("--directory", default="/dev/shm", help="where the replicas lie (default /dev/shm)")
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="measure only this contestant")
    parser.add_argument("--regime", action="append", choices=list(REGIMES), help="only this regime")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/benchmarks.md")
    return parser.parse_args()


def main() -> None:
    """Measure everybody, print the table, keep every single result."""
    arguments = parse()
    console = Console()
    names = arguments.only or list(CONTESTANTS)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for regime in arguments.regime or REGIMES:
        results[regime] = {name: [] for name in names}
        # The contestants take turns, so that a disturbance of the machine does not fall on one of them alone.
        for _ in range(arguments.repeats):
            for name in names:
                results[regime][name].append(run_contestant(name, regime, arguments, console))
    header = [
        "regime",
        "job",
        *names,
        *(f"pydrbd / {name}" for name in names if name != "pydrbd" and "pydrbd" in names),
    ]
    table = Table(*header)
    for row in rows(results, names):
        table.add_row(*row)
    console.print(table)
    said = verdicts(results)
    for sentence in said:
        console.print(sentence, highlight=False)
    about = machine()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{about['date'][:19].replace(':', '')}-{about['commit']}.json"
    file.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n", encoding="utf-8")
    console.print(f"kept in {file.relative_to(ROOT)}", highlight=False)
    if arguments.publish:
        publish(header, rows(results, names), about, said)


if __name__ == "__main__":
    main()
