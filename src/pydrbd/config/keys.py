"""The keys of each dialect and the option that each sets.

In the dialect of 8.4 a key is an option of the same section and name, or an older spelling of one (0.7 to 8.3). In
the dialect of 0.6 every key is mapped: it had other names, other units, other sections, and set with one key what are
two options today.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydrbd.config.layout import Dialect
from pydrbd.config.options import KIB, OPTIONS, RATE, Option, Unit, Value, option


@dataclass(frozen=True, slots=True)
class Key:
    """What a key in a section sets: each of `options`, to its value read in `unit`, or to `fixed` if it takes none."""

    section: str
    name: str
    options: tuple[Option, ...]
    unit: Unit | None = None
    fixed: Value = None
    note: str = ""


# 0.6 panicked the kernel. DRBD's own sample configuration does it so since 8.0, where the panic became a handler.
DO_PANIC = "echo o > /proc/sysrq-trigger ; halt -f"


def _mapped(where: str, *targets: str, unit: Unit | None = None, fixed: Value = None, note: str = "") -> Key:
    section, name = where.split()
    options = tuple(option(*target.split()) for target in targets)
    return Key(section, name, options, unit, fixed, note)


_KEYS_06 = (
    _mapped("global minor_count", "global minor_count"),
    _mapped("global disable_io_hints", "global disable_io_hints"),
    _mapped("resource protocol", "net protocol"),
    _mapped("resource fsckcmd", "resource fsckcmd"),
    _mapped("resource attach", "resource attach"),
    _mapped("resource inittimeout", "startup inittimeout"),
    _mapped("resource skip-wait", "startup skip-wait"),
    _mapped("resource load-only", "startup load-only"),
    _mapped("resource incon-degr-cmd", "startup incon-degr-cmd"),
    _mapped("disk disk-size", "disk size", unit=KIB),
    _mapped(
        "disk do-panic",
        "disk on-io-error",
        fixed="call-local-io-error",
        note=f"with the handler local-io-error `{DO_PANIC}`",
    ),
    _mapped("net sync-rate", "disk c-max-rate", "disk resync-rate", unit=RATE),
    _mapped("net sync-max", "disk c-max-rate", "disk resync-rate", unit=RATE),
    _mapped("net sync-min", "disk c-min-rate", unit=RATE),
    _mapped("net sync-nice", "net sync-nice"),
    _mapped("net sync-group", "disk sync-group"),
    _mapped("net skip-sync", "net skip-sync"),
    _mapped("net connect-int", "net connect-int"),
    _mapped("net ping-int", "net ping-int"),
    _mapped("net timeout", "net timeout"),
    _mapped("net tl-size", "net tl-size"),
    _mapped("net sndbuf-size", "net sndbuf-size", unit=KIB),
    _mapped("net ko-count", "net ko-count"),
)

_OLDER = (
    _mapped("resource protocol", "net protocol"),
    _mapped("syncer rate", "disk resync-rate"),
    _mapped("syncer group", "disk sync-group"),
    _mapped("syncer after", "disk resync-after"),
    _mapped("syncer al-extents", "disk al-extents"),
    _mapped("syncer c-plan-ahead", "disk c-plan-ahead"),
    _mapped("syncer c-delay-target", "disk c-delay-target"),
    _mapped("syncer c-fill-target", "disk c-fill-target"),
    _mapped("syncer c-max-rate", "disk c-max-rate"),
    _mapped("syncer c-min-rate", "disk c-min-rate"),
    _mapped("syncer verify-alg", "net verify-alg"),
    _mapped("syncer csums-alg", "net csums-alg"),
    _mapped("syncer use-rle", "net use-rle"),
    _mapped("syncer cpu-mask", "options cpu-mask"),
    _mapped("syncer on-no-data-accessible", "options on-no-data-accessible"),
    _mapped("disk fencing", "net fencing"),
    _mapped("disk no-disk-barrier", "disk disk-barrier", fixed=False),
    _mapped("disk no-disk-flushes", "disk disk-flushes", fixed=False),
    _mapped("disk no-disk-drain", "disk disk-drain", fixed=False),
    _mapped("disk no-md-flushes", "disk md-flushes", fixed=False),
    _mapped("net no-tcp-cork", "net tcp-cork", fixed=False),
    _mapped("handlers outdate-peer", "handlers fence-peer"),
)


@cache
def keys(dialect: Dialect) -> dict[tuple[str, str], Key]:
    """Return the keys of a dialect by (section, name). 0.6's `on` and 8.4's `on`, `volume` are not among them."""
    if dialect is Dialect.V06:
        return {(key.section, key.name): key for key in _KEYS_06}
    current = {(row.section, row.name): Key(row.section, row.name, (row,)) for row in OPTIONS if row.dialects != "0.6"}
    return current | {(key.section, key.name): key for key in _OLDER}


def older_spellings() -> tuple[Key, ...]:
    """Return the keys of 0.7 to 8.3 that the dialect of 8.4 also reads."""
    return _OLDER
