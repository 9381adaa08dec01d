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
from pydrbd.node.handover.inheritance import Inheritance, load
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

PROGRAM = "pydrbd.node.main"
DEFAULT_CONFIG = "/etc/drbd.conf"
DEFAULT_RUN_DIR = "/run/pydrbd"
DEFAULT_STATE_DIR = "/var/lib/pydrbd"


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon; return its exit code. Does not return if the next program takes its place."""
    inherited = load(os.environ)
    options = _parser().parse_args(arguments)
    readiness = _readiness(inherited)
    try:
        view = _view(options.config, options.node, options.resource)
        places = _places(options)
    except StartError as error:
        readiness.failed(error)
        return error.exit_code
    if inherited is None and not options.foreground:
        readiness = go_to_background()
    try:
        end = _serve(view, places, readiness, inherited, in_foreground=options.foreground)
    except StartError as error:
        log.error("not started: %s", error.sentence)
        readiness.failed(error)
        return error.exit_code
    except Exception as error:
        # Whatever it is, the one who waits for our start must hear it; the log has the rest.
        log.exception("the daemon ends by a fault of its own")
        readiness.failed(StartError(f"{view.resource.name}: the daemon failed: {error}"))
        return EXIT_OTHER
    if isinstance(end, Inheritance):
        return _succeed(end, options, places)
    return EXIT_LEFT if end and is_supervised() else 0


def _readiness(inherited: Inheritance | None) -> Readiness:
    """Return who is to be told that we are up, or why not, if that is not a process that waits."""
    return Readiness(inherited.asker if inherited is not None and inherited.asker >= 0 else None)


def _succeed(bequest: Inheritance, options: argparse.Namespace, places: Places) -> int:
    """Start the next program in this process. Returns if that fails: then this is as good as a crash."""
    words = [sys.executable, "-m", PROGRAM, options.resource, "--config", str(places.configuration)]
    words += ["--node", options.node, "--run-dir", str(places.run.parent), "--state-dir", str(places.state)]
    words += ["--foreground"] if options.foreground else []
    try:
        os.execve(words[0], words, os.environ | bequest.store())  # noqa: S606 - ourselves, or what replaced us
    except OSError as error:
        failure = StartError(f"{options.resource}: the next program cannot be started: {error.strerror}")
        log.critical("%s", failure.sentence)
        _readiness(bequest).failed(failure)
        return EXIT_LEFT if is_supervised() else failure.exit_code


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


def _serve(
    view: ResourceView, places: Places, readiness: Readiness, inherited: Inheritance | None, *, in_foreground: bool
) -> Inheritance | bool:
    """Run the daemon to its end. Return what the next program in this process gets, or whether one is to come at all.

    The latter means that a device was left to it.
    """
    name = view.resource.name
    lock = PidFile.inherit(places.run / "pid", name, -1 if inherited is None else inherited.lock)
    bequest: Inheritance | None = None
    try:
        log_file = None if in_foreground else places.state / f"{name}.log"
        try:
            logging_setup.set_up(name, log_file)
        except OSError as error:
            raise StartError(f"cannot write the log {log_file}: {error.strerror}") from error

        # Before the first thread: they inherit it. To ask for a ublk driver is to have one already, io_uring's.
        troubles = memory.protect() if view.resource.attach != "none" else []
        may_have_device = _may_have_device(view)
        for trouble in troubles if may_have_device else []:
            log.warning("%s", trouble)

        async def live() -> Daemon:
            daemon = Daemon(view, places, may_have_device=may_have_device, inherited=inherited)
            await daemon.run(readiness)
            if daemon.died:
                raise RuntimeError(daemon.died)
            return daemon

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            daemon = runner.run(live())
        bequest = daemon.bequest
        if bequest is not None:
            bequest.lock = lock.fd
            log.info("the next program takes over")
            return bequest
        log.info("gone, with the device in place" if daemon.left else "down")
        return daemon.left
    finally:
        if bequest is None:
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
