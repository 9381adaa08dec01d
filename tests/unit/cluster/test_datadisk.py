"""datadisk, step by step, as the 0.6 script does it and heartbeat understands it."""

import pytest

from fakes.cluster import NOT_UP_TO_DATE, REFUSED, World
from pydrbd.cluster.control import ControlError, Roles
from pydrbd.cluster.datadisk import Datadisk

PROMOTE_CHECK_MOUNT = ["primary drbd0", "/bin/true -y /dev/nb0", "mount -v /dev/nb0"]


@pytest.fixture
def world() -> World:
    return World()


def start(world: World) -> int:
    return Datadisk(world, world).start("drbd0")


def stop(world: World) -> int:
    return Datadisk(world, world).stop("drbd0")


def status(world: World) -> str:
    """Return what heartbeat reads."""
    world.said.clear()
    assert Datadisk(world, world).status("drbd0") == 0
    (line,) = world.said
    return line


def owns(line: str) -> bool:
    """Decide as heartbeat does: *running*, *Running* or *OK*, anywhere."""
    return any(word in line for word in ("running", "Running", "OK"))


# --- start -----------------------------------------------------------------------------------------------------------


def test_start_promotes_checks_and_mounts(world: World):
    assert start(world) == 0
    assert world.done == PROMOTE_CHECK_MOUNT
    assert world.said == ["datadisk: 'drbd0' activated"]


def test_start_of_what_is_not_up_says_what_to_do(world: World):
    world.roles_now = None
    assert start(world) == 255
    assert world.warned == ["datadisk: 'drbd0' is not up; try `pydrbd up drbd0` first"]
    assert world.done == []


def test_start_waits_while_the_peer_is_primary(world: World):
    world.roles_now = Roles("Secondary", "Primary")
    world.events = [(62.0, lambda world: setattr(world, "roles_now", Roles("Secondary", "Secondary")))]
    assert start(world) == 0
    assert world.clock == 65.0  # every five seconds, for as long as it takes
    assert world.done == PROMOTE_CHECK_MOUNT


def test_start_refuses_when_both_are_primary(world: World):
    world.roles_now = Roles("Primary", "Primary")
    assert start(world) == 255
    assert world.done == []


def test_start_of_a_primary_goes_on_with_the_check(world: World):
    world.roles_now = Roles("Primary", "Secondary")
    assert start(world) == 0
    assert world.done == PROMOTE_CHECK_MOUNT[1:]


def test_start_of_what_is_mounted_does_nothing(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    assert start(world) == 0
    assert world.done == []
    assert world.said == ["datadisk: 'drbd0' activated"]


def test_start_tries_again_when_the_peer_is_about_to_be_missed(world: World):
    world.refusals = [REFUSED, REFUSED]
    assert start(world) == 0
    assert world.done == ["primary drbd0", "primary drbd0", *PROMOTE_CHECK_MOUNT]


def test_start_gives_up_after_six_refusals_and_mounts_nothing(world: World):
    world.refusals = [REFUSED] * 9
    assert start(world) == 255
    assert world.done == ["primary drbd0"] * 6
    assert not world.mounted
    assert world.said == []


def test_start_without_good_data_fails_at_once(world: World):
    world.refusals = [NOT_UP_TO_DATE]
    assert start(world) == 255
    assert world.done == ["primary drbd0"]


def test_start_that_meets_a_new_primary_waits_again(world: World):
    world.refusals = [REFUSED]
    world.events = [
        (1.0, lambda world: setattr(world, "roles_now", Roles("Secondary", "Primary"))),
        (4.0, lambda world: setattr(world, "roles_now", Roles("Secondary", "Unknown"))),
    ]
    assert start(world) == 0
    assert world.clock == 6.0


@pytest.mark.parametrize(("code", "mounts"), [(0, True), (1, True), (2, False), (4, False), (8, False), (-9, False)])
def test_fsck_may_have_corrected_errors_and_nothing_worse(world: World, code: int, mounts: bool):
    world.codes = {"true": [code]}
    assert start(world) == (0 if mounts else 255)
    assert world.mounted is mounts
    assert (world.said == []) is not mounts


def test_start_without_a_filesystem_fails(world: World):
    world.codes = {"mount": [32]}
    assert start(world) == 255
    assert not owns("\n".join(world.said))


# --- stop ------------------------------------------------------------------------------------------------------------


def test_stop_unmounts_and_demotes(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    assert stop(world) == 0
    assert world.done == ["umount -v /dev/nb0", "secondary drbd0"]
    assert world.said == ["datadisk: 'drbd0' de-activated"]


def test_stop_twice_is_fine(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    assert [stop(world), stop(world)] == [0, 0]
    world.roles_now = None
    assert stop(world) == 0


def test_stop_kills_who_keeps_the_filesystem_busy(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    world.codes = {"umount": [32]}
    assert stop(world) == 0
    assert world.done == [
        "umount -v /dev/nb0", "fuser -k -m /dev/nb0", "umount -v /dev/nb0", "secondary drbd0"
    ]  # fmt: skip
    assert world.clock == 3.0


def test_stop_says_when_it_cannot_kill_anybody(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    world.codes = {"umount": [32, 32], "fuser": [127]}
    assert stop(world) == 255
    assert "datadisk: 'drbd0': nobody was killed: fuser is missing (Debian's package psmisc)" in world.warned


def test_stop_fails_when_it_stays_busy_and_is_primary_still(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    world.codes = {"umount": [32, 32]}
    assert stop(world) == 255
    assert "secondary drbd0" not in world.done
    assert owns(status(world))


def test_stop_that_may_not_demote_fails(world: World):
    world.roles_now = Roles("Primary", "Secondary")
    world.refusals = [ControlError("drbd0: Device is held open by someone (cat (pid 4))", 11)]
    assert stop(world) == 255
    assert world.warned == ["datadisk: drbd0: Device is held open by someone (cat (pid 4))"]


def test_stop_under_a_dead_daemon_starts_it_to_unmount(world: World):
    world.roles_now, world.mounted = None, True
    assert stop(world) == 0
    assert world.done == ["up drbd0", "umount -v /dev/nb0", "secondary drbd0"]


def test_restart_starts_only_what_could_be_stopped(world: World):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    assert Datadisk(world, world).restart("drbd0") == 0
    assert world.done == ["umount -v /dev/nb0", "secondary drbd0", *PROMOTE_CHECK_MOUNT]
    world.codes, world.done = {"umount": [1, 1]}, []
    assert Datadisk(world, world).restart("drbd0") == 255
    assert world.mounted
    assert "mount -v /dev/nb0" not in world.done


# --- status ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "line"),
    [
        (Roles("Primary", "Secondary"), "drbd0: running"),
        (Roles("Primary", "Unknown"), "drbd0: running"),
        (Roles("Primary", "Primary"), "drbd0: error"),
        (Roles("Secondary", "Primary"), "drbd0: stopped"),
        (Roles("Secondary", "Secondary"), "drbd0: stopped"),
        (Roles("Secondary", "Unknown"), "drbd0: stopped"),
        (None, "drbd0: stopped"),
    ],
)
def test_status_is_the_role(world: World, roles: Roles | None, line: str):
    world.roles_now = roles
    assert status(world) == line


def test_what_is_mounted_is_running_even_without_a_daemon(world: World):
    world.roles_now, world.mounted = None, True
    assert status(world) == "drbd0: running"


def test_a_daemon_that_does_not_answer_is_not_running_by_itself(world: World):
    world.silent = ControlError("drbd0: the daemon does not answer", 20)
    assert status(world) == "drbd0: stopped"
    world.mounted = True
    assert status(world) == "drbd0: running"


@pytest.mark.parametrize("name", ["OKdata", "running", "r.Running"])
def test_a_name_does_not_mislead_heartbeat(world: World, name: str):
    Datadisk(world, world).status(name)
    assert world.said == ["stopped"]


def test_nothing_but_status_says_a_word_that_heartbeat_looks_for(world: World):
    assert start(world) == 0
    assert stop(world) == 0
    assert not owns("\n".join(world.said))
