"""The commands `pydrbd-datadisk`, `pydrbd-drbddisk` and `pydrbd-init`. Arguments in either order, as ever.

The environment variables of `pydrbd` hold here too, and may stand in /etc/default/drbd, which a cluster manager that
cleans its environment does not take away. `PYDRBD_FSTAB` is another /etc/fstab.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path

from pydrbd.cli.context import Context
from pydrbd.cluster.control import LiveControl
from pydrbd.cluster.datadisk import EXIT_FAILED, Datadisk
from pydrbd.cluster.dialog import TerminalDialog
from pydrbd.cluster.drbddisk import ALL, Drbddisk
from pydrbd.cluster.host import LiveHost
from pydrbd.cluster.init_script import InitScript
from pydrbd.config.errors import ConfigError

DEFAULTS = Path("/etc/default/drbd")
EXIT_USAGE = 1
_ASSIGNMENT = re.compile(r"""\s*(?:export\s+)?(PYDRBD_[A-Z_]+)=(["']?)(.*?)\2\s*""")


def read_defaults(text: str, environment: MutableMapping[str, str]) -> None:
    """Add the variables of /etc/default/drbd to the environment; what is set already stays."""
    for line in text.splitlines():
        found = _ASSIGNMENT.fullmatch(line)
        if found:
            environment.setdefault(found[1], found[3])


def split(arguments: Sequence[str], actions: Sequence[str]) -> tuple[str, str] | None:
    """Return (resource or ``all``, action) of ``[RESOURCE] ACTION`` or ``ACTION [RESOURCE]``; None: wrong usage."""
    words = list(arguments)
    if not 1 <= len(words) <= 2:
        return None
    for action in (words[-1], words[0]):
        if action in actions:
            words.remove(action)
            return (words[0] if words else ALL), action
    return None


def datadisk(arguments: list[str] | None = None) -> int:
    """Run `datadisk`."""
    actions = ("start", "stop", "status", "restart")

    def body(control: LiveControl, host: LiveHost, name: str, action: str) -> int:
        script = Datadisk(control, host)
        todo: Callable[[str], int] = getattr(script, action)
        codes = [todo(each) for each in _names(control, name)]
        return max(codes, default=0)

    return _run("datadisk", arguments, actions, body, EXIT_FAILED)


def drbddisk(arguments: list[str] | None = None) -> int:
    """Run `drbddisk`."""

    def body(control: LiveControl, host: LiveHost, name: str, action: str) -> int:
        script = Drbddisk(control, host)
        if action == "status":
            return script.status(name)
        todo: Callable[[str], int] = getattr(script, action)
        return max((todo(each) for each in _names(control, name)), default=0)

    return _run("drbddisk", arguments, ("start", "stop", "status"), body, EXIT_USAGE)


def init(arguments: list[str] | None = None) -> int:
    """Run `pydrbd-init`, which /etc/init.d/drbd calls."""
    actions = ("start", "stop", "status", "reload", "force-reload", "restart", "reconnect", "checkconfig")

    def body(control: LiveControl, host: LiveHost, name: str, action: str) -> int:
        script = InitScript(control, host, TerminalDialog)
        todo: Callable[[list[str]], int] = getattr(script, "reload" if action == "force-reload" else action)
        os.environ.setdefault("PYDRBD_DISK_WAIT_S", "60")  # for the daemons that we start
        return todo(_names(control, name))

    return _run("drbd", arguments, actions, body, EXIT_FAILED)


def _names(control: LiveControl, name: str) -> list[str]:
    if name == ALL:
        return control.names()
    control.resource(name)
    return [name]


def _run(
    program: str,
    arguments: list[str] | None,
    actions: tuple[str, ...],
    body: Callable[[LiveControl, LiveHost, str, str], int],
    exit_usage: int,
) -> int:
    asked = split(sys.argv[1:] if arguments is None else arguments, actions)
    if asked is None:
        sys.stderr.write(f"usage: {program} [RESOURCE] {'|'.join(actions)}\n")
        return exit_usage
    if os.geteuid() != 0:
        sys.stderr.write(f"{program}: only root can do that\n")
        return exit_usage
    try:
        if DEFAULTS.is_file():
            read_defaults(DEFAULTS.read_text(encoding="utf-8"), os.environ)
        fstab = os.environ.get("PYDRBD_FSTAB")
        return body(LiveControl(context()), LiveHost(Path(fstab) if fstab else None), *asked)
    except ConfigError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return exit_usage


def context() -> Context:
    """Return what the environment says of configuration, node and directories."""
    get = os.environ.get
    return Context(
        Path(get("PYDRBD_CONFIG", "/etc/drbd.conf")),
        get("PYDRBD_NODE") or platform.node(),
        Path(get("PYDRBD_RUN_DIR", "/run/pydrbd")),
        Path(get("PYDRBD_STATE_DIR", "/var/lib/pydrbd")),
    )
