"""The verbs that only read the configuration: dump, sh-resources. No node needs to run for them."""

from __future__ import annotations

from typing import NoReturn, Protocol, cast

import click

from pydrbd.config import ConfigError, Configuration, dump_resource
from pydrbd.config import dump as dump_configuration


class ConfigContext(Protocol):
    """What these verbs need of the command line's context object (`ctx.obj`)."""

    def configuration(self) -> Configuration:
        """Return the whole configuration; `ConfigError` if there is none that is valid."""
        ...


def _configuration(context: click.Context) -> Configuration:
    """Return the configuration, or end with its error as one line on stderr and drbdadm's exit code."""
    try:
        return cast("ConfigContext", context.obj).configuration()
    except ConfigError as error:
        _end(context, error)


def _end(context: click.Context, error: ConfigError) -> NoReturn:
    click.echo(str(error), err=True)
    context.exit(error.exit_code)


@click.command("dump")
@click.argument("resources", nargs=-1, metavar="[all|RESOURCE]...")
@click.pass_context
def dump(context: click.Context, resources: tuple[str, ...]) -> None:
    """Print the configuration as it was understood, in the dialect of 8.4."""
    configuration = _configuration(context)
    if not resources or "all" in resources:
        click.echo(dump_configuration(configuration), nl=False)
        return
    try:
        found = [configuration.resource(name) for name in resources]
    except ConfigError as error:
        _end(context, error)
    click.echo("\n".join(dump_resource(resource) for resource in found), nl=False)


@click.command("sh-resources")
@click.pass_context
def sh_resources(context: click.Context) -> None:
    """Print the names of all resources, for scripts."""
    click.echo(" ".join(resource.name for resource in _configuration(context).resources))


COMMANDS: list[click.Command] = [dump, sh_resources]
