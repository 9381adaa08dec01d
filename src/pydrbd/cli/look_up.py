"""One line about a resource. What is not up is ``Unconfigured``, as drbdsetup 8.4 says."""

from __future__ import annotations

import click

from pydrbd.cli.admin_client import EXIT_NOT_UP, NotUpError, VerbError, ask
from pydrbd.cli.context import Context
from pydrbd.cli.each import for_each


def look_up(context: Context, resource: str, verb: str) -> None:
    """Print one line for every resource meant."""

    def body(name: str) -> None:
        try:
            click.echo(ask(context, name, verb).text, nl=False)
        except NotUpError as error:
            click.echo("Unconfigured")
            raise VerbError(error.sentence, EXIT_NOT_UP) from None

    for_each(context, resource, body)
