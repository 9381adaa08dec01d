"""House rules that no other tool checks: sizes, borders between rooms, marks left behind."""

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FILE_LINES = 500
PYTHON_FUNCTION_LINES = 50
C_FILE_LINES = 600
C_HEADER_LINES = 200
C_FUNCTION_LINES = 60
FOLDER_FILES = 16
TEXT_SUFFIXES = {".py", ".c", ".h", ".md", ".toml", ".txt", ".lark", ".in", ".fio", ".conf", ".res", ""}
COPIED = {"LICENSE"}


def project_files() -> list[Path]:
    """Return every file of the project: what git tracks or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted({ROOT / name for name in names if name and (ROOT / name).is_file()})


FILES = project_files()


def files(*patterns: str) -> list[Path]:
    return [path for path in FILES if any(path.relative_to(ROOT).match(pattern) for pattern in patterns)]


def in_folder(folder: str, suffix: str) -> list[Path]:
    return [path for path in FILES if path.is_relative_to(ROOT / folder) and path.suffix == suffix]


def text_files() -> Iterator[tuple[str, str]]:
    for path in FILES:
        name = str(path.relative_to(ROOT))
        if path.suffix in TEXT_SUFFIXES and "golden" not in path.parts and "corpus" not in path.parts:
            try:
                yield name, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def shown(path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(ROOT)}" + (f":{line}" if line else "")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_every_file_stays_within_its_length() -> None:
    limits = {".py": PYTHON_FILE_LINES, ".c": C_FILE_LINES, ".h": C_HEADER_LINES}
    too_long = [
        f"{shown(path)} has {len(lines(path))} lines, {limits[path.suffix]} are allowed: split it by noun"
        for path in FILES
        if path.suffix in limits and len(lines(path)) > limits[path.suffix]
    ]
    assert not too_long, "\n".join(too_long)


def python_functions(path: Path) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def c_functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, line and length of each function: its braces stand alone in the first column."""
    begin = 0
    text = lines(path)
    for number, line in enumerate(text, start=1):
        if line == "{":
            begin = number
        elif line == "}" and begin:
            yield text[begin - 2].strip(), begin, number - begin + 1
            begin = 0


def test_every_function_stays_within_its_length() -> None:
    too_long = [
        f"{shown(path, line)}: {name} has {length} lines, {PYTHON_FUNCTION_LINES} are allowed"
        for path in files("*.py")
        for name, line, length in python_functions(path)
        if length > PYTHON_FUNCTION_LINES
    ]
    too_long += [
        f"{shown(path, line)}: {name} has {length} lines, {C_FUNCTION_LINES} are allowed"
        for path in files("*.c", "*.h")
        for name, line, length in c_functions(path)
        if length > C_FUNCTION_LINES
    ]
    assert not too_long, "\n".join(too_long)


def test_no_folder_holds_more_nouns_than_a_reader_can_hold() -> None:
    # A header belongs to the .c file of its name and is not counted beside it.
    counts = Counter(path.parent for path in FILES if path.suffix in {".py", ".c"} and path.name != "__init__.py")
    too_full = [f"{shown(folder)}/ holds {count} files" for folder, count in counts.items() if count > FOLDER_FILES]
    assert not too_full, "\n".join(too_full)


def test_every_c_file_names_its_licence_at_its_head() -> None:
    bare = [
        shown(path)
        for path in files("*.c", "*.h")
        if "SPDX-License-Identifier: GPL-2.0-or-later" not in "\n".join(lines(path)[:4])
    ]
    assert not bare, bare


def test_every_module_of_the_program_says_what_it_is() -> None:
    silent = [shown(path) for path in in_folder("src", ".py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent, silent


def test_only_core_imports_the_compiled_core() -> None:
    intruders = [
        shown(path)
        for path in in_folder("src/pydrbd", ".py")
        if path.parent.name != "core" and re.search(r"import _core\b|core\._core\b", path.read_text(encoding="utf-8"))
    ]
    assert not intruders, intruders


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


def test_only_io_uring_and_the_carrier_of_ublks_commands_include_liburing() -> None:
    users = [
        shown(path) for path in in_folder("csrc", ".c") + in_folder("csrc", ".h") if "liburing.h" in includes(path)
    ]
    assert {Path(name).name for name in users} <= {"io_uring.c", "ublk_control.c"}, users


def test_only_checksum_includes_openssl() -> None:
    sources = in_folder("csrc", ".c") + in_folder("csrc", ".h")
    users = [shown(path) for path in sources if any(name.startswith("openssl/") for name in includes(path))]
    assert {Path(name).name for name in users} == {"checksum.c"}, users


def test_nbd_includes_nothing_of_the_data_plane() -> None:
    data_plane = {path.name for path in in_folder("csrc", ".h")}
    intruders = [
        f"{shown(path)} includes {name}"
        for path in in_folder("nbd", ".c") + in_folder("nbd", ".h")
        for name in includes(path)
        if Path(name).name in data_plane
    ]
    assert not intruders, intruders


def test_the_border_has_no_directive_but_plain_numbers() -> None:
    wrong = [
        shown(ROOT / "csrc" / header, number)
        for header in ("core_values.h", "core_api.h")
        for number, line in enumerate(lines(ROOT / "csrc" / header), start=1)
        if line.lstrip().startswith("#") and not re.fullmatch(r"#define [A-Z][A-Z0-9_]* \d+( */\*.*\*/)?", line)
    ]
    assert not wrong, wrong


def test_no_promise_is_left_to_later_in_a_comment() -> None:
    mark = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")
    found = [name for name, text in text_files() if mark.search(text) and name not in COPIED]
    assert not found, found


def test_no_file_names_the_directory_in_which_it_happens_to_lie() -> None:
    here = re.compile(rf"(?<![\w./-])({re.escape(str(ROOT))}|/home/\w+)/")
    found = [name for name, text in text_files() if here.search(text)]
    assert not found, found


@pytest.mark.parametrize("command", ["demo", "test", ".ci/run", "tools/prepare"])
def test_the_commands_can_be_run(command: str) -> None:
    assert (ROOT / command).stat().st_mode & 0o111
