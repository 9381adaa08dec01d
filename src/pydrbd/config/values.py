"""A value as it stands in a file <-> the value in the description, by the option's row in the table."""

from __future__ import annotations

import re

from pydrbd.config.errors import NOWHERE, SYNTAX, ConfigError, did_you_mean, listed, shown
from pydrbd.config.keys import Key
from pydrbd.config.options import Kind, Option, Unit, Value
from pydrbd.config.syntax.statements import Setting, Word

_NUMBER = re.compile(r"([+-]?[0-9]{1,18})([sSkKmMgGtT]?)")
_SUFFIX_BYTES = {"s": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TRUTH = dict.fromkeys(("yes", "true", "on", "1"), True) | dict.fromkeys(("no", "false", "off", "0"), False)
_BARE = re.compile(r"[A-Za-z0-9_./:\[\]@%+,-]+")


def value_of(setting: Setting, key: Key, option: Option) -> Value:
    """Return what `setting` gives `option`; `ConfigError` if its value is not one that the option can have."""
    text = _single(setting)
    if key.fixed is not None:
        if text is not None:
            raise _wrong(setting, f"{setting.key.text} takes no value, but has {shown(text)}")
        return key.fixed
    if text is None:
        if option.kind is Kind.BOOLEAN:
            return True  # 0.6: the bare keyword flips the default, and all defaults are off there
        if not option.kept and option.words:
            raise _unsupported(setting, "", option)
        raise _wrong(setting, f"{setting.key.text} has no value", _expected(option, key.unit or option.unit))
    match option.kind:
        case Kind.INTEGER:
            return _integer(setting, text, option, key.unit or option.unit)
        case Kind.BOOLEAN:
            if text.lower() not in _TRUTH:
                raise _wrong(setting, f"{shown(text)} is not a value of {setting.key.text}: it is yes or no")
            return _TRUTH[text.lower()]
        case Kind.WORD:
            return _word(setting, text, option)
        case Kind.TEXT:
            return _text(setting, text, option)


def option_value(option: Option, text: str) -> Value:
    """Return the value of a text that stands in no file; `ConfigError`, without a place, if it cannot be one."""
    setting = Setting(Word(option.name, NOWHERE), (Word(text, NOWHERE, quoted=True),))
    return value_of(setting, Key(option.section, option.name, (option,)), option)


def _single(setting: Setting) -> str | None:
    """Return the one value of a setting, `None` for a bare key."""
    if not setting.values:
        return None
    if len(setting.values) > 1:
        raise too_many_values(setting, 1)
    return setting.values[0].text


def too_many_values(setting: Setting, most: int) -> ConfigError:
    """Return the error for a setting with more than `most` values; most often the `;` of its line was forgotten."""
    lines = [word for word in setting.values if word.place.line == setting.place.line]
    if len(lines) < len(setting.values):
        said = shown(" ".join([setting.key.text, *(word.text for word in lines)]))
        return ConfigError(setting.place, f"';' is missing after {said}", exit_code=SYNTAX)
    place = setting.values[most].place
    word = setting.values[most].text
    return ConfigError(
        place, f"{setting.key.text} has a word too many: {shown(word)}", "quote a value that has blanks in it"
    )


def _wrong(setting: Setting, sentence: str, hint: str = "") -> ConfigError:
    place = setting.values[0].place if setting.values else setting.place
    return ConfigError(place, sentence, hint)


def _expected(option: Option, unit: Unit) -> str:
    match option.kind:
        case Kind.INTEGER:
            return f"it is a number from {option.low} to {option.high}{f', in {unit.text}' if unit.text else ''}"
        case Kind.BOOLEAN:
            return "it is yes or no"
        case Kind.WORD:
            return f"it is {listed(option.words, 'or')}"
        case Kind.TEXT:
            return "it is a text"


def _integer(setting: Setting, text: str, option: Option, unit: Unit) -> int:
    name = setting.key.text
    match = _NUMBER.fullmatch(text)
    if not match or (match[2] and not unit.bare_bytes):
        suffix = ", with a suffix K, M, G or T if you like" if unit.bare_bytes else ""
        raise _wrong(setting, f"{shown(text)} is not a value of {name}", f"{_expected(option, unit)}{suffix}")
    number = int(match[1])
    if not unit.bare_bytes:
        if not option.low <= number <= option.high:
            raise _wrong(setting, f"{name} {text} is out of range", _expected(option, unit))
        return number * unit.scale
    amount_bytes = number * (_SUFFIX_BYTES[match[2].lower()] if match[2] else unit.bare_bytes)
    base = option.unit.bare_bytes
    if not option.low * base <= amount_bytes <= option.high * base:
        raise _wrong(setting, f"{name} {text} is out of range", _range_in(option, unit))
    if amount_bytes % option.unit.field_bytes:
        raise _wrong(setting, f"{name} {text} is not a multiple of {option.unit.field_bytes} bytes")
    return amount_bytes // option.unit.field_bytes


def _range_in(option: Option, unit: Unit) -> str:
    """Return the range of a quantity in the unit that a plain number has in this dialect."""
    low, high = (bound * option.unit.bare_bytes // unit.bare_bytes for bound in (option.low, option.high))
    return f"it is from {low} to {high} {unit.text}"


def _word(setting: Setting, text: str, option: Option) -> str | None:
    if option.default is None and text == "":
        return None  # drbdadm's way to switch an algorithm off again: verify-alg "";
    for word in option.words:
        stem, is_pattern, _ = word.partition("NAME")
        if text.lower() == word.lower():
            return word
        if is_pattern and text.startswith(stem) and len(text) > len(stem):
            return text
    if not option.kept:
        raise _unsupported(setting, f" {shown(text)}", option)
    hint = did_you_mean(text, option.words)
    sentence = f"{shown(text)} is not a value of {setting.key.text}: {_expected(option, option.unit)}"
    raise _wrong(setting, sentence, hint)


def _unsupported(setting: Setting, value: str, option: Option) -> ConfigError:
    sentence = f"{setting.key.text}{value} is not supported: {option.meaning}"
    return _wrong(setting, sentence, f"it can only be {option.words[0]}")


def _text(setting: Setting, text: str, option: Option) -> str:
    if not text.strip():
        raise _wrong(setting, f"{setting.key.text} is empty")
    if len(text) > option.high:
        raise _wrong(setting, f"{setting.key.text} is longer than {option.high} characters")
    return text


def text_of(option: Option, value: Value) -> str:
    """Return a field's value as it is written in a file of the 8.4 dialect; reading it back gives the value again."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _number_text(option.unit, value)
    return '""' if value is None else quoted(value)


def _number_text(unit: Unit, value: int) -> str:
    if not unit.bare_bytes:
        return str(value // unit.scale)
    amount_bytes = value * unit.field_bytes
    for suffix, factor in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if amount_bytes and amount_bytes % factor == 0 and factor > unit.bare_bytes:
            return f"{amount_bytes // factor}{suffix}"
    return str(amount_bytes // unit.bare_bytes)


def quoted(text: str) -> str:
    """Return a word for a file of the 8.4 dialect, in quotes if it needs them."""
    if _BARE.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
