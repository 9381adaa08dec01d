"""The description -> text of the 8.4 dialect: canonical, and reading it back gives an equal description.

Only what differs from a default is written, so that a file stays valid when a default changes its meaning for the
better.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydrbd.config.description import (
    Configuration,
    DiskOptions,
    GlobalOptions,
    Handlers,
    Host,
    MetaDisk,
    MetaDiskKind,
    NetOptions,
    Resource,
    ResourceOptions,
    StartupOptions,
    Volume,
)
from pydrbd.config.options import OPTIONS
from pydrbd.config.values import quoted, text_of

INDENT = "    "


def dump(configuration: Configuration) -> str:
    """Return the whole configuration."""
    sections = list(_section("global", configuration.global_options, GlobalOptions()))
    parts = ["\n".join(sections) + "\n"] if sections else []
    parts += [dump_resource(resource) for resource in configuration.resources]
    return "\n".join(parts)


def dump_resource(resource: Resource) -> str:
    """Return the section of one resource."""
    lines = []
    if resource.fsckcmd is not None:
        lines.append(f"fsckcmd {quoted(resource.fsckcmd)};")
    if resource.attach != "auto":
        lines.append(f"attach {resource.attach};")
    lines += _section("net", resource.net, NetOptions(), always=("protocol",))
    lines += _section("disk", resource.disk, DiskOptions())
    lines += _section("options", resource.options, ResourceOptions())
    lines += _section("startup", resource.startup, StartupOptions())
    lines += _section("handlers", resource.handlers, Handlers())
    for host in resource.hosts:
        lines += _host(host, resource.disk)
    return "\n".join([f"resource {resource.name} {{", *_indented(lines), "}", ""])


def _section(keyword: str, options: object, base: object, always: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a section with the options that differ from `base`, another of its dataclass, and those named in `always`.

    A section without options is no section.
    """
    lines = [
        f"{row.name} {text_of(row, getattr(options, row.field))};"
        for row in OPTIONS
        if row.section == keyword and row.kept
        if row.name in always or getattr(options, row.field) != getattr(base, row.field)
    ]
    if lines:
        yield f"{keyword} {{"
        yield from _indented(lines)
        yield "}"


def _host(host: Host, disk: DiskOptions) -> Iterator[str]:
    lines = [] if host.node_id is None else [f"node-id {host.node_id};"]
    address = f"ipv6 [{host.address}]" if host.is_ipv6 else f"ipv4 {host.address}"
    lines.append(f"address {address}:{host.port};")
    for volume in host.volumes:
        lines += [f"volume {volume.number} {{", *_indented(list(_volume(volume, disk))), "}"]
    yield f"on {host.name} {{"
    yield from _indented(lines)
    yield "}"


def _volume(volume: Volume, disk: DiskOptions) -> Iterator[str]:
    minor = "" if volume.minor is None else f" minor {volume.minor}"
    yield f"device {quoted(volume.device)}{minor};"
    yield f"disk {quoted(volume.disk)};"
    yield f"meta-disk {_meta_disk(volume.meta_disk)};"
    yield from _section("disk", volume.options, disk)


def _meta_disk(meta: MetaDisk) -> str:
    match meta.kind:
        case MetaDiskKind.INTERNAL | MetaDiskKind.FILE:
            return str(meta.kind.value)
        case MetaDiskKind.FLEXIBLE:
            return quoted(meta.path or "")
        case MetaDiskKind.INDEXED:
            return quoted(f"{meta.path}[{meta.index}]")


def _indented(lines: list[str]) -> list[str]:
    return [INDENT + line for line in lines]
