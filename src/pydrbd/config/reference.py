"""`docs/configuration.md`, made from the tables: what a configuration can say, in both dialects."""

from __future__ import annotations

from collections.abc import Iterator

from pydrbd.config.keys import Key, keys, older_spellings
from pydrbd.config.layout import UNSUPPORTED, Dialect
from pydrbd.config.options import OPTIONS, Kind, Option

_HEAD = """\
# The configuration

<!-- Made from src/pydrbd/config by `python -m pydrbd.config.reference > docs/configuration.md`. -->

pydrbd reads `/etc/drbd.conf` in two dialects and tells them apart by the first line that can be told. Both become the
same description; `pydrbd dump` prints it in the dialect of 8.4.

## The dialect of 0.6

    resource drbd0 {
      protocol = C
      fsckcmd = /usr/bin/true

      on castor {
        device  = /dev/nb0
        disk    = /dev/md3
        address = 10.0.0.1
        port    = 7788
      }

      on pollux {
        device  = /dev/nb0
        disk    = /dev/md3
        address = 10.0.0.2
        port    = 7788
      }
    }

One `key = value` per line: whatever stands behind the first `=` is the value, so a brace needs a line of its own.
Switches are bare words. `#` begins a comment at the start of a word. There is no `;`. Required: `protocol`, and in
each `on` section `device`, `disk`, `address`, `port`. Extensions: `meta-disk = ...` in an `on` section and `attach =
...` in a resource. Without `meta-disk`, metadata is in the file `<state-dir>/<resource>.md`
([why](adr/0003-metadata-of-the-seed.md)).

## The dialect of 8.4 and 9

    resource drbd0 {
      device /dev/drbd0; disk /dev/md3; meta-disk internal;
      net { protocol C; }
      on castor { address 10.0.0.1:7788; }
      on pollux { address ipv4 10.0.0.2:7788; }
    }

`include "pattern";` (relative to the including file), `global`, `common`, `resource`, `skip`, and in a resource `on`,
`volume`, `disk`, `net`, `options`, `startup`, `handlers`, and 8.3's `syncer`. What stands in `common` holds for every
resource that does not say otherwise. `device` is a path, `minor N`, or both; `disk` a block device or a file;
`meta-disk` is `internal` (the default), `DEVICE`, `DEVICE[index]` (a slot of 128 MiB), or `file` (as above);
`flexible-meta-disk DEVICE` is the same as `meta-disk DEVICE`. `address` is `[ipv4|ipv6] ADDRESS:PORT`, an IPv6
address in brackets.

## Who is who

Each node finds itself by its host name, full (`uname -n`) or short (`hostname -s`), or by `--node`. A resource has
two hosts.
"""


def reference_markdown() -> str:
    """Return the whole page."""
    lines = [_HEAD, "## Options", ""]
    lines += [
        "Ranges and defaults count in the unit given. Sizes and rates take the suffixes s (512 bytes), K, M, G, T.",
        "What is *not in effect yet* is read and checked, and changes nothing.",
        "",
    ]
    for section in ("resource", "net", "disk", "options", "startup", "handlers", "global"):
        lines += _option_table(section)
    lines += _keys_06()
    lines += _older()
    lines += ["## Not supported", "", "These sections are refused, each with what to write instead.", ""]
    lines += [f"- `{keyword}`: {instead}" for keyword, instead in UNSUPPORTED.items()]
    return "\n".join(lines) + "\n"


def _option_table(section: str) -> Iterator[str]:
    yield f"### {section}"
    yield ""
    yield "| option | default | values | read by | meaning |"
    yield "|---|---|---|---|---|"
    for row in sorted(OPTIONS, key=lambda row: not row.kept):
        if row.section == section:
            readers = ", ".join(row.dialects.split())
            meaning = f"{row.meaning}; *not in effect yet*" if row.pending else row.meaning
            yield f"| `{row.name}` | {_default(row)} | {_values(row)} | {readers} | {meaning} |"
    yield ""


def _default(row: Option) -> str:
    if isinstance(row.default, bool):
        return "`yes`" if row.default else "`no`"
    return "" if row.default is None else f"`{row.default}`"


def _values(row: Option) -> str:
    match row.kind:
        case Kind.INTEGER:
            return f"{row.low} to {row.high}{f', {row.unit.text}' if row.unit.text else ''}"
        case Kind.WORD:
            return ", ".join(f"`{word}`" for word in row.words)
        case Kind.BOOLEAN:
            return "`yes`, `no`"
        case Kind.TEXT:
            return "text"


def _keys_06() -> Iterator[str]:
    yield "## What the keys of 0.6 set"
    yield ""
    yield "| section | key | sets | unit |"
    yield "|---|---|---|---|"
    for key in keys(Dialect.V06).values():
        yield f"| {key.section} | `{key.name}` | {_sets(key)} | {(key.unit or key.options[0].unit).text} |"
    yield ""


def _older() -> Iterator[str]:
    yield "## Older spellings"
    yield ""
    yield "What 0.7 to 8.3 wrote elsewhere is read in the dialect of 8.4 too."
    yield ""
    yield "| section | key | sets |"
    yield "|---|---|---|"
    for key in older_spellings():
        yield f"| {key.section} | `{key.name}` | {_sets(key)} |"
    yield ""


def _sets(key: Key) -> str:
    fixed = "" if key.fixed is None else f" {'no' if key.fixed is False else key.fixed}"
    sets = ", ".join(
        f"`{row.section} {row.name}{fixed}`" if row.kept else f"nothing: {row.meaning.removeprefix('no effect: ')}"
        for row in key.options
    )
    return f"{sets}, {key.note}" if key.note else sets


if __name__ == "__main__":
    print(reference_markdown(), end="")  # noqa: T201 - this is what it is for
