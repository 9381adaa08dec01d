"""Every option of DRBD that pydrbd reads, as one table: section, name, type, default, range, unit, dialects, meaning.

Defaults and ranges are those of drbd-utils 9 (`drbd.conf(5)`), except `ko-count` (docs/adr/0004-a-stalled-peer.md).
The readers, `dump` and `docs/configuration.md` all work from this table; `description.py` holds the same options as
fields. An option without a field is read, checked and has no effect here; its meaning says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Value = int | bool | str | None


class Kind(Enum):
    """What a value looks like in a file."""

    INTEGER = "number"
    BOOLEAN = "yes or no"
    WORD = "word"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number counts: in a file (`text`) and in a field of the description (`suffix`).

    A plain number n means ``n * scale`` in the field. Where `bare_bytes` is set a number may carry a suffix (s, K, M,
    G, T) and counts bytes; a number without a suffix then counts `bare_bytes` each, the field `field_bytes` each.
    """

    text: str = ""
    suffix: str = ""
    scale: int = 1
    bare_bytes: int = 0
    field_bytes: int = 1


COUNT = Unit()
TENTHS = Unit("0.1 s", "_ms", 100)
SECONDS_TO_MS = Unit("s", "_ms", 1000)
SECONDS = Unit("s", "_s")
PAGES = Unit("pages of 4 KiB", "_pages")
BYTES = Unit("bytes", "_bytes", bare_bytes=1)
KIB = Unit("KiB", "_bytes", bare_bytes=1024)
SIZE = Unit("sectors of 512 bytes", "_bytes", bare_bytes=512)
SECTORS = Unit("sectors of 512 bytes", "_sectors", bare_bytes=512, field_bytes=512)
RATE = Unit("KiB/s", "_kib_per_s", bare_bytes=1024, field_bytes=1024)


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `default`, `low` and `high` count in the file's unit; `words` are the values that a WORD may have.

    `dialects` names who else reads it: 0.6, 8.4, 9, or pydrbd alone. `kept` is false for what has no effect here.
    """

    section: str
    name: str
    kind: Kind
    default: Value
    meaning: str
    dialects: str = "8.4 9"
    low: int = 0
    high: int = 0
    unit: Unit = COUNT
    words: tuple[str, ...] = ()
    kept: bool = True

    @property
    def field(self) -> str:
        """Return the field's name in the description; meaningful only if `kept`."""
        return self.name.replace("-", "_") + self.unit.suffix

    @property
    def pending(self) -> bool:
        """Whether nobody acts by it yet."""
        return (self.section, self.name) in PENDING

    @property
    def default_value(self) -> Value:
        """Return the default as the description holds it."""
        if self.kind is not Kind.INTEGER or self.default is None:
            return self.default
        return field_value(self.unit, int(self.default))


def field_value(unit: Unit, number: int) -> int:
    """Return what a plain `number` in a file is in a field of the description."""
    return number * unit.bare_bytes // unit.field_bytes if unit.bare_bytes else number * unit.scale


def _number(section: str, name: str, default: int | None, span: tuple[int, int], unit: Unit, meaning: str) -> Option:
    return Option(section, name, Kind.INTEGER, default, meaning, low=span[0], high=span[1], unit=unit)


def _flag(section: str, name: str, default: bool, meaning: str) -> Option:
    return Option(section, name, Kind.BOOLEAN, default, meaning)


def _word(section: str, name: str, words: str, meaning: str) -> Option:
    """Return an option of fixed words, the first of which is the default."""
    allowed = tuple(words.split())
    return Option(section, name, Kind.WORD, allowed[0], meaning, words=allowed)


def _text(section: str, name: str, meaning: str, dialects: str = "8.4 9", *, longest: int = 4096) -> Option:
    return Option(section, name, Kind.TEXT, None, meaning, dialects=dialects, high=longest)


def _handler(name: str, meaning: str) -> Option:
    return _text("handlers", name, meaning)


def _algorithm(name: str, words: str, meaning: str) -> Option:
    return Option("net", name, Kind.WORD, None, meaning, words=tuple(words.split()))


DIGESTS = "crc32c md5 sha1 sha256 sha384 sha512"
MACS = "md5 sha1 sha256 sha384 sha512"

_GLOBAL = (
    _number(
        "global",
        "dialog-refresh",
        1,
        (0, 600),
        SECONDS,
        "how often the dialogue of the init script counts up; 0: never",
    ),
)

_RESOURCE = (
    _text("resource", "fsckcmd", "run as `fsckcmd DEVICE` before a mount by `datadisk start`", "0.6 pydrbd"),
    Option(
        "resource",
        "attach",
        Kind.WORD,
        "auto",
        "how the kernel gets the device: by nbd, ublk or fuse, not at all, or by nbd if the host has it",
        dialects="pydrbd",
        words=("auto", "nbd", "ublk", "fuse", "none"),
    ),
)

_OPTIONS = (
    _word(
        "options", "on-no-data-accessible", "io-error suspend-io", "no up-to-date data in reach: fail I/O, or hold it"
    ),
)

_NET = (
    _word("net", "protocol", "C A B", "a write is done when sent (A), received (B) or written (C) at the peer"),
    _number(
        "net", "timeout", 60, (1, 600), TENTHS, "an expected answer is late; must be less than connect-int and ping-int"
    ),
    _number("net", "connect-int", 10, (1, 120), SECONDS_TO_MS, "between two attempts to connect"),
    _number("net", "ping-int", 10, (1, 120), SECONDS_TO_MS, "an idle connection is probed this often"),
    _number("net", "ping-timeout", 5, (1, 300), TENTHS, "the answer to a ping is late: the peer is lost"),
    _number(
        "net", "ko-count", 1, (0, 200), COUNT, "a write late by this many timeouts expels the peer; 0: never (DRBD: 7)"
    ),
    _number(
        "net",
        "socket-check-timeout",
        0,
        (0, 300),
        TENTHS,
        "how long a new connection may take to answer; 0: ping-timeout",
    ),
    _number("net", "max-epoch-size", 2048, (1, 20000), COUNT, "writes between two barriers at most"),
    _number("net", "max-buffers", 2048, (32, 131072), PAGES, "what the peer may have us hold for it"),
    _number("net", "sndbuf-size", 0, (0, 128 << 20), BYTES, "socket send buffer; 0: the kernel decides"),
    _number("net", "rcvbuf-size", 0, (0, 128 << 20), BYTES, "socket receive buffer; 0: the kernel decides"),
    _word(
        "net",
        "after-sb-0pri",
        "disconnect discard-younger-primary discard-older-primary discard-zero-changes discard-least-changes "
        "discard-node-NAME",
        "split brain, no primary: whose changes to discard",
    ),
    _word(
        "net",
        "after-sb-1pri",
        "disconnect consensus violently-as0p discard-secondary call-pri-lost-after-sb",
        "split brain, one primary",
    ),
    _word("net", "after-sb-2pri", "disconnect violently-as0p call-pri-lost-after-sb", "split brain, two primaries"),
    _flag(
        "net", "always-asbp", False, "apply the after-sb policies even where the history alone shows a common ancestor"
    ),
    _word(
        "net",
        "rr-conflict",
        "disconnect violently call-pri-lost",
        "the resync would have to overwrite a primary",
    ),
    _word(
        "net", "fencing", "dont-care resource-only resource-and-stonith", "what to do about a lost peer before going on"
    ),
    _algorithm("cram-hmac-alg", MACS, "authenticate the peer when connecting"),
    _text("net", "shared-secret", "what both nodes know for it, 64 characters at most", longest=64),
    _algorithm("data-integrity-alg", DIGESTS, "a digest with every data packet"),
    _algorithm("verify-alg", DIGESTS, "the digest of an online verify"),
    _algorithm("csums-alg", DIGESTS, "resync compares this digest first and copies only what differs"),
    _flag("net", "csums-after-crash-only", False, "and only after a primary's crash"),
    _flag("net", "use-rle", True, "send the bitmap run-length encoded"),
    _flag("net", "tcp-cork", True, "let packets gather into full segments"),
    _word("net", "on-congestion", "block pull-ahead disconnect", "protocol A: the send queue is full"),
    _number("net", "congestion-fill", 0, (0, 20 << 20), SECTORS, "in flight to the peer: this is congestion; 0: off"),
    _number("net", "congestion-extents", 1237, (67, 65534), COUNT, "active extents: this is congestion"),
    _flag("net", "allow-remote-read", True, "read from the peer when there is no good local copy"),
    Option("net", "skip-sync", Kind.BOOLEAN, False, "no automatic resync after a connect", "0.6 pydrbd"),
)

_DISK = (
    _number("disk", "size", None, (1, 1 << 41), SIZE, "of the device; default: as large as both disks allow"),
    _word("disk", "on-io-error", "detach pass_on call-local-io-error", "the backing disk fails"),
    _flag("disk", "disk-barrier", False, "order writes by barriers (no kernel has them any more; as disk-flushes)"),
    _flag("disk", "disk-flushes", True, "flush the backing disk at the end of an epoch; no: only with a battery"),
    _flag("disk", "disk-drain", True, "wait for an epoch's writes before those of the next"),
    _flag("disk", "md-flushes", True, "flush the metadata device; no: only with a battery"),
    _number(
        "disk",
        "resync-rate",
        250,
        (1, 8 << 20),
        RATE,
        "speed of a resync at its start; the speed, if c-plan-ahead is 0",
    ),
    _text("disk", "resync-after", "start a resync only after that of RESOURCE[/VOLUME]"),
    _number("disk", "al-extents", 1237, (67, 65534), COUNT, "hot extents of 4 MiB in the activity log"),
    _flag("disk", "al-updates", True, "keep the activity log; no: full resync after a crash"),
    _number("disk", "c-plan-ahead", 20, (0, 300), TENTHS, "the resync controller's horizon; 0: fixed speed"),
    _number("disk", "c-delay-target", 10, (1, 100), TENTHS, "wanted delay of a resync request, if c-fill-target is 0"),
    _number("disk", "c-fill-target", 4096, (0, 1 << 20), SECTORS, "wanted amount of resync data in flight (DRBD: 100)"),
    _number("disk", "c-max-rate", 1 << 20, (0, 4 << 20), RATE, "a resync is never faster (DRBD: 102400)"),
    _number(
        "disk",
        "c-min-rate",
        4096,
        (0, 4 << 20),
        RATE,
        "a resync gives way to applications above this speed (100 MiB/s at most then); 0: never (DRBD: 250)",
    ),
    _number("disk", "disk-timeout", 0, (0, 6000), TENTHS, "the backing disk is late: detach; 0: wait for ever"),
    _word(
        "disk",
        "read-balancing",
        "prefer-local prefer-remote round-robin least-pending when-congested-remote 32K-striping 64K-striping "
        "128K-striping 256K-striping 512K-striping 1M-striping",
        "which copy a read is served from",
    ),
    _number(
        "disk",
        "rs-discard-granularity",
        0,
        (0, 1 << 20),
        BYTES,
        "areas of zeroes are discarded on the target, not sent; 0: off",
    ),
    _flag("disk", "discard-zeroes-if-aligned", True, "a discard that is not aligned writes zeroes at its ends"),
    Option("disk", "sync-group", Kind.INTEGER, 0, "resources of a lower group resync first", "0.6 pydrbd", 0, 1 << 20),
)

_STARTUP = (
    _number("startup", "wfc-timeout", 0, (0, 300000), SECONDS, "wait for the peer at boot; 0: for ever"),
    _number("startup", "degr-wfc-timeout", 0, (0, 300000), SECONDS, "the same, if the cluster was degraded before"),
    _number("startup", "outdated-wfc-timeout", 0, (0, 300000), SECONDS, "the same, if the peer was outdated before"),
    _flag("startup", "wait-after-sb", False, "wait even after a split brain"),
    _text("startup", "become-primary-on", "host that becomes primary at boot", "8.4"),
    Option(
        "startup",
        "inittimeout",
        Kind.INTEGER,
        0,
        "0.6: then start degraded as primary; 0: wait for ever; negative: let the boot go on as secondary",
        "0.6 pydrbd",
        -300000,
        300000,
        SECONDS,
    ),
    Option("startup", "skip-wait", Kind.BOOLEAN, False, "wait for the connection, not for the resync", "0.6 pydrbd"),
    Option("startup", "load-only", Kind.BOOLEAN, False, "do not wait at all", "0.6 pydrbd"),
    _text(
        "startup",
        "incon-degr-cmd",
        "run when starting degraded with inconsistent data; 0: it is primary now",
        "0.6 pydrbd",
    ),
)

_HANDLERS = (
    _handler("pri-on-incon-degr", "primary, degraded, and the data is inconsistent"),
    _handler("pri-lost-after-sb", "primary, and lost the split brain"),
    _handler("pri-lost", "primary, and should be the target of a resync"),
    _handler("fence-peer", "fence the lost peer; exit codes 3 to 7 say with what result"),
    _handler("unfence-peer", "the resync is over, the fence may go"),
    _handler("local-io-error", "the backing disk failed, see on-io-error"),
    _handler("initial-split-brain", "split brain, before the policies"),
    _handler("split-brain", "split brain that no policy resolved"),
    _handler("before-resync-target", "about to become a resync target; a failure prevents it"),
    _handler("after-resync-target", "the resync is over"),
    _handler("before-resync-source", "about to become a resync source"),
    _handler("out-of-sync", "an online verify found differences"),
    _handler("quorum-lost", "quorum is lost"),
    _handler("disconnected", "the connection is lost"),
)


def _idle(section: str, name: str, why: str, dialects: str = "8.4 9", span: tuple[int, int] | None = None) -> Option:
    """Return an option that is read and has no effect; with a `span` it must be a number in it."""
    kind = Kind.INTEGER if span else Kind.TEXT
    low, high = span or (0, 4096)
    return Option(section, name, kind, None, f"no effect: {why}", dialects, low, high, kept=False)


def _only(section: str, name: str, word: str, why: str) -> Option:
    """Return an option whose other values pydrbd does not have, so that asking for them must not pass in silence."""
    return Option(section, name, Kind.WORD, word, why, words=(word,), kept=False)


_WITHOUT_EFFECT = (
    _idle("global", "usage-count", "pydrbd never reports to anyone"),
    _idle("global", "minor-count", "no kernel module", span=(1, 255)),
    _idle("global", "minor_count", "no kernel module", "0.6", span=(1, 255)),
    Option("global", "disable_io_hints", Kind.BOOLEAN, False, "no effect: no I/O hints", "0.6", kept=False),
    Option("global", "disable-ip-verification", Kind.BOOLEAN, False, "no effect: addresses are not probed", kept=False),
    Option("global", "udev-always-use-vnr", Kind.BOOLEAN, False, "no effect: symlinks always have it", kept=False),
    _idle("global", "cmd-timeout-short", "no kernel to wait for", span=(0, 900)),
    _idle("global", "cmd-timeout-medium", "no kernel to wait for", span=(0, 900)),
    _idle("global", "cmd-timeout-long", "no kernel to wait for", span=(0, 900)),
    _idle("net", "unplug-watermark", "no queue is ever plugged", span=(1, 131072)),
    _idle("net", "sync-nice", "the engine does not renice itself", "0.6", span=(-20, 19)),
    _idle("net", "tl-size", "the transfer log has no fixed size", "0.6", span=(1, 1 << 20)),
    _idle("options", "cpu-mask", "use taskset or systemd's CPUAffinity="),
    _idle("options", "auto-promote-timeout", "auto-promote is off", "9", span=(0, 600)),
    _idle("options", "peer-ack-window", "a protocol of three nodes and more", "9"),
    _idle("options", "peer-ack-delay", "a protocol of three nodes and more", "9"),
    _idle("options", "twopc-timeout", "a protocol of three nodes and more", "9", span=(50, 600)),
    _idle("options", "twopc-retry-timeout", "a protocol of three nodes and more", "9", span=(1, 50)),
    _idle("options", "nr-requests", "the engine bounds its requests itself", "9", span=(4, 1 << 30)),
    _only("net", "allow-two-primaries", "no", "one node is primary at a time"),
    _only("net", "transport", "tcp", "the transport is TCP"),
    _only("net", "tls", "no", "the connection is not encrypted"),
    _only("options", "auto-promote", "no", "a node is promoted by a command"),
    _only("options", "quorum", "off", "two nodes have no majority"),
    _only("startup", "stacked-timeouts", "no", "there are no stacked resources"),
)

OPTIONS: tuple[Option, ...] = (
    *_GLOBAL,
    *_RESOURCE,
    *_NET,
    *_DISK,
    *_OPTIONS,
    *_STARTUP,
    *_HANDLERS,
    *_WITHOUT_EFFECT,
)
# Read and checked, but nobody acts by them yet. The page says so; a test sees to it that everything else is acted by.
PENDING: frozenset[tuple[str, str]] = frozenset(
    (section, name)
    for section, names in {
        "global": "dialog-refresh",
        "net": "tcp-cork allow-remote-read skip-sync",
        "disk": "disk-barrier disk-drain md-flushes discard-zeroes-if-aligned",
        "startup": "degr-wfc-timeout outdated-wfc-timeout wait-after-sb become-primary-on incon-degr-cmd",
        "handlers": "quorum-lost",
    }.items()
    for name in names.split()
)
ADJUSTABLE = (
    "resync-rate",
    "c-plan-ahead",
    "c-delay-target",
    "c-fill-target",
    "c-max-rate",
    "c-min-rate",
    "resync-after",
    "sync-group",
)
"""Disk options that a running daemon takes up, by `pydrbd adjust` or `pydrbd disk-options`."""
BY_NAME: dict[tuple[str, str], Option] = {(option.section, option.name): option for option in OPTIONS}


def option(section: str, name: str) -> Option:
    """Return the row of a known option; `KeyError` if there is none."""
    return BY_NAME[section, name]
