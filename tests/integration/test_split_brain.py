"""Goal: every combination of the after-split-brain policies does on real daemons what the table says.

PASS: the loser named by `helpers.split_brain` has the winner's data; where nobody is named, nothing has been copied,
both nodes stand alone, and status and why say what to type. `make split-brain` runs every combination.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.nbd_client import NbdClient
from helpers.split_brain import NO_PRIMARY, ONE_PRIMARY, TWO_PRIMARIES, Story, loser
from pair import RESOURCE, CommandError, Node, Pair

BLOCK_BYTES = 4096
DISK_BYTES = 4 << 20
EXIT_IN_USE = 11
CONFIGURATION = """\
resource drbd0 {
  net { protocol C; ping-timeout 3; POLICIES }
  meta-disk internal;
  device /dev/nb0;
  on castor { disk DISK_OF_castor; address 127.0.0.1:PORT; }
  on pollux { disk DISK_OF_pollux; address 127.0.0.2:PORT; }
}
"""
BOTH = frozenset({"castor", "pollux"})


def combinations() -> list[Story]:
    """Every value of `after-sb-0pri`, with every value of the policy for one and for two Primaries."""
    found = []
    ways = itertools.cycle([((1, 3), "castor"), ((3, 1), "pollux"), ((2, 1), None)])
    for policy in NO_PRIMARY:
        wrote, first = ((0, 2), None) if policy == "discard-zero-changes" else next(ways)
        found.append(Story(policy, first=first, wrote=wrote))
        for one in ONE_PRIMARY:
            name = "pollux" if len(found) % 2 else "castor"
            found.append(Story(policy, one, first=first, wrote=wrote, primaries=frozenset({name})))
        found += [Story(policy, "disconnect", two, first, wrote, BOTH) for two in TWO_PRIMARIES]
    return found


def chosen() -> list[Story]:
    """All of them if asked for, else enough for every value of every policy to decide once."""
    if os.environ.get("PYDRBD_SPLIT_BRAIN") == "all":
        return combinations()
    zero, least, node = "discard-zero-changes", "discard-least-changes", "discard-node-castor"
    return [
        Story(wrote=(1, 2)),
        Story("discard-younger-primary", first="castor", wrote=(1, 3)),
        Story("discard-older-primary", first="castor", wrote=(3, 1)),
        Story(zero, wrote=(0, 2)),
        Story(node, "consensus", wrote=(3, 1), primaries=frozenset({"pollux"})),
        Story(least, "violently-as0p", wrote=(1, 3), primaries=frozenset({"castor"})),
        Story("disconnect", "discard-secondary", primaries=frozenset({"castor"})),
        Story(node, "call-pri-lost-after-sb", primaries=frozenset({"castor"})),
        Story(node, "disconnect", "call-pri-lost-after-sb", primaries=BOTH),
        Story(least, "disconnect", "violently-as0p", primaries=BOTH),
    ]


def tell(node: Node, verb: str, **arguments: object) -> dict[str, Any]:
    """Give a daemon an order over its admin socket, as the command does, but without the command's start."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(node.run_directory / RESOURCE / "control.sock"))
        sock.sendall(json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n")
        with sock.makefile() as lines:
            answer: dict[str, Any] = json.loads(lines.readline())
    return answer


def done(node: Node, verb: str, **arguments: object) -> dict[str, Any]:
    answer = tell(node, verb, **arguments)
    assert answer["exit"] == 0, (node.name, verb, answer)
    return answer


class Twins:
    """A pair in sync whose disks are put back to that state before every story."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.template = pair.castor.configuration.read_text()

    def prepare(self) -> None:
        """Sync the disks and keep copies of them."""
        self.configure(Story())
        self.pair.create_metadata()
        self.pair.up()
        done(self.pair.castor, "new-current-uuid", clear_bitmap=True)
        self.pair.wait_in_sync()
        for node in self.pair.nodes:
            node.run("down", RESOURCE)
            shutil.copy(node.disk, self.kept(node))

    @staticmethod
    def kept(node: Node) -> Path:
        return node.directory / "disk.kept"

    def configure(self, story: Story) -> None:
        policies = (
            f"after-sb-0pri {story.after_sb_0pri}; after-sb-1pri {story.after_sb_1pri};"
            f" after-sb-2pri {story.after_sb_2pri};"
        )
        self.pair.castor.configuration.write_text(self.template.replace("POLICIES", policies))

    def begin(self, story: Story) -> None:
        """Let both have the same data and be connected, with this story's configuration."""
        for node in self.pair.nodes:
            node.kill()
            shutil.copy(self.kept(node), node.disk)
        self.configure(story)
        self.pair.up()

    def diverge(self, story: Story) -> None:
        for node in self.pair.nodes:
            if node.name == story.first:
                done(node, "primary")
        for node in self.pair.nodes:
            tell(node, "disconnect", force=True)
        for node, blocks in zip(self.pair.nodes, story.wrote, strict=True):
            done(node, "primary")
            self.write(node, blocks)
            if not blocks:
                done(node, "new-current-uuid")
            if node.name not in story.primaries:
                self.pair.wait_for(lambda node=node: tell(node, "secondary")["exit"] == 0, "the client to be gone")  # type: ignore[misc]

    def write(self, node: Node, blocks: int) -> None:
        with NbdClient.connect(node.nbd_socket) as client:
            for block in range(blocks):
                client.write(block * BLOCK_BYTES, node.name[:1].encode() * BLOCK_BYTES)
            client.flush()
        self.pair.wait_for(lambda: not status(node)["devices"][0]["open"], "the client to be gone")

    def meet(self) -> None:
        for node in self.pair.nodes:
            done(node, "connect")


def status(node: Node) -> dict[str, Any]:
    data: dict[str, Any] = done(node, "status")["data"]
    return data


def connection(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = status(node)["connections"][0]
    return found


def stands_alone(node: Node) -> bool:
    return connection(node)["connection-state"] == "StandAlone" and connection(node)["given-up"] is not None


def in_sync(node: Node) -> bool:
    data = status(node)
    peer = data["connections"][0]["peer_devices"][0]
    return (data["devices"][0]["disk-state"], peer["peer-disk-state"], peer["replication-state"]) == (
        "UpToDate",
        "UpToDate",
        "Established",
    )


def data_of(node: Node) -> bytes:
    return node.disk.read_bytes()[: 8 * BLOCK_BYTES]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with Pair.create(tmp_path_factory.mktemp("split"), DISK_BYTES, configuration=CONFIGURATION) as pair:
        both = Twins(pair)
        both.prepare()
        yield both


@pytest.mark.parametrize("story", chosen(), ids=str)
def test_the_policies_decide_on_real_daemons_as_the_table_says(twins: Twins, story: Story) -> None:
    pair = twins.pair
    twins.begin(story)
    twins.diverge(story)
    before = {node.name: data_of(node) for node in pair.nodes}
    twins.meet()
    loses = loser(story)
    if loses is None:
        pair.wait_for(lambda: any(connection(node)["given-up"] for node in pair.nodes), f"a refusal: {story}")
        assert not any(in_sync(node) for node in pair.nodes)
        assert {node.name: data_of(node) for node in pair.nodes} == before, story
        return
    pair.wait_for(lambda: all(in_sync(node) for node in pair.nodes), f"both UpToDate: {story}")
    wins = "castor" if loses == "pollux" else "pollux"
    assert [data_of(node) for node in pair.nodes] == [before[wins]] * 2, story
    roles = {node.name: status(node)["role"] for node in pair.nodes}
    assert roles == {
        wins: "Primary" if wins in story.primaries else "Secondary",
        loses: "Secondary",
    }, story


@pytest.mark.parametrize("primaries", [frozenset(), frozenset({"castor"}), BOTH], ids=len)
def test_where_nothing_decides_both_stand_alone_and_say_what_to_type(twins: Twins, primaries: frozenset[str]) -> None:
    """What status prints is typed, word for word, and heals the pair."""
    pair, story = twins.pair, Story(wrote=(1, 3), primaries=primaries)
    twins.begin(story)
    twins.diverge(story)
    kept = data_of(pair.castor)
    twins.meet()
    pair.wait_for(lambda: all(stands_alone(node) for node in pair.nodes), "both StandAlone")
    for node, own, peers in ((pair.castor, 1, 3), (pair.pollux, 3, 1)):
        split = connection(node)["split-brain"]
        assert (split["own-blocks"], split["peer-blocks"]) == (own, peers)
        assert f"split brain since {split['since']}: this node wrote {own} block" in node.run("status", RESOURCE)
        said = node.run("why", RESOURCE)
        assert "Split brain" in said
        assert "To keep castor's data: on pollux" in said
    cure = next(each for each in connection(pair.pollux)["split-brain"]["cures"] if each["keeps"] == "castor")
    for each in cure["commands"]:
        node = pair.castor if each["node"] == "castor" else pair.pollux
        for command in each["command"].split(" && "):
            assert command.startswith("pydrbd ")
            node.run(*command.split()[1:])
    pair.wait_in_sync()
    assert data_of(pair.castor) == data_of(pair.pollux) == kept
    assert connection(pair.castor)["split-brain"] is None


def test_nobody_is_let_in_whose_policies_differ(twins: Twins) -> None:
    pair = twins.pair
    twins.begin(Story())
    pair.pollux.run("down", RESOURCE)
    twins.configure(Story("discard-least-changes"))
    pair.pollux.run("up", RESOURCE)
    pair.wait_for(lambda: all(stands_alone(node) for node in pair.nodes), "both StandAlone")
    for node in pair.nodes:
        assert "after-sb-0pri" in connection(node)["given-up"]["sentence"]
        assert "after-sb-0pri" in node.run("why", RESOURCE)


def test_a_wrong_secret_ends_in_standalone_with_its_sentence(twins: Twins) -> None:
    pair = twins.pair
    twins.begin(Story())
    for node in pair.nodes:
        node.run("down", RESOURCE)
    text = pair.castor.configuration.read_text()
    for node, secret in ((pair.castor, "castor and pollux"), (pair.pollux, "wrong")):
        pair.castor.configuration.write_text(
            text.replace("protocol C;", f'protocol C; cram-hmac-alg sha256; shared-secret "{secret}";')
        )
        node.run("up", RESOURCE)
    pair.wait_for(lambda: all(stands_alone(node) for node in pair.nodes), "both StandAlone")
    for node in pair.nodes:
        assert "does not know the shared secret" in node.run("why", RESOURCE)
        assert "shared secret" in node.run("status", RESOURCE)


def test_a_primary_in_use_that_loses_keeps_its_data_and_says_so(twins: Twins) -> None:
    story = Story("discard-node-castor", "call-pri-lost-after-sb", primaries=frozenset({"castor"}))
    twins.begin(story)
    twins.diverge(story)
    castor = twins.pair.castor
    before = data_of(castor)
    with NbdClient.connect(castor.nbd_socket) as client:
        twins.meet()
        twins.pair.wait_for(lambda: bool(connection(castor)["given-up"]), "castor to refuse")
        assert client.read(0, BLOCK_BYTES) == before[:BLOCK_BYTES]
    assert "held open" in castor.run("why", RESOURCE)
    assert status(castor)["role"] == "Primary"
    assert data_of(castor) == before


def test_discarding_as_primary_is_refused(twins: Twins) -> None:
    story = replace(Story(), primaries=frozenset({"castor"}))
    twins.begin(story)
    twins.diverge(story)
    with pytest.raises(CommandError, match="not allowed when primary"):
        twins.pair.castor.run("connect", "--discard-my-data", RESOURCE)
