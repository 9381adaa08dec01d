"""The command against a daemon that is played: exit codes, sentences, and what is asked of it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes.resource import write_configuration
from pydrbd.cli.main import main


@dataclass
class PlayedDaemon:
    """Answers every request with `reply`, and remembers it."""

    run_dir: Path
    reply: dict[str, Any] = field(default_factory=lambda: {"exit": 0, "sentence": "", "text": "", "data": None})
    asked: list[dict[str, Any]] = field(default_factory=list)
    ends_after_answer: bool = False

    def __post_init__(self) -> None:
        folder = self.run_dir / "drbd0"
        folder.mkdir(parents=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "control.sock"))
        self.listener.listen()
        self.pid_file = folder / "pid"
        self.pid_file.write_text("1\n")
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            sock, _ = self.listener.accept()
            with sock, sock.makefile("rwb") as stream:
                line = stream.readline()
                if not line:
                    return
                self.asked.append(json.loads(line))
                if self.reply:
                    stream.write(json.dumps(self.reply).encode() + b"\n")
                    stream.flush()
                if self.ends_after_answer:
                    self.pid_file.unlink()

    def end(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.listener.getsockname())
        self.thread.join()
        self.listener.close()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYDRBD_CONFIG", str(write_configuration(tmp_path)))
    monkeypatch.setenv("PYDRBD_NODE", "castor")
    monkeypatch.setenv("PYDRBD_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYDRBD_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def daemon(place: Path) -> Iterator[PlayedDaemon]:
    played = PlayedDaemon(place / "run")
    yield played
    played.end()


@pytest.mark.parametrize(
    ("words", "verb", "arguments"),
    [
        ("primary drbd0", "primary", {"force": False, "human": False, "timeout_expired": False}),
        ("primary --force all", "primary", {"force": True, "human": False, "timeout_expired": False}),
        ("primary --human drbd0", "primary", {"force": False, "human": True, "timeout_expired": False}),
        ("new-current-uuid --clear-bitmap drbd0", "new-current-uuid", {"clear_bitmap": True}),
        ("why drbd0", "why", {}),
        ("secondary drbd0", "secondary", {"force": False}),
        ("connect --discard-my-data drbd0", "connect", {"discard_my_data": True, "tentative": False}),
        ("disconnect --force drbd0", "disconnect", {"force": True}),
        ("invalidate drbd0", "invalidate", {}),
        ("invalidate-remote drbd0", "invalidate-remote", {}),
        ("outdate drbd0", "outdate", {}),
        ("pause-sync drbd0", "pause-sync", {}),
        ("resume-sync drbd0", "resume-sync", {}),
        ("wait-connect -t 3 drbd0", "wait-connect", {"timeout_s": 3.0}),
        ("wait-sync --wfc-timeout 3 drbd0", "wait-sync", {"timeout_s": 3.0}),
        ("adjust --dry-run drbd0", "adjust", {"dry_run": True}),
        ("disk-options drbd0", "disk-options", {"options": {}}),
        (
            "disk-options --c-max-rate=100M --resync-after -1 drbd0",
            "disk-options",
            {"options": {"c-max-rate": "100M", "resync-after": "-1"}},
        ),
        ("role drbd0", "role", {}),
        ("cstate drbd0", "cstate", {}),
        ("dstate drbd0", "dstate", {}),
        ("status drbd0", "status", {"verbose": False, "statistics": False}),
        ("status -v -s", "status", {"verbose": True, "statistics": True}),
    ],
)
def test_a_verb_asks_the_daemon(daemon: PlayedDaemon, words: str, verb: str, arguments: dict[str, Any]):
    assert main(words.split()) == 0
    assert daemon.asked == [{"verb": verb, "arguments": arguments}]


def test_every_verb_is_one_that_the_daemon_knows():
    from pydrbd.node.admin.verbs import COMMANDS

    plain = "primary secondary connect disconnect invalidate invalidate-remote outdate down verify resize"
    more = "new-current-uuid pause-sync resume-sync suspend-io resume-io detach"
    assert set(f"{plain} {more}".split()) == set(COMMANDS)


def test_a_refusal_is_passed_on(daemon: PlayedDaemon, capsys: pytest.CaptureFixture[str]):
    sentence = "drbd0: State change failed: Need access to UpToDate data"
    daemon.reply |= {"exit": 17, "sentence": sentence}
    assert main(["primary", "drbd0"]) == 17
    assert capsys.readouterr() == ("", f"{sentence}\n")


def test_status_as_json_is_a_list_of_resources(daemon: PlayedDaemon, capsys: pytest.CaptureFixture[str]):
    daemon.reply |= {"data": {"name": "drbd0"}}
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "drbd0"}]


def test_status_text_is_printed_as_it_is(daemon: PlayedDaemon, capsys: pytest.CaptureFixture[str]):
    daemon.reply |= {"text": "drbd0 role:Primary\n  disk:UpToDate\n"}
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "drbd0 role:Primary\n  disk:UpToDate\n"


def test_down_returns_when_the_daemon_has_gone(daemon: PlayedDaemon):
    daemon.ends_after_answer = True
    assert main(["down", "drbd0"]) == 0
    assert daemon.asked == [{"verb": "down", "arguments": {"force": False}}]
    assert not daemon.pid_file.exists()


def test_a_daemon_that_dies_before_its_answer_is_said(daemon: PlayedDaemon, capsys: pytest.CaptureFixture[str]):
    daemon.reply = {}
    assert main(["primary", "drbd0"]) == 20
    assert "ended before it answered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        ("primary drbd0", 10, "", "drbd0: not up on this node; `pydrbd up drbd0` starts it\n"),
        ("role drbd0", 10, "Unconfigured\n", "drbd0: not up on this node; `pydrbd up drbd0` starts it\n"),
        ("status drbd0", 10, "", "drbd0: No such resource; it is not up on this node\n"),
        ("status", 0, "# No currently configured DRBD found.\n", ""),
        ("status --json", 0, "[]\n", ""),
        ("down drbd0", 0, "", ""),
        ("adjust --dry-run drbd0", 0, "drbd0: needs `pydrbd up drbd0`\n", ""),
    ],
)
def test_a_resource_that_is_not_up(words: str, code: int, out: str, err: str, capsys: pytest.CaptureFixture[str]):
    assert main(words.split()) == code
    assert capsys.readouterr() == (out, err)


def test_the_socket_of_a_killed_daemon_counts_as_not_up(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "run" / "drbd0").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place / "run" / "drbd0" / "control.sock"))
    assert main(["secondary", "drbd0"]) == 10
    assert "not up on this node" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("frobnicate drbd0", 1, "No such command"),
        ("primary", 1, "Missing argument"),
        ("primary --foce drbd0", 1, "No such option"),
        ("wait-connect -t soon drbd0", 1, "is not a valid float"),
        ("up drbd1", 10, "no resource 'drbd1' is configured"),
        ("--config /nowhere/drbd.conf up drbd0", 10, "cannot read the configuration"),
        ("--node tauri up drbd0", 10, "has no 'on' section"),
        ("nbd-file image", 1, "give either --socket PATH or a socket by socket activation"),
    ],
)
def test_a_users_error_is_one_sentence(words: str, code: int, sentence: str, capsys: pytest.CaptureFixture[str]):
    assert main(words.split()) == code
    assert sentence in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read_as_one_is_a_syntax_error(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "drbd.conf").write_text("resource drbd0 {\n")
    assert main(["up", "drbd0"]) == 2
    assert f"{place}/drbd.conf:" in capsys.readouterr().err


def test_up_without_metadata_passes_the_daemons_sentence_on(capfd: pytest.CaptureFixture[str]):
    assert main(["up", "drbd0"]) == 10
    assert "create-md" in capfd.readouterr().err


def test_socket_activation_is_for_us_only_with_our_pid(monkeypatch: pytest.MonkeyPatch):
    from pydrbd.cli.nbd_file_verb import passed_socket

    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert passed_socket() is None
