"""drbddisk: the role alone, with the exit codes of drbd-utils."""

import pytest

from fakes.cluster import REFUSED, World
from pydrbd.cluster.control import ControlError, Roles
from pydrbd.cluster.drbddisk import Drbddisk


@pytest.mark.parametrize(("refusals", "tries", "code"), [(0, 1, 0), (5, 6, 0), (6, 6, 1)])
def test_start_promotes_within_six_tries(refusals: int, tries: int, code: int):
    world = World(refusals=[REFUSED] * refusals)
    assert Drbddisk(world, world).start("drbd0") == code
    assert world.done == ["primary drbd0"] * tries
    assert world.clock == tries - 1


@pytest.mark.parametrize(("refusals", "tries", "code"), [(0, 1, 0), (2, 3, 0), (3, 3, 1)])
def test_stop_demotes_within_three_tries(refusals: int, tries: int, code: int):
    world = World(roles_now=Roles("Primary", "Secondary"), refusals=[REFUSED] * refusals)
    assert Drbddisk(world, world).stop("drbd0") == code
    assert world.done == ["secondary drbd0"] * tries


def test_stop_of_what_is_not_up_is_done():
    world = World(roles_now=None)
    assert Drbddisk(world, world).stop("drbd0") == 0
    assert world.done == []


@pytest.mark.parametrize(
    ("roles", "line", "code"),
    [
        (Roles("Primary", "Secondary"), "running (Primary)", 0),
        (Roles("Secondary", "Primary"), "stopped (Secondary)", 3),
        (None, "stopped (Unconfigured)", 3),
        (Roles("Unknown", "Unknown"), "cannot determine status, may be running (Unknown)", 4),
    ],
)
def test_status_has_a_line_and_a_code(roles: Roles | None, line: str, code: int):
    world = World(roles_now=roles)
    assert Drbddisk(world, world).status("drbd0") == code
    assert world.said == [line]


def test_a_daemon_that_does_not_answer_may_be_running():
    world = World(silent=ControlError("drbd0: the daemon does not answer", 20))
    assert Drbddisk(world, world).status("drbd0") == 4
    assert "running" in world.said[0]


def test_status_of_all_makes_no_sense():
    world = World()
    assert Drbddisk(world, world).status("all") == 10
