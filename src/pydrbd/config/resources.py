"""Statements -> the description: the whole file and its sections `global`, `common`, `resource`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pydrbd.config.assignments import Assignments, known_key, misplaced, read_section
from pydrbd.config.checks import Claims, Order, check_options, check_pair
from pydrbd.config.description import (
    Configuration,
    DiskOptions,
    GlobalOptions,
    Handlers,
    NetOptions,
    Resource,
    ResourceOptions,
    StartupOptions,
)
from pydrbd.config.errors import ConfigError, Place, did_you_mean, shown
from pydrbd.config.hosts import HostDraft, beside_volumes, finished_host, read_host
from pydrbd.config.layout import Dialect, may_contain, parents
from pydrbd.config.syntax.statements import Section
from pydrbd.config.volumes import VOLUME_KEYS, VolumeDraft, read_volume

_RESOURCE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}")
_OPTION_SECTIONS = ("disk", "net", "options", "startup", "handlers", "syncer")


def read_configuration(root: Section, dialect: Dialect, file: str) -> Configuration:
    """Return the description of a file's statements; `ConfigError` for the first thing that is wrong with them."""
    _check_top(root, dialect)
    options = Assignments()
    for section in _at_most_one(root, "global"):
        read_section(section, dialect, options, "the file")
    common = Assignments()
    for section in _at_most_one(root, "common"):
        _read_body(section, dialect, _Draft("section common", section.place, common))
    claims, order = Claims(), Order()
    resources: dict[str, Resource] = {}
    for section in root.sections:
        if section.keyword.text == "resource":
            name = _name(section)
            if name in resources:
                hint = f"the first is at {resources[name].place}"
                raise ConfigError(section.place, f"resource {name} is given twice", hint)
            resources[name] = _read_resource(section, common, dialect, claims, order)
    if not resources:
        raise ConfigError(Place(file), "no resource is configured")
    order.check(resources)
    return Configuration(tuple(resources.values()), options.applied("global", GlobalOptions()), Place(file))


def _check_top(root: Section, dialect: Dialect) -> None:
    for setting in root.settings:
        key = shown(setting.key.text)
        near = did_you_mean(setting.key.text, may_contain(dialect, "")) if not setting.values else ""
        raise ConfigError(setting.place, f"{key} stands outside of any section", near)
    for section in root.sections:
        if "" not in parents(dialect).get(section.keyword.text, ()):
            raise misplaced(section, dialect, "the file")


def _at_most_one(root: Section, keyword: str) -> list[Section]:
    found = [section for section in root.sections if section.keyword.text == keyword]
    for section in found:
        if section.names:
            raise ConfigError(section.names[0].place, f"section {keyword} has no name")
    if len(found) > 1:
        hint = f"the first is at {found[0].place}"
        raise ConfigError(found[1].place, f"section {keyword} is given twice", hint)
    return found


@dataclass(slots=True)
class _Draft:
    """A `resource` or `common` section while it is read."""

    title: str
    place: Place
    options: Assignments
    volumes: dict[int, VolumeDraft] = field(default_factory=dict)
    hosts: list[HostDraft] = field(default_factory=list)


def _read_resource(section: Section, common: Assignments, dialect: Dialect, claims: Claims, order: Order) -> Resource:
    name = _name(section)
    draft = _Draft(f"resource {name}", section.place, Assignments())
    _read_body(section, dialect, draft)
    if dialect is Dialect.V06 and draft.options.place("net", "protocol") is None:
        raise ConfigError(section.place, f"{draft.title} has no 'protocol'", "it is A, B or C")
    options = draft.options.over(common)
    disk = options.applied("disk", DiskOptions())
    hosts = [finished_host(host, draft.volumes, disk, dialect, draft.title) for host in draft.hosts]
    fsckcmd = options.value("resource", "fsckcmd")
    resource = Resource(
        name=name,
        hosts=check_pair(hosts, draft.hosts, section.place, draft.title),
        net=options.applied("net", NetOptions()),
        disk=disk,
        startup=options.applied("startup", StartupOptions()),
        handlers=options.applied("handlers", Handlers()),
        options=options.applied("options", ResourceOptions()),
        fsckcmd=str(fsckcmd) if fsckcmd else None,
        attach=str(options.value("resource", "attach")),
        place=section.place,
    )
    check_options(resource, options, dialect)
    for host, host_draft in zip(hosts, draft.hosts, strict=True):
        claims.take(host, host_draft, draft.volumes, draft.title)
        order.take(name, host, [host_draft.volumes, draft.volumes], options)
    return resource


def _name(section: Section) -> str:
    if len(section.names) != 1:
        hint = "resource NAME { ... }"
        raise ConfigError(section.place, f"a resource has one name, not {len(section.names) or 'none'}", hint)
    name = section.names[0].text
    if not _RESOURCE_NAME.fullmatch(name):
        hint = "letters, digits and . _ - are, the first no dot or dash"
        raise ConfigError(section.names[0].place, f"{shown(name)} is not a name for a resource", hint)
    if name == "all":
        raise ConfigError(
            section.names[0].place, "no resource can be called 'all'", "commands mean every resource by it"
        )
    return name


def _read_body(section: Section, dialect: Dialect, draft: _Draft) -> None:
    is_common = section.keyword.text == "common"
    volume_keys = () if is_common or dialect is Dialect.V06 else VOLUME_KEYS
    for setting in section.settings:
        if setting.key.text in volume_keys:
            draft.volumes.setdefault(0, VolumeDraft(section.place)).add(setting)
        elif dialect is Dialect.V06 and setting.key.text in VOLUME_KEYS:
            sentence = f"'{setting.key.text}' does not belong in {draft.title}"
            raise ConfigError(setting.place, sentence, "it belongs in section on")
        else:
            draft.options.add(setting, known_key(setting, "resource", dialect, draft.title, volume_keys))
    bare = draft.volumes.get(0)
    seen: dict[str, Section] = {}
    for inner in section.sections:
        keyword = inner.keyword.text
        if keyword not in may_contain(dialect, section.keyword.text):
            raise misplaced(inner, dialect, draft.title)
        if keyword in _OPTION_SECTIONS:
            if keyword in seen:
                hint = f"the first is at {seen[keyword].place}"
                raise ConfigError(inner.place, f"section {keyword} is given twice in {draft.title}", hint)
            seen[keyword] = inner
            if inner.names:
                raise ConfigError(inner.names[0].place, f"section {keyword} has no name")
            read_section(inner, dialect, draft.options, draft.title)
        elif keyword == "on":
            draft.hosts.append(read_host(inner, dialect, draft.title))
        elif keyword == "volume":
            if bare:
                raise beside_volumes(bare)
            number, volume = read_volume(inner, draft.title)
            if number in draft.volumes:
                raise ConfigError(inner.place, f"volume {number} is given twice in {draft.title}")
            draft.volumes[number] = volume
