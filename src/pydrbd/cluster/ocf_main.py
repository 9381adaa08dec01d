"""The command `pydrbd-ocf ACTION`, which Pacemaker calls; everything but the action is in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydrbd.cluster.control import LiveControl
from pydrbd.cluster.host import LiveHost
from pydrbd.cluster.main import DEFAULTS, context, read_defaults
from pydrbd.cluster.ocf import Ocf, OcfAgent
from pydrbd.cluster.ocf_metadata import METADATA
from pydrbd.config.errors import ConfigError

_ACTIONS = ("start", "stop", "monitor", "status", "promote", "demote", "notify")
USAGE = f"usage: pydrbd-ocf {'|'.join(_ACTIONS)}|meta-data|validate-all\n"


def ocf(arguments: list[str] | None = None) -> int:
    """Run one action; return the standard's exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    match words:
        case ["meta-data"]:
            sys.stdout.write(METADATA)
            return Ocf.SUCCESS
        case ["usage" | "help" | "--help"]:
            sys.stdout.write(USAGE)
            return Ocf.SUCCESS
        case [action] if action in (*_ACTIONS, "validate-all"):
            return _run(action)
        case _:
            sys.stderr.write(USAGE)
            return Ocf.ERR_UNIMPLEMENTED


def parameter(name: str) -> str:
    """Return one of the resource's parameters, whose names are lower case by the standard; empty if it is not given."""
    return os.environ.get(f"OCF_RESKEY_{name}", "")


def _run(action: str) -> int:
    if DEFAULTS.is_file():
        read_defaults(DEFAULTS.read_text(encoding="utf-8"), os.environ)
    name = parameter("resource")
    if not name:
        sys.stderr.write("pydrbd-ocf: the parameter `resource` is missing\n")
        return Ocf.ERR_CONFIGURED
    place = context()
    if path := parameter("config"):
        place = replace(place, config_path=Path(path))
    try:
        agent = OcfAgent(LiveControl(place), LiveHost(), name, os.environ)
        place.names(name)
    except ConfigError as error:
        sys.stderr.write(f"pydrbd-ocf: {error}\n")
        # No daemon runs either, or the name would have been right: a stop must not fail, or the node is fenced.
        return Ocf.NOT_RUNNING if action in {"monitor", "status"} else _code_without_configuration(action)
    except ValueError as error:
        sys.stderr.write(f"pydrbd-ocf: {error}\n")
        return Ocf.ERR_CONFIGURED
    if action == "validate-all":
        return Ocf.SUCCESS
    if os.geteuid() != 0:
        sys.stderr.write("pydrbd-ocf: only root can do that\n")
        return Ocf.ERR_PERM
    todo: Callable[[], Ocf] = getattr(agent, "monitor" if action == "status" else action)
    return todo()


def _code_without_configuration(action: str) -> int:
    return Ocf.SUCCESS if action in {"stop", "notify"} else Ocf.ERR_INSTALLED
