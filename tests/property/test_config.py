"""Any text gives a `Configuration` or a `ConfigError`; any description survives being written and read."""

import string
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.configurations import R0, SEED
from pydrbd.config import (
    ConfigError,
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
    dump,
    parse,
)
from pydrbd.config.errors import listed
from pydrbd.config.options import OPTIONS, Kind, Option

NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=12).filter(lambda name: name != "all")
TEXTS = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip())
)
PATHS = st.lists(
    st.text(string.ascii_letters + string.digits + "._ -;{}#\"'\\[", min_size=1, max_size=8), min_size=1, max_size=3
)


def path_from(parts: list[str]) -> str:
    return "/" + "/".join(f"x{part}" for part in parts)


def values(row: Option) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that an option's field may have."""
    match row.kind:
        case Kind.INTEGER:
            unit = row.unit
            factor = unit.bare_bytes // unit.field_bytes if unit.bare_bytes else unit.scale
            numbers = st.integers(row.low, row.high).map(lambda number: number * factor)
            return st.none() | numbers if row.default is None else numbers
        case Kind.BOOLEAN:
            return st.booleans()
        case Kind.WORD:
            words = st.sampled_from([word for word in row.words if not word.endswith("NAME")])
            return st.none() | words if row.default is None else words
        case Kind.TEXT:
            return st.none() | TEXTS


@st.composite
def options(draw: st.DrawFn, section: str, defaults: Any, *, unset: bool = True) -> Any:  # noqa: ANN401 - a dataclass
    """Set some options of a section. `unset`: an option may become `None` again, which in a file only a default is."""
    rows = [row for row in OPTIONS if row.section == section and row.kept]
    chosen = draw(st.lists(st.sampled_from(rows), max_size=6, unique_by=lambda row: row.name))
    drawn = {row.field: draw(values(row)) for row in chosen}
    return replace(defaults, **{field: value for field, value in drawn.items() if unset or value is not None})


@st.composite
def nets(draw: st.DrawFn) -> NetOptions:
    net: NetOptions = draw(options("net", NetOptions()))
    # What options forbid each other is not what this test is about.
    return replace(
        net,
        timeout_ms=min(net.timeout_ms, net.connect_int_ms - 100, net.ping_int_ms - 100),
        shared_secret=net.shared_secret or ("secret" if net.cram_hmac_alg else None),
        fencing="dont-care" if net.protocol == "A" else net.fencing,
        on_congestion="block" if net.protocol != "A" else net.on_congestion,
    )


@st.composite
def meta_disks(draw: st.DrawFn, unique: str) -> MetaDisk:
    match draw(st.sampled_from(MetaDiskKind)):
        case MetaDiskKind.FLEXIBLE:
            return MetaDisk(MetaDiskKind.FLEXIBLE, f"/meta/{unique}")
        case MetaDiskKind.INDEXED:
            return MetaDisk(MetaDiskKind.INDEXED, f"/slots/{unique}", draw(st.integers(0, 999)))
        case kind:
            return MetaDisk(kind)


@st.composite
def disks(draw: st.DrawFn, base: DiskOptions, first: str | None, *, unset: bool = True) -> DiskOptions:
    """Disk options; the first resource comes before all others, so that there is an order of resyncs."""
    disk: DiskOptions = draw(options("disk", base, unset=unset))
    if first is None:
        return replace(disk, resync_after=None, sync_group=0)
    return replace(disk, resync_after=first if disk.resync_after else None)


@st.composite
def volumes(
    draw: st.DrawFn, index: int, numbers: list[int], disk: DiskOptions, first: str | None
) -> tuple[Volume, ...]:
    return tuple(
        Volume(
            number,
            device=path_from([*draw(PATHS), f"{index}.{number}"]),
            minor=draw(st.none() | st.just(index * 100 + at)),
            disk=path_from([*draw(PATHS), f"{index}.{number}"]),
            meta_disk=draw(meta_disks(f"{index}.{number}")),
            options=draw(st.just(disk) | disks(disk, first, unset=False)),
        )
        for at, number in enumerate(numbers)
    )


@st.composite
def resources(draw: st.DrawFn, name: str, index: int, before: str | None) -> Resource:
    disk = draw(disks(DiskOptions(), before))
    numbers = sorted(draw(st.sets(st.integers(0, 65535), min_size=1, max_size=3)))
    first, second = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    addresses = ("10.0.0.1", "10.0.0.2") if draw(st.booleans()) else ("fd00::1", "fe80::2")
    ids = draw(st.sampled_from([(None, None), (0, 1), (31, 0)]))
    hosts = [
        Host(host, address, 7000 + index, draw(volumes(index, numbers, disk, before)), node_id)
        for host, address, node_id in zip((first, second), addresses, ids, strict=True)
    ]
    return Resource(
        name,
        (hosts[0], hosts[1]),
        net=draw(nets()),
        disk=disk,
        startup=replace(
            draw(options("startup", StartupOptions())), become_primary_on=draw(st.sampled_from([None, first]))
        ),
        handlers=draw(options("handlers", Handlers())),
        options=draw(options("options", ResourceOptions())),
        fsckcmd=draw(st.none() | TEXTS),
        attach=draw(st.sampled_from(["auto", "nbd", "ublk", "fuse", "none"])),
    )


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    names = draw(st.lists(NAMES, min_size=1, max_size=2, unique=True))
    found = tuple(draw(resources(name, index, names[0] if index else None)) for index, name in enumerate(names))
    return Configuration(found, draw(options("global", GlobalOptions())))


def outcome(text: str) -> Configuration | ConfigError:
    try:
        return parse(text)
    except ConfigError as error:
        return error


def read(text: str) -> None:
    """Read any text: the answer is one of two, and an error is one line with its place."""
    result = outcome(text)
    if isinstance(result, ConfigError):
        assert result.exit_code in (2, 10)
        assert str(result).startswith("drbd.conf:")
        assert str(result).isprintable()
        assert 0 <= result.line <= text.count("\n") + 1


# Building a configuration by hypothesis takes longer than reading it; the deadline is for the latter.
@settings(max_examples=60, deadline=timedelta(seconds=5))
@given(configurations())
def test_what_is_dumped_is_read_back_equal(configuration: Configuration) -> None:
    text = dump(configuration)
    assert parse(text) == configuration, listed(resource.name for resource in configuration.resources)
    assert dump(parse(text)) == text


@settings(max_examples=150, deadline=timedelta(seconds=1))
@given(st.text(max_size=300) | st.text(' \n\t{}=;"#\\[]x1.:/', max_size=300))
def test_arbitrary_text_is_read_or_refused(text: str) -> None:
    read(text)


FRAGMENTS = sorted(
    {word for text in (SEED, R0) for word in text.split()}
    | set('{};=#"\n\\')
    | {"skip", "include", "volume", "0", "net"}
)


@settings(max_examples=200, deadline=timedelta(seconds=1))
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60), st.sampled_from([" ", "\n"]))
def test_words_of_configurations_in_any_order_are_read_or_refused(words: list[str], between: str) -> None:
    read(between.join(words))


@settings(max_examples=200, deadline=timedelta(seconds=1))
@given(st.sampled_from([SEED, R0]), st.data())
def test_a_configuration_with_a_piece_replaced_is_read_or_refused(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    read(text[:start] + data.draw(st.text(max_size=5) | st.sampled_from(FRAGMENTS)) + text[end:])


def test_large_texts_take_no_long() -> None:
    for piece in ("{", "a {", "x ", "x = ", '"', "# ", "key value; ", "\n", "=", "skip { "):
        read(piece * 3000)
