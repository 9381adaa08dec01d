"""Enumerate the power cuts of one workload: `run_cuts.py WORKLOAD VICTIMS [--seed N] [--long] [--stop] ...`.

The last line says what the first failed case came to; the exit code is 1 if there is one. `--replay` prints its trace.
"""

import argparse
import logging
import sys
from collections import Counter

from sim import workloads
from sim.cuts import Enumeration, Workload
from sim.pair import Pair
from sim.world import Chance


async def _plain(pair: Pair, workload: Workload) -> None:
    await pair.boot()
    await workload(pair)
    await pair.at_rest()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload")
    parser.add_argument("victims", choices=["castor", "pollux", "both"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--stop", action="store_true", help="at the first failure")
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--plain", type=int, default=0, help="no cut, but so many seeds")
    parser.add_argument("--facts-ns", type=int, default=0, help="the control plane looks at its facts so late")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    workload = getattr(workloads, options.workload)
    chance = Chance(facts_ns=options.facts_ns)
    for seed in range(options.plain):
        try:
            Pair.run(lambda pair: _plain(pair, workload), seed, chance=chance)
        except AssertionError as failure:
            print(f"seed {seed}: {failure}")
            return 1
    if options.plain:
        print(f"{options.plain} seeds")
        return 0
    enumeration = Enumeration(workload, options.seed, options.victims, long=options.long, chance=chance)
    enumeration.every = options.every
    enumeration.stop_at_failure = options.stop
    try:
        report = enumeration.run()
    except AssertionError as failure:
        print(f"without a cut: {failure}")
        return 1
    print(f"{report.steps} steps, {report.cases} cases {dict(report.then)}, {report.seconds:.1f} s")
    for error, count in Counter(error for _, error in report.failures).most_common(10):
        print(f"{count} times, first {next(case for case, told in report.failures if told == error)}:\n{error}")
    if report.failures and options.replay:
        try:
            enumeration.replay(report.failures[0][0])
        except BaseException as failure:  # noqa: BLE001 - its notes are what we are after
            print(*getattr(failure, "__notes__", []), repr(failure), sep="\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
