"""The OCF agent, action by action, as Pacemaker calls it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from fakes.cluster import REFUSED, World
from pydrbd.cluster.control import ControlError, Disks, Link, Roles
from pydrbd.cluster.ocf import DEFAULT_SCORES, Ocf, OcfAgent, score_of, scores_of
from pydrbd.cluster.ocf_main import ocf
from pydrbd.cluster.ocf_metadata import METADATA

UPDATE = "crm_attribute --promotion --lifetime reboot --update"
DELETE = "crm_attribute --promotion --lifetime reboot --delete"


@pytest.fixture
def world() -> World:
    return World()


def agent(world: World, **environment: str) -> OcfAgent:
    return OcfAgent(world, world, "drbd0", environment)


def test_start_brings_it_up_and_gives_a_score(world: World):
    world.roles_now = None
    assert agent(world).start() == Ocf.SUCCESS
    assert world.done == ["up drbd0", f"{UPDATE} 1000"]


def test_start_without_the_disk_is_a_start(world: World):
    world.roles_now = None
    world.refusals = [ControlError("drbd0: up without its disk: /dev/md3 is not there", 16)]
    assert agent(world).start() == Ocf.SUCCESS
    assert world.warned == ["drbd0: up without its disk: /dev/md3 is not there"]


def test_start_of_what_runs_is_fine(world: World):
    assert agent(world).start() == Ocf.SUCCESS
    assert world.done == [f"{UPDATE} 10000"]


def test_stop_takes_the_score_away_first(world: World):
    assert agent(world).stop() == Ocf.SUCCESS
    assert world.done == ["crm_attribute --promotion --delete", "down drbd0"]


def test_a_refused_stop_is_an_error(world: World):
    world.codes = {}
    world.refusals = [REFUSED]
    assert agent(world).stop() == Ocf.ERR_GENERIC
    assert world.warned == [str(REFUSED)]


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        (None, Ocf.NOT_RUNNING),
        (Roles("Secondary", "Primary"), Ocf.SUCCESS),
        (Roles("Primary", "Secondary"), Ocf.RUNNING_PROMOTED),
    ],
)
def test_monitor_names_the_role(world: World, roles: Roles | None, code: Ocf):
    world.roles_now = roles
    assert agent(world).monitor() == code


def test_a_daemon_that_does_not_answer_is_neither_running_nor_stopped(world: World):
    world.silent = REFUSED
    assert agent(world).monitor() == Ocf.ERR_GENERIC


def test_promote_waits_for_the_peer_to_give_up(world: World):
    world.refusals = [REFUSED, REFUSED]
    assert agent(world).promote() == Ocf.SUCCESS
    assert world.done == ["primary drbd0"] * 3 + [f"{UPDATE} 10000"]
    assert world.clock == 2.0


def test_promote_says_why_before_pacemaker_loses_its_patience(world: World):
    world.refusals = [REFUSED] * 100
    assert agent(world, OCF_RESKEY_CRM_meta_timeout="20000").promote() == Ocf.ERR_GENERIC
    assert 13 <= world.clock < 20
    assert world.warned[-1] == str(REFUSED)


def test_promote_of_what_is_not_up_is_not_running(world: World):
    world.roles_now = None
    assert agent(world).promote() == Ocf.NOT_RUNNING


def test_demote_twice_is_fine(world: World):
    world.roles_now = Roles("Primary", "Secondary")
    assert [agent(world).demote(), agent(world).demote()] == [Ocf.SUCCESS, Ocf.SUCCESS]
    assert world.done.count("secondary drbd0") == 1


def test_notify_never_fails(world: World):
    world.silent = REFUSED
    assert agent(world).notify() == Ocf.SUCCESS


@pytest.mark.parametrize(
    ("role", "connection", "local", "peer", "score"),
    [
        ("Secondary", "Connected", "UpToDate", "UpToDate", 10000),
        ("Primary", "Connecting", "UpToDate", "DUnknown", 10000),
        ("Secondary", "Connecting", "UpToDate", "DUnknown", 1000),
        ("Secondary", "Connected", "Diskless", "UpToDate", 10),
        ("Secondary", "Connected", "Inconsistent", "UpToDate", 10),
        ("Secondary", "Connecting", "Consistent", "DUnknown", 5),
        ("Secondary", "Connecting", "Outdated", "DUnknown", 0),
        ("Secondary", "Connecting", "Inconsistent", "DUnknown", 0),
    ],
)
def test_the_score_is_high_only_where_the_data_are_known_to_be_good(
    role: str, connection: str, local: str, peer: str, score: int
):
    assert score_of(Roles(role, "Secondary"), connection, Disks(local, peer), scores_of(DEFAULT_SCORES)) == score


def test_a_node_with_old_data_has_no_score(world: World):
    world.link_now, world.disks_now = Link("Connecting"), Disks("Outdated", "DUnknown")
    assert agent(world).monitor() == Ocf.SUCCESS
    assert world.done == [DELETE]


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 x", "1 2 3 4 5"])
def test_scores_that_are_none_are_refused(text: str):
    with pytest.raises(ValueError, match="promotion_scores: four numbers"):
        scores_of(text)


def test_the_metadata_are_well_formed_and_name_every_action(capsys: pytest.CaptureFixture[str]):
    assert ocf(["meta-data"]) == Ocf.SUCCESS
    assert capsys.readouterr().out == METADATA
    names = {action.get("name") for action in ET.fromstring(METADATA).iter("action")}
    assert names == {"start", "stop", "promote", "demote", "notify", "monitor", "meta-data", "validate-all"}


def test_wrong_use_has_the_standard_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OCF_RESKEY_config", str(tmp_path / "drbd.conf"))
    monkeypatch.setenv("PYDRBD_RUN_DIR", str(tmp_path))
    assert ocf(["migrate_to"]) == Ocf.ERR_UNIMPLEMENTED
    assert ocf(["start"]) == Ocf.ERR_CONFIGURED  # no resource
    monkeypatch.setenv("OCF_RESKEY_resource", "drbd0")
    codes = {action: ocf([action]) for action in ("start", "monitor", "stop", "validate-all")}
    assert codes == {
        "start": Ocf.ERR_INSTALLED,
        "monitor": Ocf.NOT_RUNNING,
        "stop": Ocf.SUCCESS,
        "validate-all": Ocf.ERR_INSTALLED,
    }
