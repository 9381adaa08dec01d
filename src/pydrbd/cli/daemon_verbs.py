"""up, down, restart: the life of a resource's daemon."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from pydrbd.cli.admin_client import NotUpError, VerbError, ask
from pydrbd.cli.context import Context
from pydrbd.cli.each import for_each, resource_argument


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
        ask(context, resource, "down", {"force": force}, wait_for_end=True)
    except NotUpError:
        context.resource(resource)


@click.command()
@click.option("--foreground", is_flag=True, help="Stay, and log to stderr (for systemd); one resource only.")
@resource_argument
@click.pass_obj
def up(context: Context, resource: str, foreground: bool) -> None:
    """Start the daemon: attach the disk, listen, connect."""
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


def leave(context: Context, resource: str) -> None:
    """End the daemon for its successor: under an open device, which waits for it, or by taking the resource down."""
    try:
        ask(context, resource, "leave", wait_for_end=True)
    except NotUpError:
        context.resource(resource)
    except VerbError:
        # It has no device that could wait: the ordinary way, with the ordinary refusals.
        stop(context, resource)


@click.command()
@resource_argument
@click.pass_obj
def restart(context: Context, resource: str) -> None:
    """Replace the daemon; what uses its device waits meanwhile. Without a device: down and up again."""

    def body(name: str) -> None:
        leave(context, name)
        start(context, name)

    for_each(context, resource, body)


COMMANDS: list[click.Command] = [up, down, restart]
