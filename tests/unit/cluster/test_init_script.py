"""The init script: setting up, waiting for the peer, the operator's yes, and the end."""

from pathlib import Path

import pytest

from fakes.cluster import FakeDialog, World
from pydrbd.cluster.control import ControlError, Link, Roles
from pydrbd.cluster.init_script import InitScript

NAMES = ["drbd0"]


def connected(world: World) -> None:
    world.link_now = Link("Connected")
    world.roles_now = Roles("Secondary", "Secondary")


def syncing(world: World) -> None:
    world.link_now = Link("Connected", "SyncTarget sync'ed: 10.0%, finish in 60 s")


@pytest.fixture
def world() -> World:
    return World(roles_now=None, link_now=None)


@pytest.fixture
def dialog(world: World) -> FakeDialog:
    return FakeDialog(world, [])


@pytest.fixture
def script(world: World, dialog: FakeDialog, tmp_path: Path) -> InitScript:
    return InitScript(world, world, lambda: dialog, tmp_path / "drbd")


def test_start_waits_until_the_peer_is_there(world: World, script: InitScript, dialog: FakeDialog, tmp_path: Path):
    world.events = [(2.0, connected)]
    assert script.start(NAMES) == 0
    assert world.said == ["Setting up 'drbd0'...[ OK ]", "waiting for connection: drbd0"]
    assert world.clock == 2.0
    assert dialog.shown == []
    assert (tmp_path / "drbd").exists()


def test_start_of_what_is_up_goes_on_with_a_warning(world: World, script: InitScript):
    connected(world)
    assert script.start(NAMES) == 0
    assert world.warned == ["'drbd0' is already configured"]


def test_start_that_fails_says_so(world: World, script: InitScript):
    world.refusals = [ControlError("drbd0: /dev/md3 does not exist", 10)]
    assert script.start(NAMES) == 255
    assert world.said == ["Setting up 'drbd0'...[ FAILED ]"]


def test_start_without_the_disk_is_up_and_waits_for_the_peer(world: World, script: InitScript):
    world.refusals = [ControlError("drbd0: up without its disk: /dev/md3 is not there", 16)]
    world.events = [(2.0, connected)]
    assert script.start(NAMES) == 0
    assert world.said == ["Setting up 'drbd0'...[ OK ]", "waiting for connection: drbd0"]
    assert world.warned == ["drbd0: up without its disk: /dev/md3 is not there"]


def test_start_waits_for_the_end_of_a_resync(world: World, script: InitScript):
    world.events = [(1.0, syncing), (40.0, connected)]
    assert script.start(NAMES) == 0
    assert world.clock == 40.0


def test_skip_wait_leaves_a_resync_alone(world: World, script: InitScript):
    world.startup(skip_wait=True)
    world.events = [(1.0, syncing)]
    assert script.start(NAMES) == 0
    assert world.clock == 1.0


def test_load_only_waits_for_nothing(world: World, script: InitScript):
    world.startup(load_only=True)
    assert script.start(NAMES) == 0
    assert world.clock == 0.0
    assert world.done == ["up drbd0"]


def test_only_the_word_yes_makes_this_node_primary(world: World, script: InitScript, dialog: FakeDialog):
    dialog.typed = [(5.0, "y"), (6.0, "YES"), (7.0, ""), (9.0, "yes")]
    assert script.start(NAMES) == 1  # as the old script: it is normal when the operator said yes
    assert world.clock == 9.0
    assert world.done == ["up drbd0", "primary drbd0 human"]
    assert len(dialog.shown) == 4
    assert dialog.closed


def test_the_question_comes_after_three_seconds_and_goes_with_the_connection(
    world: World, script: InitScript, dialog: FakeDialog
):
    world.events = [(2.9, lambda _: None), (10.0, connected)]
    assert script.start(NAMES) == 0
    assert "Type 'yes'" in dialog.shown[0]
    assert "All resources are connected" in dialog.shown[-1]
    assert world.done == ["up drbd0"]


def test_the_end_of_the_terminal_aborts(world: World, script: InitScript, dialog: FakeDialog):
    dialog.typed = [(5.0, None)]
    assert script.start(NAMES) == 255
    assert world.done == ["up drbd0"]
    assert dialog.closed


def test_inittimeout_goes_on_alone_as_primary(world: World, script: InitScript):
    world.startup(inittimeout_s=20)
    assert script.start(NAMES) == 0
    assert world.clock == 20.0
    assert world.done == ["up drbd0", "primary drbd0 timeout-expired"]
    assert world.warned[-1] == "'drbd0' is not connected: Connecting"


@pytest.mark.parametrize("option", [{"inittimeout_s": -20}, {"wfc_timeout_s": 20}])
def test_a_negative_inittimeout_and_wfc_timeout_go_on_without_a_role(
    world: World, script: InitScript, option: dict[str, int]
):
    world.startup(**option)
    assert script.start(NAMES) == 0
    assert world.clock == 20.0
    assert world.done == ["up drbd0"]


def test_a_resource_that_stands_alone_is_not_waited_for(world: World, script: InitScript):
    world.events = [(1.0, lambda world: setattr(world, "link_now", Link("StandAlone")))]
    assert script.start(NAMES) == 0
    assert world.warned == ["'drbd0' is not connected: StandAlone"]


def test_stop_unmounts_demotes_and_takes_down(world: World, script: InitScript, tmp_path: Path):
    (tmp_path / "drbd").touch()
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    assert script.stop(NAMES) == 0
    assert world.done == ["umount -v /dev/nb0", "secondary drbd0", "down drbd0"]
    assert not (tmp_path / "drbd").exists()


def test_stop_of_nothing_is_done(world: World, script: InitScript):
    assert script.stop(NAMES) == 0
    assert world.said[0] == "drbd: nothing to do"


def test_stop_leaves_up_what_cannot_be_unmounted(world: World, script: InitScript):
    world.roles_now, world.mounted = Roles("Primary", "Secondary"), True
    world.codes = {"umount": [32, 32]}
    assert script.stop(NAMES) == 255
    assert "down drbd0" not in world.done


@pytest.mark.parametrize(
    ("roles", "link", "lines", "code"),
    [
        (Roles("Secondary", "Primary"), Link("Connected"), ["drbd0: running"], 0),
        (Roles("Secondary", "Unknown"), Link("Connecting"), ["drbd0: stopped"], 0),
        (Roles("Secondary", "Unknown"), Link("StandAlone"), ["drbd0: stopped"], 0),
        (Roles("Primary", "Primary"), Link("Connected"), ["drbd0: error"], 0),
        (Roles("Primary", "Secondary"), Link("Connected", "10%"), ["drbd0: running", "\t10%"], 0),
        (None, None, ["drbd0: stopped"], 255),
    ],
)
def test_status_is_the_connection(
    world: World, script: InitScript, roles: Roles | None, link: Link | None, lines: list[str], code: int
):
    world.roles_now, world.link_now = roles, link
    assert script.status(NAMES) == code
    assert world.said == lines


def test_reload_replaces_the_daemon(world: World, script: InitScript):
    connected(world)
    assert script.reload(NAMES) == 0
    assert world.done == ["replace drbd0"]


def test_checkconfig_says_who_has_which_device(world: World, script: InitScript):
    assert script.checkconfig(NAMES) == 0
    assert world.said == ["drbd0:on castor:device '/dev/nb0'", "drbd0:on pollux:device '/dev/nb0'"]
