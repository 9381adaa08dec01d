"""Two real nodes for a test, and their end whatever happens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pair import Pair

MIB = 1 << 20
DISK_BYTES = 64 * MIB


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Yield both nodes with metadata on their disks, not started."""
    with Pair.create(tmp_path, DISK_BYTES) as both:
        both.create_metadata()
        yield both


@pytest.fixture
def synced_pair(pair: Pair) -> Pair:
    """Return both nodes, connected and in sync; castor is primary."""
    pair.up()
    pair.first_sync()
    return pair


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield a pair in sync, castor primary, for tests that only use its device."""
    with Pair.create(tmp_path_factory.mktemp("shared"), DISK_BYTES) as both:
        both.create_metadata()
        both.up()
        both.first_sync()
        yield both
