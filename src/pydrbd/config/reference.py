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

_NOTES = """\
## The size of the device

Without `size` (0.6: `disk-size`, in KiB) the first connection makes the device as large as the smaller of both disks,
its metadata taken off; with it no larger than that. Give both nodes the same, or the smaller of the two holds. From
then on the device has its size: neither a larger disk nor a larger `size` changes it by itself. `pydrbd resize` grows
it, to `size`, or to what both disks have room for, or to what `--size` says, which may not exceed `size`. To grow one
that has a `size`: change that on both nodes, `pydrbd restart`, `pydrbd resize` ([how](operations.md#a-larger-disk)).

A `size` below what the device has cuts it off at the next start, with a warning in the log, as the kernel's DRBD does;
what lies behind is no part of the device any more. The peer refuses the connection until it has been cut as well.
Shrink a device with `pydrbd resize --size` while it is down instead: that asks first.

## The order of resyncs

Resources that share disks or a link can resync one after another: `resync-after RESOURCE` or `RESOURCE/VOLUME` names
the one that comes first; of `sync-group` the lower numbers do, and members of one group resync together. Both may be
used at once. All resources of the file are looked at: a name that is not there, and an order that leads back to
itself, are errors. Give both nodes the same order ([how it goes](operations.md#several-resources-on-the-same-disks)).

## The speed of a resync

| in the file | how fast |
|---|---|
| nothing | as fast as the disks and the link allow, giving way to applications |
| `c-max-rate 100M` (0.6: `sync-max`) | never faster |
| `c-min-rate 20M` (0.6: `sync-min`) | gives way to applications only above that |
| `c-plan-ahead 0; resync-rate 30M` | no faster, and so fast where disks, link and applications leave room |
| `c-fill-target 100K` | that much is under way: less of the link's buffers, less delay for applications |
| `c-fill-target 0; c-delay-target 5` | as much as comes in within half a second is under way |

The target sets the pace: its file counts. `sync-max` and `sync-rate` set `resync-rate`, too. Speed and order change
while a resync runs: by `pydrbd adjust` to what the file says, by `pydrbd disk-options` without it.

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
    lines += [_NOTES.removesuffix("\n")]
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
