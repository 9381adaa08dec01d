"""status: DRBD's text, the same in colour for a person at a terminal, or its JSON."""

from __future__ import annotations

import json
import sys

import click

from pydrbd.cli.admin_client import Answer, NotUpError, VerbError, ask
from pydrbd.cli.context import ALL, Context
from pydrbd.cli.each import resource_argument
from pydrbd.cli.look_up import look_up

NOTHING_UP = "# No currently configured DRBD found."
"""What drbdsetup says."""

_COLOURS = {
    r":(UpToDate|Connected|Established)\b": "green",
    r"\brole:Primary\b": "bold",
    r":(Inconsistent|Outdated|Failed|Diskless|StandAlone|DUnknown|Unknown|ProtocolError|BrokenPipe)\b": "red",
    r":(Connecting|Consistent|Negotiating|Attaching|SyncSource|SyncTarget|PausedSync[ST]|WFBitMap[ST])\b": "yellow",
    r"\b(done|dbdt1|eta):\S+": "cyan",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="drbdsetup's JSON.")
@click.option("-v", "--verbose", is_flag=True, help="What is as usual, too.")
@click.option("-s", "--statistics", is_flag=True, help="Counters, in KiB.")
@click.argument("resource", metavar="[RESOURCE|all]", default=ALL)
@click.pass_obj
def status(context: Context, resource: str, as_json: bool, verbose: bool, statistics: bool) -> None:
    """Show roles, disks, connection, and how far a resync is."""
    answers: list[Answer] = []
    for name in context.names(resource):
        try:
            answers.append(ask(context, name, "status", {"verbose": verbose, "statistics": statistics}))
        except NotUpError as error:
            if resource != ALL:
                raise VerbError(f"{name}: No such resource; it is not up on this node", error.exit_code) from None
    if as_json:
        click.echo(json.dumps([answer.data for answer in answers], indent=2))
    elif not answers:
        click.echo(NOTHING_UP)
    else:
        _show("\n".join(answer.text for answer in answers))


def _show(text: str) -> None:
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    # Only now: for a script's sake, who polls, the import is not free.
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    coloured = Text(text, end="")
    for pattern, colour in _COLOURS.items():
        coloured.highlight_regex(pattern, colour)
    Console(highlight=False, soft_wrap=True).print(coloured)


@click.command()
@resource_argument
@click.pass_obj
def why(context: Context, resource: str) -> None:
    """Explain in a few sentences why things are as they are, and what to type."""
    look_up(context, resource, "why")


COMMANDS: list[click.Command] = [status, why]
