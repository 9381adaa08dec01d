"""`pydrbd restart`: which way the daemon is replaced. `pydrbd down`: what a killed daemon left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pydrbd.cli import daemon_verbs
from pydrbd.cli.admin_client import Answer, NotUpError, VerbError
from pydrbd.cli.context import Context
from pydrbd.config.errors import ConfigError


class Daemon:
    """What is answered to `restart`, and what the command did."""

    def __init__(self, reply: Exception | dict[str, Any] | None, absent: int = 0) -> None:
        self.reply = reply
        self.absent = absent
        self.done: list[str] = []

    def ask(self, _context: Context, resource: str, verb: str, **_: object) -> Answer:
        self.done.append(verb)
        if verb == "restart" and isinstance(self.reply, Exception):
            raise self.reply
        if verb == "role" and self.absent:
            self.absent -= 1
            raise NotUpError(resource)
        return Answer("", self.reply)


def replaced(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    context = Context(Path("/etc/drbd.conf"), "castor", Path("/run"), Path("/var"))
    monkeypatch.setattr(daemon_verbs, "ask", daemon.ask)
    monkeypatch.setattr(daemon_verbs, "wait_for_end", lambda *_: daemon.done.append("end"))
    monkeypatch.setattr(daemon_verbs, "start", lambda *_: daemon.done.append("start"))
    monkeypatch.setattr(Context, "resource", lambda *_: None)
    daemon_verbs.replace(context, "drbd0")
    return daemon.done


def test_the_next_program_answers_and_nothing_is_left_to_do(monkeypatch: pytest.MonkeyPatch):
    assert replaced(Daemon(None), monkeypatch) == ["restart"]


def test_where_nothing_comes_to_rest_the_daemon_leaves_and_another_is_started(monkeypatch: pytest.MonkeyPatch):
    assert replaced(Daemon({"left": True, "supervised": False}), monkeypatch) == ["restart", "end", "start"]


def test_under_systemd_its_next_daemon_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daemon_verbs, "POLL_S", 0.001)
    done = replaced(Daemon({"left": True, "supervised": True}, absent=2), monkeypatch)
    assert done == ["restart", "end", "role", "role", "role"]


def test_systemd_that_starts_none_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(daemon_verbs, "SUCCESSOR_S", 0.0)
    with pytest.raises(VerbError, match="systemd has not started it again within 0 s"):
        replaced(Daemon({"left": True, "supervised": True}, absent=1 << 30), monkeypatch)


def test_a_refusal_leaves_the_daemon_alone(monkeypatch: pytest.MonkeyPatch):
    daemon = Daemon(VerbError("drbd0: Primary without a disk is not restarted: attach one first", 10))
    with pytest.raises(VerbError, match="without a disk"):
        replaced(daemon, monkeypatch)
    assert daemon.done == ["restart"]


def test_what_is_not_up_is_started(monkeypatch: pytest.MonkeyPatch):
    assert replaced(Daemon(NotUpError("drbd0")), monkeypatch) == ["restart", "start"]


def test_a_configuration_that_cannot_be_read_is_heard_of_before_the_daemon_is(tmp_path: Path):
    (tmp_path / "drbd.conf").write_text("resource drbd0 {")
    context = Context(tmp_path / "drbd.conf", "castor", tmp_path, tmp_path)
    with pytest.raises(ConfigError):
        daemon_verbs.replace(context, "drbd0")


@pytest.mark.parametrize(("left", "done"), [(True, ["down", "start", "down"]), (False, ["down"])])
def test_down_takes_away_what_a_killed_daemon_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool, done: list[str]
):
    context = Context(Path("/etc/drbd.conf"), "castor", tmp_path, Path("/var"))
    (tmp_path / "drbd0").mkdir()
    if left:
        (tmp_path / "drbd0/device.json").touch()
    daemon = Daemon({})
    is_up = False

    def ask(_context: Context, resource: str, verb: str, *_: object, **__: object) -> Answer:
        daemon.done.append(verb)
        if not is_up:
            raise NotUpError(resource)
        return Answer("", None)

    def start(*_: object) -> None:
        nonlocal is_up
        is_up = True
        daemon.done.append("start")

    monkeypatch.setattr(daemon_verbs, "ask", ask)
    monkeypatch.setattr(daemon_verbs, "start", start)
    monkeypatch.setattr(Context, "resource", lambda *_: None)
    daemon_verbs.stop(context, "drbd0")
    assert daemon.done == done
