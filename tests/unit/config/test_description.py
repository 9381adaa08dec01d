"""The resource as one of its nodes sees it."""

import dataclasses

import pytest

from helpers.configurations import R0, SEED
from pydrbd.config import ConfigError, Resource, parse


def r0(castor: str = "castor", pollux: str = "pollux") -> Resource:
    return parse(R0.replace("on castor", f"on {castor}").replace("on pollux", f"on {pollux}")).resource("r0")


@pytest.mark.parametrize(
    ("in_file", "node_name"),
    [
        ("castor", "castor"),
        ("castor", "castor.example.org"),
        ("castor.example.org", "castor"),
        ("castor.example.org", "castor.example.org"),
    ],
)
def test_a_node_finds_itself_by_its_full_or_its_short_name(in_file: str, node_name: str) -> None:
    view = r0(in_file).for_node(node_name)
    assert (view.local.name, view.peer.name) == (in_file, "pollux")


def test_the_peer_of_each_is_the_other() -> None:
    resource = r0()
    assert [resource.peer(name).name for name in ("castor", "pollux")] == ["pollux", "castor"]


def test_the_same_short_name_in_two_domains_is_two_hosts() -> None:
    resource = r0("node.east", "node.west")
    assert (resource.local("node.west").name, resource.peer("node.west").name) == ("node.west", "node.east")
    with pytest.raises(ConfigError) as caught:
        resource.local("node")
    assert str(caught.value) == (
        "drbd.conf:1: node name 'node' fits both hosts of resource r0: node.east and node.west; "
        "give the full name with --node"
    )


def test_a_full_name_does_not_match_another_domain() -> None:
    with pytest.raises(ConfigError):
        r0("castor.east").local("castor.west")


def test_an_unknown_node_is_told_the_hosts() -> None:
    with pytest.raises(ConfigError) as caught:
        r0().local("gemini")
    assert str(caught.value) == (
        "drbd.conf:1: this node, 'gemini', has no 'on' section in resource r0; its hosts are castor and pollux; "
        "name one of them with --node"
    )
    assert caught.value.exit_code == 10


def test_an_unknown_resource_is_told_the_names() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(SEED, "/etc/drbd.conf").resource("drbd1")
    assert str(caught.value) == (
        "/etc/drbd.conf: no resource 'drbd1' is configured; there is drbd0; did you mean 'drbd0'?"
    )


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        r0().name = "r1"  # type: ignore[misc]


def test_the_place_of_a_resource_is_not_part_of_what_it_is() -> None:
    assert parse("\n\n" + R0) == parse(R0)
    assert parse("\n\n" + R0).resource("r0").place.line == 3


def test_discard_node_is_local_on_the_node_that_loses_and_remote_on_the_other() -> None:
    text = R0.replace("{\n", "{\n net { after-sb-0pri discard-node-pollux; }\n", 1)
    resource = parse(text).resource("r0")
    assert [resource.for_node(name).after_sb_0pri for name in ("castor", "pollux")] == [
        "discard-remote",
        "discard-local",
    ]
    assert r0().for_node("castor").after_sb_0pri == "disconnect"
