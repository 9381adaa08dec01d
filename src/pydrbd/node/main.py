"""`pydrbd-node RESOURCE`: reads the configuration, goes to the background, takes the resource's lock, serves.

`pydrbd up` starts it and passes on what it says and how it exits: 0 once the resource is up.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import sys
from pathlib import Path

import uvloop

from pydrbd import config
from pydrbd.config.description import ResourceView
from pydrbd.config.errors import ConfigError
from pydrbd.core.ublk import ublk_command
from pydrbd.device.choice import choose, kinds
from pydrbd.device.kind import DeviceError
from pydrbd.node import logging_setup
from pydrbd.node.daemon import Daemon, Places
from pydrbd.node.kernel import memory
from pydrbd.node.process import (
    EXIT_INVALID,
    EXIT_LEFT,
    EXIT_OTHER,
    PidFile,
    Readiness,
    StartError,
    go_to_background,
    is_supervised,
)

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "/etc/drbd.conf"
DEFAULT_RUN_DIR = "/run/pydrbd"
DEFAULT_STATE_DIR = "/var/lib/pydrbd"


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        view = _view(options.config, options.node, options.resource)
        places = _places(options)
    except StartError as error:
        sys.stderr.write(f"{error.sentence}\n")
        return error.exit_code
    readiness = Readiness(None) if options.foreground else go_to_background()
    try:
        left = _serve(view, places, readiness, in_foreground=options.foreground)
    except StartError as error:
        log.error("not started: %s", error.sentence)
        readiness.failed(error)
        return error.exit_code
    except Exception as error:
        # Whatever it is, the one who waits for our start must hear it; the log has the rest.
        log.exception("the daemon ends by a fault of its own")
        readiness.failed(StartError(f"{view.resource.name}: the daemon failed: {error}"))
        return EXIT_OTHER
    return EXIT_LEFT if left and is_supervised() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pydrbd-node", description="The daemon of one resource.")
    parser.add_argument("resource")
    environment = os.environ.get
    parser.add_argument("--config", type=Path, default=environment("PYDRBD_CONFIG", DEFAULT_CONFIG))
    parser.add_argument("--node", default=environment("PYDRBD_NODE") or platform.node())
    parser.add_argument("--run-dir", type=Path, default=environment("PYDRBD_RUN_DIR", DEFAULT_RUN_DIR))
    parser.add_argument("--state-dir", type=Path, default=environment("PYDRBD_STATE_DIR", DEFAULT_STATE_DIR))
    parser.add_argument("--foreground", action="store_true", help="stay; log to stderr")
    return parser


def _view(path: Path, node: str, resource: str) -> ResourceView:
    try:
        view = config.load(path).resource(resource).for_node(node)
    except ConfigError as error:
        raise StartError(str(error), error.exit_code) from error
    if len(view.local.volumes) != 1:
        raise StartError(
            f"resource {resource} has {len(view.local.volumes)} volumes; this version serves exactly one", EXIT_INVALID
        )
    return view


def _places(options: argparse.Namespace) -> Places:
    # Absolute, because the background is another directory.
    run, state = options.run_dir.absolute() / options.resource, options.state_dir.absolute()
    try:
        run.mkdir(parents=True, exist_ok=True)
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make the directory {error.filename}: {error.strerror}", EXIT_OTHER) from error
    return Places(options.config.absolute(), run, state)


def _serve(view: ResourceView, places: Places, readiness: Readiness, *, in_foreground: bool) -> bool:
    """Run the daemon to its end. Return whether it has left its device to a successor."""
    name = view.resource.name
    lock = PidFile.acquire(places.run / "pid", name)
    try:
        log_file = None if in_foreground else places.state / f"{name}.log"
        try:
            logging_setup.set_up(name, log_file)
        except OSError as error:
            raise StartError(f"cannot write the log {log_file}: {error.strerror}") from error

        may_have_device = _may_have_device(view)
        # Before the first thread: they inherit it.
        for trouble in memory.protect() if may_have_device else []:
            log.warning("%s", trouble)

        async def live() -> bool:
            daemon = Daemon(view, places, may_have_device=may_have_device)
            await daemon.run(readiness)
            if daemon.died:
                raise RuntimeError(daemon.died)
            return daemon.left

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            left = runner.run(live())
        log.info("gone, with the device in place" if left else "down")
        return left
    finally:
        lock.release()


def _may_have_device(view: ResourceView) -> bool:
    """Say whether this host will use the resource by a device of its own."""
    try:
        return choose(view.resource.attach, kinds(ublk_command)).name != "none"
    except DeviceError as error:
        log.warning("%s", error)
        return False


if __name__ == "__main__":
    sys.exit(main())
