"""The table of options and the description agree, and the page made from the table is current."""

import dataclasses
import re
from pathlib import Path

import pytest

from pydrbd.config.description import (
    DiskOptions,
    GlobalOptions,
    Handlers,
    NetOptions,
    ResourceOptions,
    StartupOptions,
)
from pydrbd.config.options import OPTIONS, PENDING, Kind, option
from pydrbd.config.reference import reference_markdown

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/configuration.md"
PACKAGE = ROOT / "src/pydrbd"
SECTIONS = {
    "net": NetOptions,
    "disk": DiskOptions,
    "startup": StartupOptions,
    "handlers": Handlers,
    "options": ResourceOptions,
    "global": GlobalOptions,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_is_a_field_with_the_same_default(section: str) -> None:
    table = {row.field: row.default_value for row in OPTIONS if row.section == section and row.kept}
    fields = {each.name: each.default for each in dataclasses.fields(SECTIONS[section])}
    assert fields == table


def test_no_option_stands_twice_in_the_table() -> None:
    names = [(row.section, row.name) for row in OPTIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: f"{row.section} {row.name}")
def test_every_default_is_a_value_that_the_option_may_have(row: object) -> None:
    assert row in OPTIONS
    match row.kind:
        case Kind.INTEGER:
            assert row.default is None or row.low <= row.default <= row.high
        case Kind.WORD:
            assert row.default is None or row.default == row.words[0]
        case Kind.BOOLEAN:
            assert isinstance(row.default, bool)
        case Kind.TEXT:
            assert row.default is None
            assert row.high


def test_every_option_says_what_it_does() -> None:
    assert [row.name for row in OPTIONS if not row.meaning] == []


def test_a_stalled_peer_is_expelled_in_less_than_ten_seconds() -> None:
    net = NetOptions()
    assert 0 < net.timeout_ms * net.ko_count < 10_000


@pytest.mark.parametrize(
    ("section", "name", "default", "low", "high"),
    [
        ("net", "timeout", 60, 1, 600),
        ("net", "ping-timeout", 5, 1, 300),
        ("net", "max-buffers", 2048, 32, 131072),
        ("disk", "al-extents", 1237, 67, 65534),
        ("disk", "c-plan-ahead", 20, 0, 300),
        ("disk", "resync-rate", 250, 1, 8 << 20),
        ("startup", "wfc-timeout", 0, 0, 300000),
    ],
)
def test_defaults_and_ranges_are_those_of_drbd(section: str, name: str, default: int, low: int, high: int) -> None:
    row = option(section, name)
    assert (row.default, row.low, row.high) == (default, low, high)


def test_a_resync_finishes_with_the_defaults() -> None:
    """DRBD's own give way at 250 KiB/s and stop at 100 MiB/s: days for a large disk in use."""
    assert option("disk", "c-min-rate").default == 4 << 10
    assert option("disk", "c-max-rate").default == 1 << 20


def test_every_option_is_acted_by_or_said_to_be_pending() -> None:
    """The page must not promise what nobody does: outside of this room somebody reads the field."""
    sources = [path for path in PACKAGE.rglob("*.py") if "config" not in path.relative_to(PACKAGE).parts[:1]]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    claimed = [row for row in OPTIONS if row.kept and not row.pending]
    assert claimed
    idle = [f"{row.section} {row.name}" for row in claimed if not re.search(rf'\.{row.field}\b|"{row.name}"', code)]
    assert idle == []


def test_what_is_pending_is_an_option_that_is_kept() -> None:
    assert [name for name in PENDING if not option(*name).kept] == []


def test_the_page_is_made_from_the_tables_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference_markdown(), (
        "run: python -m pydrbd.config.reference > docs/configuration.md"
    )
