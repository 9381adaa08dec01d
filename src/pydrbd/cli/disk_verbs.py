"""The disk and its data: (in)validate, outdate, new-current-uuid, pause-sync, detach, attach, suspend-io, adjust..."""

from __future__ import annotations

from collections.abc import Callable

import click

from pydrbd.cli.admin_client import NotUpError, ask
from pydrbd.cli.context import Context
from pydrbd.cli.daemon_verbs import start
from pydrbd.cli.each import for_each, order, resource_argument
from pydrbd.cli.look_up import look_up
from pydrbd.config.options import ADJUSTABLE, option

_BYTES = {"S": 512, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def sectors(text: str) -> int:
    """Return a place on the device as `drbdsetup` takes it: sectors of 512 bytes, or a number of K, M, G, T (bytes)."""
    unit = text[-1:].upper()
    digits = text[:-1] if unit in _BYTES else text
    if not (digits.isascii() and digits.isdecimal()):
        raise click.BadParameter(f"{text!r} is no number of sectors (or of K, M, G, T)")
    return int(digits) * _BYTES.get(unit, 512) // 512


@click.command()
@resource_argument
@click.pass_obj
def invalidate(context: Context, resource: str) -> None:
    """Throw this node's data away and fetch the peer's."""
    order(context, resource, "invalidate")


@click.command("invalidate-remote")
@resource_argument
@click.pass_obj
def invalidate_remote(context: Context, resource: str) -> None:
    """Throw the peer's data away and send it ours."""
    order(context, resource, "invalidate-remote")


@click.command()
@click.option("-s", "--start", metavar="SECTOR", type=sectors, help="Else where the last one was interrupted.")
@click.option("-S", "--stop", metavar="SECTOR", type=sectors, help="End there, or at once; one that runs, too.")
@click.option("--repair", is_flag=True, help="Copy what differs, from the primary, or from here if there is none.")
@resource_argument
@click.pass_obj
def verify(context: Context, resource: str, start: int | None, stop: int | None, repair: bool) -> None:
    """Compare both disks, while they are in use; what differs is marked out of sync."""
    given = {"start_sector": start, "stop_sector": stop}
    numbers = {name: sector for name, sector in given.items() if sector is not None}
    order(context, resource, "verify", repair=repair, **numbers)


@click.command()
@resource_argument
@click.pass_obj
def outdate(context: Context, resource: str) -> None:
    """Say that this node's data are old; only while not connected."""
    order(context, resource, "outdate")


@click.command("new-current-uuid")
@click.option("--clear-bitmap", is_flag=True, help="Both disks are equal; connected fresh ones need no first resync.")
@resource_argument
@click.pass_obj
def new_current_uuid(context: Context, resource: str, clear_bitmap: bool) -> None:
    """Begin a new generation of data by hand."""
    order(context, resource, "new-current-uuid", clear_bitmap=clear_bitmap)


@click.command("pause-sync")
@resource_argument
@click.pass_obj
def pause_sync(context: Context, resource: str) -> None:
    """Let a resync rest."""
    order(context, resource, "pause-sync")


@click.command("resume-sync")
@resource_argument
@click.pass_obj
def resume_sync(context: Context, resource: str) -> None:
    """Let it go on."""
    order(context, resource, "resume-sync")


@click.command()
@click.option("--force", is_flag=True, help="Even if the data are then out of reach.")
@resource_argument
@click.pass_obj
def detach(context: Context, resource: str, force: bool) -> None:
    """Give the backing disk up; a primary goes on by the peer's."""
    order(context, resource, "detach", force=force)


@click.command()
@resource_argument
@click.pass_obj
def attach(context: Context, resource: str) -> None:
    """Take the backing disk into use again; it gets what it missed."""
    order(context, resource, "attach")


@click.command("suspend-io")
@resource_argument
@click.pass_obj
def suspend_io(context: Context, resource: str) -> None:
    """Hold what applications read and write, until resume-io."""
    order(context, resource, "suspend-io")


@click.command("resume-io")
@resource_argument
@click.pass_obj
def resume_io(context: Context, resource: str) -> None:
    """Let it go on: after suspend-io, after a fence-peer that failed, and without data (then it fails)."""
    order(context, resource, "resume-io")


@click.command()
@resource_argument
@click.pass_obj
def dstate(context: Context, resource: str) -> None:
    """Print our disk state and the peer's: UpToDate/Inconsistent."""
    look_up(context, resource, "dstate")


def _adjustable(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options that a running daemon takes up."""
    for name in reversed(ADJUSTABLE):
        command = click.option(f"--{name}", metavar="VALUE", help=f"{option('disk', name).meaning}.")(command)
    return command


@click.command("disk-options")
@_adjustable
@resource_argument
@click.pass_obj
def disk_options(context: Context, /, resource: str, **given: str | None) -> None:
    """Change options of a running resource until the next adjust or start; without any, show them."""
    options = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    order(context, resource, "disk-options", options=options)


@click.command()
@click.option("-d", "--dry-run", is_flag=True, help="Only say what would be done.")
@resource_argument
@click.pass_obj
def adjust(context: Context, resource: str, dry_run: bool) -> None:
    """Put into force what the configuration says now; what is not up is started."""

    def body(name: str) -> None:
        try:
            click.echo(ask(context, name, "adjust", {"dry_run": dry_run}).text, nl=False)
        except NotUpError:
            context.resource(name)
            if dry_run:
                click.echo(f"{name}: needs `pydrbd up {name}`")
            else:
                start(context, name)

    for_each(context, resource, body)


COMMANDS: list[click.Command] = [
    invalidate,
    invalidate_remote,
    verify,
    outdate,
    new_current_uuid,
    pause_sync,
    resume_sync,
    detach,
    attach,
    suspend_io,
    resume_io,
    dstate,
    disk_options,
    adjust,
]
