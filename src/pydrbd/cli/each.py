"""A verb for RESOURCE or `all`: the loop goes on after a failure and ends with the first one's exit code."""

from __future__ import annotations

from collections.abc import Callable

import click

from pydrbd.cli.admin_client import VerbError, ask
from pydrbd.cli.context import Context

resource_argument = click.argument("resource", metavar="RESOURCE|all")


def for_each(context: Context, resource: str, body: Callable[[str], None]) -> None:
    """Run `body` for every resource meant. Raises `ConfigError`; ends with the first failure's exit code."""
    first_exit_code = 0
    for name in context.names(resource):
        try:
            body(name)
        except VerbError as error:
            click.echo(error.sentence, err=True)
            first_exit_code = first_exit_code or error.exit_code
    if first_exit_code:
        raise click.exceptions.Exit(first_exit_code)


def order(context: Context, resource: str, verb: str, **arguments: object) -> None:
    """Give a command to the daemon of every resource meant, and print what it says."""
    for_each(context, resource, lambda name: click.echo(ask(context, name, verb, arguments).text, nl=False))
