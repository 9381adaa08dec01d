"""The kernel's own metadata, for every test of this room."""

from collections.abc import Callable

import pytest

from fakes.golden_disk import NAMES, GoldenDisk


@pytest.fixture
def golden() -> Callable[[str], GoldenDisk]:
    return GoldenDisk.load


@pytest.fixture(params=NAMES)
def golden_disk(request: pytest.FixtureRequest) -> GoldenDisk:
    return GoldenDisk.load(request.param)
