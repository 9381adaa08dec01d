"""Each file is a story of two nodes, command by command, with what they say; see `helpers.scenario` for the words."""

from pathlib import Path

import pytest

from helpers.scenario import files, played

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("path", files(FOLDER), ids=lambda path: path.stem)
def test_a_scenario_goes_as_it_is_written(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    now = played(text)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(now, encoding="utf-8")
    else:
        assert now == text


def test_there_are_scenarios() -> None:
    assert len(files(FOLDER)) >= 15
