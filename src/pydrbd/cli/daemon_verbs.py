"""up, down, restart: the life of a resource's daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from pydrbd.cli.admin_client import NotUpError, VerbError, ask, wait_for_end
from pydrbd.cli.context import Context
from pydrbd.cli.each import for_each, resource_argument

SUCCESSOR_S = 30.0
POLL_S = 0.05
EXIT_WITHOUT_DISK = 16
"""What `up` ends with when the resource is up and its disk is missing."""


def start(context: Context, resource: str) -> None:
    """Start the daemon in the background; return when it is up. Raises `VerbError` with what it said."""
    result = subprocess.run(
        [sys.executable, "-m", "pydrbd.node.main", resource],
        env=os.environ | context.environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise VerbError(result.stderr.strip(), result.returncode)


def stop(context: Context, resource: str, *, force: bool = False) -> None:
    """Take the resource down; return when its daemon has gone. One that is not up is down already."""
    try:
        ask(context, resource, "down", {"force": force}, until_end=True)
    except NotUpError:
        context.resource(resource)
        if context.left_device(resource).exists():
            # A killed daemon's device is still there, perhaps in use. Who takes it over can take it away, or refuse.
            _start_even_without_disk(context, resource)
            ask(context, resource, "down", {"force": force}, until_end=True)


def _start_even_without_disk(context: Context, resource: str) -> None:
    try:
        start(context, resource)
    except VerbError as error:
        if error.exit_code != EXIT_WITHOUT_DISK:
            raise


@click.command()
@click.option("--foreground", is_flag=True, help="Stay, and log to stderr (for systemd); one resource only.")
@resource_argument
@click.pass_obj
def up(context: Context, resource: str, foreground: bool) -> None:
    """Start the daemon: attach the disk, listen, connect. 16: it is up, and attaches its disk when that appears."""
    names = context.names(resource)
    if foreground:
        if len(names) != 1:
            raise click.UsageError("--foreground is for one resource")
        command = [sys.executable, "-m", "pydrbd.node.main", "--foreground", names[0]]
        os.execve(sys.executable, command, os.environ | context.environment())  # noqa: S606 - systemd wants the daemon
    for_each(context, resource, lambda name: start(context, name))


@click.command()
@click.option("--force", is_flag=True, help="Even while Primary and held open.")
@resource_argument
@click.pass_obj
def down(context: Context, resource: str, force: bool) -> None:
    """Disconnect, detach, end the daemon."""
    for_each(context, resource, lambda name: stop(context, name, force=force))


def replace(context: Context, resource: str) -> None:
    """Put another program in the place of this daemon's; whoever uses it waits.

    Raises `ConfigError`, with the old one still there, if the new one could not read the configuration.
    """
    context.resource(resource)
    try:
        answer = ask(context, resource, "restart")
    except NotUpError:
        start(context, resource)
        return
    if answer.data is None:
        return  # it was the new one that answered
    # I/O stands still, and only the device can wait: the old daemon ends as by a crash.
    wait_for_end(context, resource)
    if answer.data["supervised"]:
        _wait_for_successor(context, resource)
    else:
        start(context, resource)


def _wait_for_successor(context: Context, resource: str) -> None:
    """Wait for the daemon that systemd starts. Raises `VerbError` if none comes."""
    deadline = time.monotonic() + SUCCESSOR_S
    while True:
        try:
            ask(context, resource, "role")
        except NotUpError:
            if time.monotonic() > deadline:
                raise VerbError(
                    f"{resource}: systemd has not started it again within {SUCCESSOR_S:.0f} s", 20
                ) from None
            time.sleep(POLL_S)
        else:
            return


@click.command()
@resource_argument
@click.pass_obj
def restart(context: Context, resource: str) -> None:
    """Replace the daemon's program, which reads the configuration again; role, device and NBD clients stay."""
    for_each(context, resource, lambda name: replace(context, name))


COMMANDS: list[click.Command] = [up, down, restart]
