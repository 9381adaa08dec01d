"""`resize`: the device grows while its daemon runs, and shrinks while it does not (drbdadm's `resize`).

Shrinking is for a device that nobody uses on either node: what lies behind the new end is given up, so that a person
has to type `yes`, or say --force.
"""

from __future__ import annotations

import re

import click

from pydrbd.cli.admin_client import NotUpError, VerbError, ask
from pydrbd.cli.context import Context
from pydrbd.cli.each import for_each, resource_argument
from pydrbd.cli.metadata_verbs import confirm, places
from pydrbd.node.metadata_store import MetadataStore
from pydrbd.ondisk.errors import OnDiskError
from pydrbd.ondisk.layout import SECTOR_BYTES
from pydrbd.ondisk.probe import binary_size

EXIT_REFUSED = 10
_SIZE = re.compile(r"(\d+)([sSkKmMgGtT]?)")
_UNIT_BYTES = {"": 512, "s": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _sectors(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return a size in sectors: a number of them, or with one of the letters s, K, M, G, T."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value)
    if found is None or not int(found[1]):
        raise click.BadParameter(f"{value} is not a size, e.g. 20G, or 41943040 sectors", context, parameter)
    return int(found[1]) * _UNIT_BYTES[found[2].lower()] // SECTOR_BYTES


@click.command()
@click.option(
    "--size", "sectors", callback=_sectors, metavar="SIZE", help="E.g. 20G; else all that both disks have room for."
)
@click.option("--assume-clean", is_flag=True, help="What is new is the same on both disks: no resync of it.")
@click.option("--assume-peer-has-space", is_flag=True, help="Not connected: the peer's disk has grown, too.")
@click.option("--force", is_flag=True, help="Shrink without asking.")
@resource_argument
@click.pass_obj
def resize(
    context: Context,
    resource: str,
    sectors: int | None,
    *,
    assume_clean: bool,
    assume_peer_has_space: bool,
    force: bool,
) -> None:
    """Grow the device after its disks have grown; or, while it is down, make it smaller."""
    arguments: dict[str, object] = {
        "assume_clean": assume_clean,
        "assume_peer_has_space": assume_peer_has_space,
        "sectors": sectors or 0,
    }

    def body(name: str) -> None:
        try:
            click.echo(ask(context, name, "resize", arguments).text, nl=False)
        except NotUpError:
            if sectors is None:
                raise
            _shrink(context, name, sectors, force=force)

    for_each(context, resource, body)


def _shrink(context: Context, resource: str, sectors: int, *, force: bool) -> None:
    """Make the device of a resource that is down smaller. Raises `VerbError`."""
    for place in places(context, resource):
        try:
            store = MetadataStore.open(place)
            try:
                now = store.superblock.agreed_sectors
                if sectors >= now:
                    sentence = f"{place.disk}: the device has {now} sectors; it grows while it is up"
                    raise VerbError(f"{resource}: {sentence}", EXIT_REFUSED)
                lost = binary_size((now - sectors) * SECTOR_BYTES)
                confirm(
                    f"{place.disk}: the last {lost} of the device will be gone, on the peer as well once it has done"
                    " the same.\nDo you really want to shrink it?",
                    force=force,
                )
                kept_bytes = store.shrink_to(sectors)
            finally:
                store.close()
        except OnDiskError as error:
            raise VerbError(error.sentence, error.exit_code) from None
        click.echo(
            f"{place.disk}: the device has {sectors} sectors now. Do the same on the peer before either comes up;\n"
            f"the disk may be cut to {kept_bytes} bytes ({binary_size(kept_bytes)}), not less."
        )


COMMANDS: list[click.Command] = [resize]
