"""The pages agree with the code, and their links lead somewhere."""

import re
import tomllib
from pathlib import Path

import click
import pytest

from pydrbd.model.policies import AfterSplitBrain
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role, Word

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
SECTIONS: dict[str, type[Word]] = {
    "Role": Role,
    "Disk state": DiskState,
    "Connection state": ConnectionState,
    "Replication state": ReplicationState,
}


def first_column(text: str) -> list[str]:
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


@pytest.mark.parametrize("section", SECTIONS)
def test_the_glossary_lists_the_states_as_they_print_in_their_order(section: str) -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    text = page.split(f"## {section}\n")[1].split("\n## ")[0]
    assert first_column(text) == [str(state) for state in SECTIONS[section]]


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[<>=]", name)[0] for name in [*project["dependencies"], *extras["test"], *extras["dev"]]}
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    explained = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")} - {"package"}
    assert explained == wanted


def test_every_decision_is_linked() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    pages = sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert pages
    assert [name for name in pages if f"({name})" not in index] == []
    numbers = [name[:4] for name in pages]
    assert len(set(numbers)) == len(numbers), "two decisions have the same number"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_leads_with_the_two_commands() -> None:
    commands = re.findall(r"^    (\S+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert commands[:2] == ["./demo", "./test"]


def test_every_verb_that_operations_names_is_one() -> None:
    from pydrbd.cli.main import pydrbd

    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    verbs = set(re.findall(r"\bpydrbd\s+([a-z][a-z-]+)", page))
    assert verbs - set(pydrbd.list_commands(click.Context(pydrbd))) == set()
    assert {"why", "status", "show-gi", "connect", "create-md"} <= verbs


def test_operations_explains_every_policy_and_quotes_sentences_that_are_said() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for policy in AfterSplitBrain:
        word = policy.word.replace("discard-local", "discard-node-").replace("discard-remote", "discard-node-")
        assert word in page
    table = page.split("| sentence | what to do |")[1].split("\n\n")[0]
    source = re.sub(r'"\s*f?"', "", "".join(path.read_text() for path in (ROOT / "src").rglob("*.py")))
    for row in table.splitlines()[2:]:
        sentence = row.split("`")[1]
        parts = [part.strip() for part in sentence.split("...")]
        assert [part for part in parts if part not in source] == [], sentence


def test_the_tests_that_the_page_about_testing_names_exist() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    missing = [name for name in re.findall(r"`(test_\w+)`", page) if f"def {name}(" not in tests]
    missing += [
        name for name in re.findall(r"`(\d\d-[\w-]+)`", page) if not (ROOT / f"tests/scenarios/{name}.txt").exists()
    ]
    assert not missing, missing
