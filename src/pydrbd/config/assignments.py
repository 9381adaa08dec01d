"""The options that one scope (`common`, a resource, a volume) sets, each with the place where it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydrbd.config.description import (
    DiskOptions,
    GlobalOptions,
    Handlers,
    NetOptions,
    ResourceOptions,
    StartupOptions,
)
from pydrbd.config.errors import ConfigError, Place, did_you_mean, shown
from pydrbd.config.keys import DO_PANIC, Key, keys
from pydrbd.config.layout import UNSUPPORTED, Dialect, may_contain, parents
from pydrbd.config.options import Option, Value, option
from pydrbd.config.syntax.statements import Section, Setting
from pydrbd.config.values import value_of

Fields = TypeVar("Fields", NetOptions, DiskOptions, StartupOptions, Handlers, ResourceOptions, GlobalOptions)


@dataclass(frozen=True, slots=True)
class Given:
    """A value and the key that gave it."""

    option: Option
    value: Value
    place: Place


class Assignments:
    """Options by section and name. Within one scope an option is set once; one scope goes over another with `over`."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], Given] = {}

    def add(self, setting: Setting, key: Key) -> None:
        """Set the options of `key` to the value of `setting`.

        Raise `ConfigError` for a wrong value, or an option that is set already.
        """
        for target in key.options:
            first = self._given.get((target.section, target.name))
            if first:
                raise duplicate(setting, first.place)
            value = value_of(setting, key, target)
            self._given[target.section, target.name] = Given(target, value, setting.place)
        if key.name == "do-panic":
            handler = option("handlers", "local-io-error")
            self._given[handler.section, handler.name] = Given(handler, DO_PANIC, setting.place)

    def over(self, base: Assignments) -> Assignments:
        """Return the options of `base` with those of this scope on top."""
        merged = Assignments()
        merged._given = base._given | self._given
        return merged

    def place(self, section: str, name: str) -> Place | None:
        """Return where an option is set, `None` if it is not."""
        given = self._given.get((section, name))
        return given.place if given else None

    def value(self, section: str, name: str) -> Value:
        """Return the value that an option is set to here, its default if it is not."""
        given = self._given.get((section, name))
        return given.value if given else option(section, name).default_value

    def applied(self, section: str, defaults: Fields) -> Fields:
        """Return `defaults`, the dataclass of a section, with the options of that section that are set here."""
        fields: dict[str, Any] = {
            given.option.field: given.value
            for given in self._given.values()
            if given.option.section == section and given.option.kept
        }
        return replace(defaults, **fields)


def read_section(section: Section, dialect: Dialect, into: Assignments, where: str) -> None:
    """Add the options of a section that holds nothing else; `where` is its owner for errors: ``resource drbd0``."""
    for inner in section.sections:
        raise misplaced(inner, dialect, f"section {section.title} of {where}")
    for setting in section.settings:
        into.add(setting, known_key(setting, section.keyword.text, dialect, f"section {section.title} of {where}", ()))


def known_key(setting: Setting, section: str, dialect: Dialect, where: str, others: tuple[str, ...]) -> Key:
    """Return the key of a setting; `ConfigError` with the nearest one. `others` are further keys of the section."""
    table = keys(dialect)
    name = setting.key.text
    key = table.get((section, name))
    if key:
        return key
    sentence = f"unknown key {shown(name)} in {where}"
    elsewhere = [other for other, known in table if known == name]
    if elsewhere:
        raise ConfigError(setting.place, sentence, f"it belongs in section {elsewhere[0]}")
    known = [known for other, known in table if other == section]
    raise ConfigError(setting.place, sentence, did_you_mean(name, [*known, *others, *may_contain(dialect, section)]))


def duplicate(setting: Setting, first: Place) -> ConfigError:
    """Return the error for a key that is there already, at `first`."""
    same_file = first.file == setting.place.file
    where = f"on line {first.line}" if same_file else f"at {first}"
    return ConfigError(setting.place, f"{shown(setting.key.text)} is given twice; the first is {where}")


def misplaced(section: Section, dialect: Dialect, where: str) -> ConfigError:
    """Return the error for a section that cannot stand in `where`."""
    keyword = section.keyword.text
    if keyword in UNSUPPORTED:
        return ConfigError(section.place, f"section {shown(keyword)} is not supported", UNSUPPORTED[keyword])
    outers = parents(dialect).get(keyword)
    if outers is None:
        names = list(parents(dialect))
        return ConfigError(section.place, f"unknown section {shown(keyword)} in {where}", did_you_mean(keyword, names))
    belongs = (
        "at the top of the file" if outers == ("",) else f"in {' or '.join(outer or 'the file' for outer in outers)}"
    )
    return ConfigError(
        section.place, f"section {shown(section.title)} does not belong in {where}", f"it belongs {belongs}"
    )
