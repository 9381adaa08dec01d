"""Power cuts at every write, flush and send of short workloads, on each node and on both, caches lost in every way.

The pair comes back; what was flushed is on both; what was acknowledged is on the survivor; both disks are equal; the
resync copied no more than activity log and bitmap allow.
"""

import os
from itertools import product

import pytest

from sim import workloads
from sim.cuts import Enumeration, Report

SEED = int(os.environ.get("PYDRBD_SEED", "1"))
EVERY = int(os.environ.get("PYDRBD_EVERY", "2"))
"""Every how manyth step: `./test` has three to four minutes of CPU for it; PYDRBD_EVERY=1: each."""


def _explain(enumeration: Enumeration, report: Report) -> str:
    """Live the first failed case again, with its trace."""
    case, error = report.failures[0]
    lines = [f"{len(report.failures)} of {report.cases} cases failed; seed {enumeration.seed}, first: {case}", error]
    try:
        enumeration.replay(case)
        lines.append("the replay went well: the run is not deterministic")
    except BaseException as failure:  # noqa: BLE001 - its notes are what we are after
        lines += [note[-20_000:] for note in getattr(failure, "__notes__", [])]
    return "\n".join(lines)


CUTS = [
    *product(("replicated", "disconnected", "broken_while_demoted"), ("castor", "pollux", "both")),
    ("handed_over", "both"),
    ("swapped", "both"),
    ("mended", "castor"),
]


def _cut(workload: str, victims: str, every: int) -> None:
    enumeration = Enumeration(getattr(workloads, workload), SEED, victims)
    enumeration.every = every
    report = enumeration.run()
    print(f"{report.steps} steps, {report.cases} cases, {report.seconds:.0f} s")
    assert not report.failures, _explain(enumeration, report)
    assert report.cases * every > report.steps


@pytest.mark.parametrize(("workload", "victims"), CUTS)
def test_nothing_is_lost_by_a_power_cut_at_any_step(workload: str, victims: str) -> None:
    _cut(workload, victims, EVERY)


@pytest.mark.parametrize(("victims", "every"), [("castor", 5), ("both", 9)])
def test_a_planned_restart_may_lose_its_power_at_any_moment(victims: str, every: int) -> None:
    _cut("restarted", victims, every)


@pytest.mark.parametrize(("victims", "every"), [("castor", 97), ("pollux", 1499)])
def test_a_disk_that_is_copied_whole_may_lose_its_power(victims: str, every: int) -> None:
    """Thousands of steps, each like the one before: a few of them will do."""
    _cut("invalidated", victims, every)
