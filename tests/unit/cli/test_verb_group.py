"""Every verb's module is imported only when it is called, and none is forgotten."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pydrbd.cli.verb_group import MODULES, commands_of


@pytest.mark.parametrize("module", MODULES)
def test_the_table_names_the_verbs_of_each_module(module: str):
    assert [command.name for command in commands_of(module)] == list(MODULES[module])


def test_a_verb_for_a_running_daemon_imports_no_grammar_and_no_engine():
    program = "import sys, pydrbd.cli.status_verbs, pydrbd.cli.main; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert "click" in modules
    assert not {"lark", "rich", "uvloop", "_cffi_backend", "pydrbd.core.engine"} & set(modules)
