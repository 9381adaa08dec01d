"""Device, backing disk and metadata of one volume, as keys of an `on`, `volume` or `resource` section."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from pydrbd.config.assignments import Assignments, duplicate, known_key, misplaced, read_section
from pydrbd.config.description import DiskOptions, MetaDisk, MetaDiskKind, Volume
from pydrbd.config.errors import ConfigError, Place, shown
from pydrbd.config.layout import Dialect
from pydrbd.config.syntax.statements import Section, Setting
from pydrbd.config.values import too_many_values

VOLUME_KEYS = ("device", "disk", "meta-disk", "flexible-meta-disk")
HIGHEST_VOLUME = 65535
HIGHEST_MINOR = (1 << 20) - 1


@dataclass(slots=True)
class VolumeDraft:
    """What is known of a volume so far; `place` is where its section begins."""

    place: Place
    settings: dict[str, Setting] = field(default_factory=dict)
    options: Assignments = field(default_factory=Assignments)

    def add(self, setting: Setting) -> None:
        """Take one of `VOLUME_KEYS`; `ConfigError` if it is there already."""
        name = "meta-disk" if setting.key.text == "flexible-meta-disk" else setting.key.text
        if name in self.settings:
            raise duplicate(setting, self.settings[name].place)
        self.settings[name] = setting

    def over(self, base: VolumeDraft) -> VolumeDraft:
        """Return what the resource says of the volume with what the host says on top."""
        return VolumeDraft(self.place, base.settings | self.settings, self.options.over(base.options))


def read_volume(section: Section, where: str) -> tuple[int, VolumeDraft]:
    """Return number and draft of a section ``volume N { ... }`` (8.4); `where` is its owner for errors."""
    name = section.names[0].text if len(section.names) == 1 else ""
    if not re.fullmatch("[0-9]{1,5}", name) or int(name) > HIGHEST_VOLUME:
        raise ConfigError(section.place, f"a volume has a number from 0 to {HIGHEST_VOLUME}: volume 0 {{ ... }}")
    here = f"{section.title} of {where}"
    draft = VolumeDraft(section.place)
    for setting in section.settings:
        if setting.key.text in VOLUME_KEYS:
            draft.add(setting)
        else:
            known_key(setting, "volume", Dialect.V84, here, VOLUME_KEYS)
    for inner in section.sections:
        if inner.keyword.text != "disk":
            raise misplaced(inner, Dialect.V84, here)
        read_section(inner, Dialect.V84, draft.options, here)
    return int(name), draft


def finished(draft: VolumeDraft, number: int, common: DiskOptions, dialect: Dialect, where: str) -> Volume:
    """Return the volume of a complete draft; `ConfigError` for a key that is missing or has a wrong value."""
    for name in ("device", "disk"):
        if name not in draft.settings:
            raise ConfigError(draft.place, f"{where} has no '{name}'")
    device, minor = _device(draft.settings["device"])
    return Volume(
        number=number,
        device=device,
        minor=minor,
        disk=_disk(draft.settings["disk"]),
        meta_disk=_meta_disk(draft.settings.get("meta-disk"), dialect),
        options=draft.options.applied("disk", common),
    )


def words(setting: Setting) -> list[str]:
    """Return the words of a value. 0.6's value is the rest of its line, blanks and all; 8.4's are words already."""
    return [word for value in setting.values for word in ([value.text] if value.quoted else value.text.split())]


def refused(setting: Setting, sentence: str, hint: str = "") -> ConfigError:
    """Return the error for the value of a setting, at the value."""
    place = setting.values[0].place if setting.values else setting.place
    return ConfigError(place, sentence, hint)


def path_of(setting: Setting, text: str) -> str:
    """Return an absolute path, tidied of doubled and trailing slashes."""
    if not text.startswith("/") or not text.isprintable():
        raise refused(setting, f"{setting.key.text} {shown(text)} is not an absolute path")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise refused(setting, f"{setting.key.text} {shown(text)} names no device or file")
    return "/" + "/".join(parts)


def _device(setting: Setting) -> tuple[str, int | None]:
    """Return path and minor number of ``/dev/drbd0``, ``/dev/drbd_home minor 3`` or ``minor 3``."""
    given = words(setting)
    minor: int | None = None
    if len(given) >= 2 and given[-2] == "minor":
        if not re.fullmatch("[0-9]{1,7}", given[-1]) or int(given[-1]) > HIGHEST_MINOR:
            raise refused(setting, f"{shown(given[-1])} is not a minor number", f"it is from 0 to {HIGHEST_MINOR}")
        minor = int(given[-1])
        given = given[:-2]
    if len(given) > 1:
        raise too_many_values(setting, 1) if len(setting.values) > 1 else _not_a_device(setting)
    if not given and minor is None:
        raise _not_a_device(setting)
    path = path_of(setting, given[0]) if given else f"/dev/drbd{minor}"
    implied = re.fullmatch(r"/dev/(?:nb|nbd|drbd|ublkb)([0-9]{1,7})", path)
    if minor is None and implied and int(implied[1]) <= HIGHEST_MINOR:
        minor = int(implied[1])
    return path, minor


def _not_a_device(setting: Setting) -> ConfigError:
    return refused(setting, "device needs a path", "for example /dev/drbd0, or /dev/drbd_home minor 3")


def _disk(setting: Setting) -> str:
    given = words(setting)
    if given == ["none"]:
        raise refused(setting, "disk none is not supported", "each of the two nodes has a disk")
    if len(given) != 1:
        raise too_many_values(setting, 1) if len(setting.values) > 1 else refused(setting, "disk needs one path")
    return path_of(setting, given[0])


def _meta_disk(setting: Setting | None, dialect: Dialect) -> MetaDisk:
    if setting is None:
        # 0.6 kept its counters in a file, so a disk that it replicated holds data to its very end (docs/adr/0003).
        return MetaDisk(MetaDiskKind.FILE if dialect is Dialect.V06 else MetaDiskKind.INTERNAL)
    given = words(setting)
    if len(given) == 2 and given[1].startswith("["):
        given = ["".join(given)]
    if len(given) != 1:
        raise too_many_values(setting, 1) if len(setting.values) > 1 else _not_a_meta_disk(setting)
    text = given[0]
    if text in ("internal", "flexible-internal"):
        return MetaDisk(MetaDiskKind.INTERNAL)
    if text == "file":
        return MetaDisk(MetaDiskKind.FILE)
    path, bracket, index = text.partition("[")
    if not text.startswith("/"):
        raise _not_a_meta_disk(setting)
    if not bracket:
        return MetaDisk(MetaDiskKind.FLEXIBLE, path_of(setting, path))
    if setting.key.text == "flexible-meta-disk" or not re.fullmatch(r"[0-9]{1,3}\]", index):
        hint = "a shared device has slots: meta-disk /dev/sdb1[0]"
        raise refused(setting, f"{setting.key.text} {shown(text)} has no valid index", hint)
    return MetaDisk(MetaDiskKind.INDEXED, path_of(setting, path), int(index[:-1]))


def _not_a_meta_disk(setting: Setting) -> ConfigError:
    hint = "it is internal, file, DEVICE or DEVICE[index]"
    return refused(setting, f"{setting.key.text} {shown(' '.join(words(setting)))} is no place for metadata", hint)


def renumbered(drafts: dict[int, VolumeDraft], base: dict[int, VolumeDraft]) -> dict[int, VolumeDraft]:
    """Return the volumes of a host: those of its own section over those of the resource."""
    merged = dict(base)
    for number, draft in drafts.items():
        merged[number] = draft.over(base[number]) if number in base else draft
    return {number: replace(merged[number]) for number in sorted(merged)}
