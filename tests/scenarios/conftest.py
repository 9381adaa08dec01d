"""`pytest tests/scenarios --rewrite` writes what came out into the files; read the diff before you believe it."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the output of the scenarios into their files")
