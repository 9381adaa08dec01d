"""Handlers: their environment, exit code, output, deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.loop import run
from fakes.resource import view_of, write_configuration
from pydrbd.config.description import ResourceView
from pydrbd.node.handlers import Handlers


def view_with(directory: Path, **handlers: str) -> ResourceView:
    view = view_of(write_configuration(directory))
    resource = replace(view.resource, handlers=replace(view.resource.handlers, **handlers))
    return replace(view, resource=resource)


def run_handler(view: ResourceView, name: str, deadline_s: float = 10) -> tuple[str, int]:
    async def main() -> tuple[str, int]:
        ended: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        handlers = Handlers(view, Path("/etc/drbd.conf"), lambda *how: ended.set_result(how), deadline_s)
        handlers.start(name)
        return await asyncio.wait_for(ended, 10)

    return run(main())


def test_its_exit_code_is_told(tmp_path: Path):
    assert run_handler(view_with(tmp_path, fence_peer="exit 7"), "fence-peer") == ("fence-peer", 7)


def test_one_that_is_not_configured_ends_at_once(tmp_path: Path):
    assert run_handler(view_with(tmp_path), "fence-peer") == ("fence-peer", 0)


def test_it_finds_the_resource_and_the_peer_in_its_environment(tmp_path: Path):
    out = tmp_path / "environment"
    view = view_with(tmp_path, split_brain=f"env | grep ^DRBD_ | sort > {out}")
    run_handler(view, "split-brain")
    found = dict(line.split("=", 1) for line in out.read_text(encoding="utf-8").splitlines())
    assert found == {
        "DRBD_RESOURCE": "drbd0",
        "DRBD_VOLUME": "0",
        "DRBD_MINOR": "0",
        "DRBD_LL_DISK": str(tmp_path / "castor.disk"),
        "DRBD_CONF": "/etc/drbd.conf",
        "DRBD_PEER": "pollux",
        "DRBD_PEERS": "pollux",
        "DRBD_PEER_AF": "ipv4",
        "DRBD_PEER_ADDRESS": "127.0.0.2",
        "DRBD_MY_NODE_ID": "0",
        "DRBD_PEER_NODE_ID": "1",
        "DRBD_NODE_ID_0": "castor",
        "DRBD_NODE_ID_1": "pollux",
    }


def test_what_it_says_is_in_the_log_with_its_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    run_handler(view_with(tmp_path, pri_lost="echo one; echo two >&2"), "pri-lost")
    assert "handler pri-lost: one" in caplog.messages
    assert "handler pri-lost: two" in caplog.messages


def test_one_that_does_not_end_is_killed_with_its_children(tmp_path: Path):
    pid_file = tmp_path / "pid"
    view = view_with(tmp_path, fence_peer=f"sh -c 'echo $$ > {pid_file}; sleep 60' & wait")
    begun = time.monotonic()
    assert run_handler(view, "fence-peer", deadline_s=0.5) == ("fence-peer", -1)
    assert time.monotonic() - begun < 5
    child = Path("/proc") / pid_file.read_text(encoding="ascii").strip() / "stat"
    assert not child.exists() or ") Z " in child.read_text(encoding="utf-8")


def test_one_that_leaves_a_child_with_its_output_open_has_ended(tmp_path: Path):
    begun = time.monotonic()
    assert run_handler(view_with(tmp_path, disconnected="sleep 3 & exit 4"), "disconnected") == ("disconnected", 4)
    assert time.monotonic() - begun < 3
