"""`adjust` and `disk-options`: what of the configuration changes while the daemon runs.

The speed of a resync and its place in the order of resyncs do, at once. For anything else a daemon is replaced, by
`pydrbd restart`; `adjust` says for what. `disk-options` changes what is in force and not the file, so the next
`adjust`, or the next start, takes it back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from pydrbd.config.description import Configuration, DiskOptions, ResourceView, dependency
from pydrbd.config.errors import NOWHERE, ConfigError
from pydrbd.config.options import ADJUSTABLE, OPTIONS, Option, Value, option
from pydrbd.config.values import option_value, text_of
from pydrbd.node.admin.admin_socket import EXIT_USAGE, Reply, Request
from pydrbd.node.resync_pacer import limits_of
from pydrbd.state.resync_controller import Limits

log = logging.getLogger(__name__)

EXIT_INVALID = 10
CYCLE = "This would cause a resync-after dependency cycle"
"""DRBD's sentence."""
_SECTIONS = ("net", "disk", "options", "handlers")
"""What a daemon goes by; the other sections are read by who starts it."""


class Pacer(Protocol):
    """What keeps the speed (`ResyncPacer`)."""

    def adjust(self, limits: Limits) -> None:
        """Go by other limits from now on."""


class Order(Protocol):
    """What keeps the order (`ResyncOrder`)."""

    def would_cycle(self, view: ResourceView) -> bool:
        """Return whether the order would lead back to us."""

    def adjust(self, view: ResourceView) -> None:
        """Take another place. Raises `OSError`."""


class Adjusting:
    """One resource's."""

    def __init__(self, view: ResourceView, load: Callable[[], Configuration], pacer: Pacer, order: Order) -> None:
        """`view` is what the daemon has been started with; `load` reads the configuration again."""
        self._started = view
        self._in_force = view
        self._load = load
        self._pacer = pacer
        self._order = order

    async def adjust(self, request: Request) -> Reply:
        """Put into force what the file says; `dry_run`: only say what would be done.

        No order is refused: a file without a cycle is taken up by one daemon after another, and on the way two of them
        may contradict each other.
        """
        try:
            resource = self._load().resource(self._name)
            new = resource.for_node(self._started.local.name)
        except ConfigError as error:
            return Reply(error.exit_code, str(error))
        return self._put_into_force(
            _with_disk(self._in_force, _adjusted(self._disk, new.local.volumes[0].options)),
            later=_differences(self._started, new),
            dry_run=bool(request.arguments.get("dry_run")),
        )

    async def disk_options(self, request: Request) -> Reply:
        """Put options into force by their names and their texts; without any, say which are."""
        given = request.arguments.get("options")
        if not isinstance(given, dict):
            return Reply(EXIT_USAGE, "disk-options: options is not an object")
        if not given:
            return Reply(text="".join(f"{_line(row, getattr(self._disk, row.field))}\n" for row in _adjustable()))
        unknown = [name for name in given if name not in ADJUSTABLE]
        if unknown:
            return Reply(EXIT_USAGE, f"disk-options: {unknown[0]} cannot be changed while the daemon runs")
        values: dict[str, Any]
        try:
            values = {row.field: self._value(row, given[row.name]) for row in _adjustable() if row.name in given}
        except ConfigError as error:
            return Reply(error.exit_code, f"{self._name}: {error}")
        view = _with_disk(self._in_force, replace(self._disk, **values))
        if self._order.would_cycle(view):
            return Reply(EXIT_INVALID, f"{self._name}: {CYCLE}")
        return self._put_into_force(view)

    @property
    def _name(self) -> str:
        return self._started.resource.name

    @property
    def _disk(self) -> DiskOptions:
        return self._in_force.local.volumes[0].options

    def _value(self, row: Option, text: object) -> Value:
        """Return the value of a text. Raises `ConfigError`, also for a resource that is not there."""
        if row.name == "resync-after" and text in {"-1", ""}:
            return None  # DRBD's numbers for none
        value = option_value(row, str(text))
        if row.name == "resync-after":
            try:
                named = dependency(str(value))
            except ValueError:
                raise ConfigError(NOWHERE, "resync-after is not RESOURCE or RESOURCE/VOLUME") from None
            if named is not None:
                self._load().resource(named.resource)
        return value

    def _put_into_force(self, view: ResourceView, *, later: list[str] | None = None, dry_run: bool = False) -> Reply:
        rows = [row for row in _adjustable() if getattr(view.local.volumes[0].options, row.field) != self._of(row)]
        lines = [
            f"{_line(row, getattr(view.local.volumes[0].options, row.field))} (was {text_of(row, self._of(row))})"
            for row in rows
        ]
        if rows and not dry_run:
            self._order.adjust(view)
            self._pacer.adjust(limits_of(view))
            self._in_force = view
            for line in lines:
                log.info("adjusted: %s", line)
        lines += [f"{name} needs `pydrbd restart {self._name}`" for name in later or []]
        return Reply(text="".join(f"{self._name}: {line}\n" for line in lines))

    def _of(self, row: Option) -> Value:
        value: Value = getattr(self._disk, row.field)
        return value


def _adjustable() -> list[Option]:
    return [option("disk", name) for name in ADJUSTABLE]


def _line(row: Option, value: Value) -> str:
    return f"{row.name} {text_of(row, value)}"


def _with_disk(view: ResourceView, disk: DiskOptions) -> ResourceView:
    volume = replace(view.local.volumes[0], options=disk)
    return replace(view, local=replace(view.local, volumes=(volume, *view.local.volumes[1:])))


def _adjusted(old: DiskOptions, new: DiskOptions) -> DiskOptions:
    return replace(old, **{row.field: getattr(new, row.field) for row in _adjustable()})


def _differences(started: ResourceView, new: ResourceView) -> list[str]:
    """Return what has changed in the file since the daemon was started, and is in force only for the next one."""

    def section(view: ResourceView, name: str) -> object:
        return view.local.volumes[0].options if name == "disk" else getattr(view.resource, name)

    found = [
        row.name
        for row in OPTIONS
        if row.section in _SECTIONS and row.kept and not row.pending and row not in _adjustable()
        if getattr(section(started, row.section), row.field) != getattr(section(new, row.section), row.field)
    ]
    hosts = {"address": ("address", "port"), "device or disk": ("volumes",)}
    for what, fields in hosts.items():
        for own, other in ((started.local, new.local), (started.peer, new.peer)):
            if any(_plain(own, field) != _plain(other, field) for field in fields):
                found.append(f"{what} of {own.name}")
    return found + (["attach"] if started.resource.attach != new.resource.attach else [])


def _plain(host: object, field: str) -> object:
    """Return a field of a host; of its volumes not the options."""
    value = getattr(host, field)
    return tuple(replace(volume, options=DiskOptions()) for volume in value) if field == "volumes" else value
