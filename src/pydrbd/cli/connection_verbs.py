"""connect, disconnect, cstate, wait-connect, wait-sync."""

from __future__ import annotations

import click

from pydrbd.cli.context import Context
from pydrbd.cli.each import order, resource_argument
from pydrbd.cli.look_up import look_up

_timeout = click.option(
    "-t",
    "--wfc-timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds; 0 waits for ever.",
)


@click.command()
@click.option("--discard-my-data", is_flag=True, help="After a split brain: this node's changes are thrown away.")
@click.option("--tentative", is_flag=True, help="Only say what would happen.")
@resource_argument
@click.pass_obj
def connect(context: Context, resource: str, discard_my_data: bool, tentative: bool) -> None:
    """Listen for the peer and connect to it."""
    order(context, resource, "connect", discard_my_data=discard_my_data, tentative=tentative)


@click.command()
@click.option("--force", is_flag=True, help="Do not ask the peer.")
@resource_argument
@click.pass_obj
def disconnect(context: Context, resource: str, force: bool) -> None:
    """Go StandAlone."""
    order(context, resource, "disconnect", force=force)


@click.command()
@resource_argument
@click.pass_obj
def cstate(context: Context, resource: str) -> None:
    """Print the connection state."""
    look_up(context, resource, "cstate")


@click.command("wait-connect")
@_timeout
@resource_argument
@click.pass_obj
def wait_connect(context: Context, resource: str, timeout_s: float) -> None:
    """Wait until connected; exit code 5 if that takes too long."""
    order(context, resource, "wait-connect", timeout_s=timeout_s)


@click.command("wait-sync")
@_timeout
@resource_argument
@click.pass_obj
def wait_sync(context: Context, resource: str, timeout_s: float) -> None:
    """Wait until connected and no resync runs; exit code 5 if that takes too long."""
    order(context, resource, "wait-sync", timeout_s=timeout_s)


COMMANDS: list[click.Command] = [connect, disconnect, cstate, wait_connect, wait_sync]
