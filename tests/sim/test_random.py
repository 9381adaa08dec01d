"""Random scripts from one seed: writes all the time, and everything that can happen to machines and link in between."""

import logging
import os

import pytest

from sim.chaos import chaos, verifies
from sim.pair import Pair
from sim.world import Chance

RUNS = int(os.environ.get("PYDRBD_RUNS", "40"))
FIRST = int(os.environ.get("PYDRBD_SEED", "1"))
BATCH = 20


@pytest.mark.parametrize("first", range(FIRST, FIRST + RUNS, BATCH))
def test_nothing_is_lost_whatever_happens(first: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        for seed in range(first, min(first + BATCH, FIRST + RUNS)):
            _run(seed)
    finally:
        logging.disable(logging.NOTSET)


def _run(seed: int) -> None:
    chance = Chance(facts_ns=(0, 50_000, 400_000)[seed % 3], short_transfers=seed % 2 == 0)
    options = {"chance": chance, "internal": seed % 5 == 0, "al_extents": 2 + seed % 3}
    options["disk"] = "rs-discard-granularity 8K;" if seed % 4 == 1 else ""
    try:
        Pair.run(chaos, seed, **options)
    except BaseException as failure:
        try:
            Pair.run(chaos, seed, tracing=True, **options)
        except BaseException as again:  # noqa: BLE001 - its notes are what we are after
            failure.add_note(f"seed {seed}\n" + "\n".join(note[-20_000:] for note in getattr(again, "__notes__", [])))
        raise


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS // 2))
def test_a_verify_never_takes_a_write_under_way_for_a_difference(seed: int) -> None:
    logging.disable(logging.CRITICAL)
    chance = Chance(facts_ns=(0, 50_000, 400_000)[seed % 3], short_transfers=seed % 2 == 0)
    try:
        Pair.run(verifies, seed, chance=chance, al_extents=2 + seed % 3, net="verify-alg crc32c;")
    finally:
        logging.disable(logging.NOTSET)
