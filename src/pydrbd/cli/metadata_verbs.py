"""The verbs that work on a disk without a daemon: create-md, wipe-md, apply-al, dump-md, restore-md, show-gi, get-gi.

Output and exit codes are drbdmeta's. A verb that writes needs the disk for itself, so that it refuses while the
resource's daemon, or anyone, has it; show-gi, get-gi and dump-md read beside it. An error is one sentence on stderr,
and then nothing has been changed on disk.
"""

from __future__ import annotations

import secrets
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import click

from pydrbd.cli.disk_survey import survey
from pydrbd.config.description import Configuration, Resource
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.chronicle.generation_books import GenerationBooks, books_path
from pydrbd.node.metadata_store import MetadataStore, erase
from pydrbd.ondisk import text
from pydrbd.ondisk.errors import NoMetadataError, OnDiskError
from pydrbd.ondisk.layout import SECTOR_BYTES
from pydrbd.ondisk.probe import binary_size

EXIT_NOT_CONFIRMED = 1
EXIT_UNCLEAN = 255
_CONFIRMATION = "yes"


class MetadataContext(Protocol):
    """What these verbs need of the command line's context object (`ctx.obj`)."""

    @property
    def node_name(self) -> str:
        """The node whose `on` section is ours."""
        ...

    @property
    def state_dir(self) -> Path:
        """Where metadata files of our own are."""
        ...

    def configuration(self) -> Configuration:
        """Return the whole configuration."""
        ...

    def resource(self, name: str) -> Resource:
        """Return one resource; `ConfigError` if there is none."""
        ...


def places(context: MetadataContext, name: str) -> Iterator[MetadataPlace]:
    """Yield the places that `drbd0`, `drbd0/0` or `all` name."""
    resource_name, _, volume_number = name.partition("/")
    resources = context.configuration().resources if name == "all" else (context.resource(resource_name),)
    for resource in resources:
        volumes = resource.local(context.node_name).volumes
        chosen = [each for each in volumes if not volume_number or str(each.number) == volume_number]
        if not chosen:
            raise click.UsageError(f"resource {resource.name} has no volume {volume_number}")
        for volume in chosen:
            yield MetadataPlace.of(volume, resource.name, context.state_dir)


def _each(context: MetadataContext, name: str, body: Callable[[MetadataPlace], None]) -> None:
    """Run a verb's body for every volume that is named; go on after an error, end with the first one's exit code."""
    first_exit_code = 0
    for place in places(context, name):
        try:
            body(place)
        except OnDiskError as error:
            click.echo(error.sentence, err=True)
            first_exit_code = first_exit_code or error.exit_code
    if first_exit_code:
        raise click.exceptions.Exit(first_exit_code)


def confirm(question: str, *, force: bool) -> None:
    """Go on if the user types `yes`, or has given --force; end with exit code 1 otherwise."""
    click.echo(f"\n{question}", err=True)
    if force:
        click.echo("*** confirmation forced via --force option ***", err=True)
        return
    click.echo(f"[need to type '{_CONFIRMATION}' to confirm] ", err=True, nl=False)
    answer = sys.stdin.readline().strip()
    click.echo(err=True)
    if answer != _CONFIRMATION:
        click.echo("Operation canceled.")
        raise click.exceptions.Exit(EXIT_NOT_CONFIRMED)


def _reading(place: MetadataPlace) -> MetadataStore:
    """Open beside whoever has the disk; say on stderr that what is read may be old by the time it is shown."""
    store = MetadataStore.open(place, exclusive=False, writable=False)
    user = store.user()
    if user is not None:
        click.echo(f"# Output might be stale, since {place.disk} is in use by {user}", err=True)
    return store


_force = click.option("-f", "--force", is_flag=True, help="Do not ask.")
_resource = click.argument("resource", metavar="RESOURCE[/VOLUME]|all")


@click.command("create-md")
@_force
@click.option("--al-stripes", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option(
    "--al-stripe-size-kb", type=click.IntRange(4), default=32, show_default=True, help="Of one stripe, in KiB."
)
@_resource
@click.pass_obj
def create_md(context: MetadataContext, resource: str, force: bool, al_stripes: int, al_stripe_size_kb: int) -> None:
    """Write fresh metadata; ask first if the disk looks used."""

    def body(place: MetadataPlace) -> None:
        layout, found = survey(place, al_stripes, al_stripe_size_kb // 4)
        if found:
            confirm("\n".join(found) + "\n\nDo you want to proceed?", force=force)
        store = MetadataStore.create(
            place,
            device_uuid=secrets.randbits(64) or 1,
            al_stripes=al_stripes,
            al_stripe_size_4k=al_stripe_size_kb // 4,
        )
        store.close()
        size = binary_size(layout.max_sectors * SECTOR_BYTES)
        click.echo(
            f"{place.metadata}: {place.kind.value} metadata at byte {layout.superblock_offset_bytes},"
            f" for a device of {size} at most"
        )
        click.echo("New drbd meta data block successfully created.")

    _each(context, resource, body)


@click.command("wipe-md")
@_force
@_resource
@click.pass_obj
def wipe_md(context: MetadataContext, resource: str, force: bool) -> None:
    """Overwrite the superblock with zeros; the data stays."""

    def body(place: MetadataPlace) -> None:
        try:
            MetadataStore.open(place).close()
        except NoMetadataError:
            click.echo(f"{place.metadata}: There appears to be no drbd meta data to wipe out?", err=True)
            return
        except OnDiskError as error:
            if error.exit_code != EXIT_UNCLEAN:
                raise
        confirm(f"{place.metadata}: Do you really want to wipe out the DRBD meta data?", force=force)
        erase(place)
        click.echo("DRBD meta data block successfully wiped out.")

    _each(context, resource, body)


@click.command("apply-al")
@click.option("-f", "--force", is_flag=True, help="Mark the whole device if the activity log is damaged.")
@_resource
@click.pass_obj
def apply_al(context: MetadataContext, resource: str, force: bool) -> None:
    """Mark what a crashed primary may have been writing to as out of sync."""

    def body(place: MetadataPlace) -> None:
        store = MetadataStore.open(place)
        try:
            applied = store.apply_al(force=force)
        finally:
            store.close()
        if applied.bits_newly_set or applied.extents:
            size = text.pretty_size(applied.bits_newly_set * 4)
            click.echo(f"Marked additional {size} as out-of-sync based on AL.", err=True)
        else:
            click.echo("Nothing to do.", err=True)

    _each(context, resource, body)


@click.command("dump-md")
@click.option("-f", "--force", is_flag=True, help="Dump unclean metadata, too.")
@_resource
@click.pass_obj
def dump_md(context: MetadataContext, resource: str, force: bool) -> None:
    """Print the metadata, bitmap and all, as restore-md and drbdmeta read it."""

    def body(place: MetadataPlace) -> None:
        store = _reading(place)
        try:
            if store.superblock.needs_apply_al:
                click.echo(text.UNCLEAN_WARNING, err=True)
                if not force:
                    raise click.exceptions.Exit(EXIT_UNCLEAN)
            for piece in text.dump_md(store.superblock, store.layout, store.read_bitmap(), _dump_head()):
                click.echo(piece, nl=False)
        finally:
            store.close()

    _each(context, resource, body)


def _dump_head() -> str:
    now = time.localtime()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z", now)
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return f"{stamp} [{int(time.mktime(now))}]\n{socket.gethostname()}> {command}"


@click.command("restore-md")
@_force
@_resource
@click.argument("file", type=click.File("r"))
@click.pass_obj
def restore_md(context: MetadataContext, resource: str, file: IO[str], force: bool) -> None:
    """Write the metadata of a dump; make what is there first with create-md."""

    def body(place: MetadataPlace) -> None:
        dump = text.parse_dump(file.read())
        store = MetadataStore.open(place)
        try:
            confirm(f"{place.metadata}: Valid meta-data in place, overwrite?", force=force)
            store.restore(dump.superblock, dump.bitmap)
        finally:
            store.close()
        click.echo("Successfully restored meta data")

    _each(context, resource, body)


@click.command("show-gi")
@_resource
@click.pass_obj
def show_gi(context: MetadataContext, resource: str) -> None:
    """Print the generation identifiers with an explanation of every part, and which of them began here."""
    _each(context, resource, lambda place: _print_gi(place, lambda store: text.show_gi(store.superblock)))
    resource_name = resource.partition("/")[0]
    names = [each.name for each in context.configuration().resources] if resource == "all" else [resource_name]
    for name in names:
        click.echo("\n" + GenerationBooks.open(books_path(context.state_dir, name), writable=False).text(), nl=False)


@click.command("get-gi")
@_resource
@click.pass_obj
def get_gi(context: MetadataContext, resource: str) -> None:
    """Print the generation identifiers on one line."""
    _each(
        context,
        resource,
        lambda place: _print_gi(place, lambda store: text.get_gi(store.superblock.ids, store.superblock.flags)),
    )


def _print_gi(place: MetadataPlace, form: Callable[[MetadataStore], str]) -> None:
    store = _reading(place)
    try:
        click.echo(form(store), nl=False)
    finally:
        store.close()


COMMANDS: list[click.Command] = [create_md, wipe_md, apply_al, dump_md, restore_md, show_gi, get_gi]
"""What `pydrbd` adds to its group."""
