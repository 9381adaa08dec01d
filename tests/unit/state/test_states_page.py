"""docs/states.md says what the tables say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_about_states_is_current() -> None:
    written = subprocess.run(
        [sys.executable, ROOT / "tools" / "states_page.py"], check=True, capture_output=True, text=True
    ).stdout
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    assert page == written, "run: python tools/states_page.py > docs/states.md"
