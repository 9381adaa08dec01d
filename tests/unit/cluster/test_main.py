"""The commands' arguments, and the file of defaults."""

import os
import pty
from pathlib import Path

import pytest

from pydrbd.cluster.dialog import TerminalDialog
from pydrbd.cluster.main import datadisk, drbddisk, read_defaults, split

ACTIONS = ("start", "stop", "status")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["drbd0", "start"], ("drbd0", "start")),
        (["start", "drbd0"], ("drbd0", "start")),
        (["status"], ("all", "status")),
        (["start", "stop"], ("start", "stop")),
        (["drbd0"], None),
        ([], None),
        (["drbd0", "start", "now"], None),
    ],
)
def test_resource_and_action_in_either_order(arguments: list[str], meant: tuple[str, str] | None):
    assert split(arguments, ACTIONS) == meant


def test_wrong_usage_has_the_scripts_exit_code(capsys: pytest.CaptureFixture[str]):
    assert datadisk(["drbd0"]) == 255
    assert drbddisk(["drbd0"]) == 1
    assert "usage: drbddisk [RESOURCE] start|stop|status" in capsys.readouterr().err


def test_an_unknown_resource_prints_nothing_that_heartbeat_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PYDRBD_CONFIG", str(tmp_path / "none.conf"))
    assert datadisk(["drbd0", "status"]) == 255
    assert capsys.readouterr().out == ""


def test_defaults_add_what_is_not_set():
    environment = {"PYDRBD_NODE": "castor"}
    text = "# comment\nPYDRBD_NODE=pollux\nexport PYDRBD_CONFIG='/etc/my drbd.conf'\nDRBDADM=/sbin/drbdadm\n"
    read_defaults(text, environment)
    assert environment == {"PYDRBD_NODE": "castor", "PYDRBD_CONFIG": "/etc/my drbd.conf"}


def test_the_question_goes_to_the_first_terminal_and_the_answer_comes_from_it(tmp_path: Path):
    there, here = pty.openpty()
    reader, writer = os.pipe()  # a stdin that is no terminal
    dialog = TerminalDialog(reader, (tmp_path / "none", Path(os.ttyname(here))))
    try:
        dialog.ask("well? ")
        assert os.read(there, 100) == b"well? "
        assert dialog.answer() is None
        os.write(there, b"yes\n")
        assert dialog.answer() == "yes"
        os.write(there, b"\x04")  # Ctrl-D
        with pytest.raises(EOFError):
            dialog.answer()
    finally:
        dialog.close()
        for fd in (there, here, reader, writer):
            os.close(fd)
