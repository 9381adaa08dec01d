"""The section ``on HOST { ... }`` of both dialects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address

from pydrbd.config.assignments import duplicate, known_key, misplaced
from pydrbd.config.description import DEFAULT_PORT, DiskOptions, Host
from pydrbd.config.errors import ConfigError, Place, shown
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.statements import Section, Setting
from pydrbd.config.values import too_many_values
from pydrbd.config.volumes import VOLUME_KEYS, VolumeDraft, finished, read_volume, refused, renumbered, words

_HOST_KEYS_06 = ("device", "disk", "address", "port", "meta-disk")
_HOST_KEYS_84 = (*VOLUME_KEYS, "address", "node-id")
_ADDRESS = re.compile(r"(?:\[([^\[\]]*)\]|([^:]*)):([0-9]+)")
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?")


@dataclass(slots=True)
class HostDraft:
    """An `on` section, read but not yet completed by what the resource says for both hosts."""

    name: str
    place: Place
    settings: dict[str, Setting] = field(default_factory=dict)
    volumes: dict[int, VolumeDraft] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the section as a person calls it."""
        return f"on {self.name}"


def read_host(section: Section, dialect: Dialect, where: str) -> HostDraft:
    """Return the draft of an `on` section; `where` is its owner for errors: ``resource drbd0``."""
    names = [name.text for name in section.names]
    if len(names) != 1:
        raise ConfigError(section.place, f"an 'on' section names one host, not {len(names)}")
    if not _HOST_NAME.fullmatch(names[0]):
        raise ConfigError(section.names[0].place, f"{shown(names[0])} is not a host name")
    draft = HostDraft(names[0], section.place)
    here = f"section on {draft.name} of {where}"
    allowed = _HOST_KEYS_06 if dialect is Dialect.V06 else _HOST_KEYS_84
    for setting in section.settings:
        name = setting.key.text
        if name not in allowed:
            known_key(setting, "on", dialect, here, allowed)
        elif name in VOLUME_KEYS:
            draft.volumes.setdefault(0, VolumeDraft(section.place)).add(setting)
        elif name in draft.settings:
            raise duplicate(setting, draft.settings[name].place)
        else:
            draft.settings[name] = setting
    _read_volumes(section, draft, dialect, here)
    return draft


def _read_volumes(section: Section, draft: HostDraft, dialect: Dialect, here: str) -> None:
    bare = draft.volumes.get(0)
    for inner in section.sections:
        if dialect is Dialect.V06 or inner.keyword.text != "volume":
            raise misplaced(inner, dialect, here)
        if bare:
            raise beside_volumes(bare)
        number, volume = read_volume(inner, here)
        if number in draft.volumes:
            raise ConfigError(inner.place, f"volume {number} is given twice in {here}")
        draft.volumes[number] = volume


def beside_volumes(draft: VolumeDraft) -> ConfigError:
    """Return the error for device or disk outside of a volume where there are `volume` sections."""
    setting = next(iter(draft.settings.values()))
    sentence = f"'{setting.key.text}' stands outside of the 'volume' sections"
    return ConfigError(setting.place, sentence, "move it into one of them")


def finished_host(
    draft: HostDraft, shared: dict[int, VolumeDraft], disk: DiskOptions, dialect: Dialect, where: str
) -> Host:
    """Return the host of a draft, `shared` being what the resource says of volumes; `ConfigError` for what lacks."""
    here = f"section {draft.title} of {where}"
    drafts = renumbered(draft.volumes, shared)
    address, port = _endpoint(draft, dialect, here)
    drafts = drafts or {0: VolumeDraft(draft.place)}
    volumes = [
        finished(volume, number, disk, dialect, f"volume {number} in {here}" if len(drafts) > 1 else here)
        for number, volume in drafts.items()
    ]
    return Host(draft.name, address, port, tuple(volumes), _node_id(draft.settings.get("node-id")))


def _endpoint(draft: HostDraft, dialect: Dialect, here: str) -> tuple[str, int]:
    for name in ("address", "port") if dialect is Dialect.V06 else ("address",):
        if name not in draft.settings:
            hint = f"DRBD's port is {DEFAULT_PORT}" if name == "port" else ""
            raise ConfigError(draft.place, f"{here} has no '{name}'", hint)
    setting = draft.settings["address"]
    if dialect is Dialect.V06:
        given = words(setting)
        if len(given) == 1 and given[0].count(":") == 1:
            hint = f"the port is a key of its own: port = {given[0].partition(':')[2]}"
            raise refused(setting, f"{shown(given[0])} is not an address", hint)
        return _ip(setting, " ".join(given), None), _port(
            draft.settings["port"], " ".join(words(draft.settings["port"]))
        )
    return _endpoint_84(setting)


def _endpoint_84(setting: Setting) -> tuple[str, int]:
    """Return address and port of ``[ipv4|ipv6] ADDRESS:PORT``, an IPv6 address in brackets."""
    given = words(setting)
    family = given.pop(0) if len(given) > 1 else None
    if len(given) > 1:
        raise (
            too_many_values(setting, 2) if len(setting.values) > 2 else refused(setting, "address has a word too many")
        )
    if family in ("sdp", "ssocks", "sci"):
        raise refused(setting, f"address family {family} is not supported", "it is ipv4 or ipv6, over TCP")
    if family not in (None, "ipv4", "ipv6"):
        raise refused(setting, f"{shown(family)} is not an address family", "it is ipv4 or ipv6")
    text = given[0] if given else ""
    match = _ADDRESS.fullmatch(text)
    if not match:
        hint = f"it is ADDRESS:PORT, for example 10.0.0.1:{DEFAULT_PORT} or [fd00::1]:{DEFAULT_PORT}"
        raise refused(setting, f"{shown(text)} is not an address with a port", hint)
    inner, plain, port = match.groups()
    wanted = family or ("ipv4" if inner is None else "ipv6")
    return _ip(setting, plain if inner is None else inner, wanted), _port(setting, port)


def _ip(setting: Setting, text: str, family: str | None) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        hint = "host names are not looked up: it must work while nothing else does"
        raise refused(setting, f"{shown(text)} is not an IP address", hint) from None
    if family and family != f"ipv{address.version}":
        raise refused(setting, f"{shown(text)} is not an address of family {family}")
    if address.is_unspecified or address.is_multicast:
        raise refused(setting, f"{shown(text)} is not the address of one host")
    return str(address)


def _port(setting: Setting, text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise refused(setting, f"{shown(text)} is not a port", "it is a number from 1 to 65535")
    return int(text)


def _node_id(setting: Setting | None) -> int | None:
    if setting is None:
        return None
    text = " ".join(words(setting))
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > 31:
        raise refused(setting, f"{shown(text)} is not a node-id", "it is a number from 0 to 31")
    return int(text)
