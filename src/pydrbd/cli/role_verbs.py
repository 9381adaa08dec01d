"""primary, secondary, role."""

from __future__ import annotations

import click

from pydrbd.cli.context import Context
from pydrbd.cli.each import order, resource_argument
from pydrbd.cli.look_up import look_up


@click.command()
@click.option("--force", is_flag=True, help="Our data are the good ones, whatever the states say.")
@click.option("--human", is_flag=True, help="0.6's: a person does this, no program. For the counters of show-gi.")
@click.option("--timeout-expired", is_flag=True, help="0.6's: the peer did not come in time. Likewise.")
@resource_argument
@click.pass_obj
def primary(context: Context, resource: str, force: bool, human: bool, timeout_expired: bool) -> None:
    """Let applications write here: the NBD socket appears."""
    order(context, resource, "primary", force=force, human=human, timeout_expired=timeout_expired)


@click.command()
@click.option("--force", is_flag=True, help="Even while held open.")
@resource_argument
@click.pass_obj
def secondary(context: Context, resource: str, force: bool) -> None:
    """Let the other node be primary: the NBD socket goes."""
    order(context, resource, "secondary", force=force)


@click.command()
@resource_argument
@click.pass_obj
def role(context: Context, resource: str) -> None:
    """Print our role and the peer's: Primary/Secondary."""
    look_up(context, resource, "role")


COMMANDS: list[click.Command] = [primary, secondary, role]
