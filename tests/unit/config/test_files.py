"""Reading the configuration and what it includes from real files."""

import os
from pathlib import Path

import pytest

from helpers.configurations import R0, SEED
from pydrbd.config import ConfigError, load, parse


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "drbd.conf"
    path.write_text(SEED)
    assert load(path) == parse(SEED)


def test_includes_are_relative_to_the_file_and_sorted(tmp_path: Path) -> None:
    folder = tmp_path / "drbd.d"
    folder.mkdir()
    (tmp_path / "drbd.conf").write_text('include "drbd.d/global_common.conf";\ninclude "drbd.d/*.res";\n')
    (folder / "global_common.conf").write_text("common { net { protocol B; } }")
    (folder / "b.res").write_text(R0.replace("r0", "b"))
    (folder / "a.res").write_text(
        R0.replace("r0", "a").replace("drbd0", "drbd1").replace("vdb", "x").replace("7788", "1")
    )
    (folder / ".#b.res").write_text("an editor's lock")
    (folder / "b.res~").write_text("an editor's backup")
    configuration = load(tmp_path / "drbd.conf")
    assert [(resource.name, resource.protocol) for resource in configuration.resources] == [("a", "B"), ("b", "B")]


def test_a_folder_whose_name_looks_like_a_pattern_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    (folder / "drbd.conf").write_text('include "*.res";')
    (folder / "r0.res").write_text(R0)
    assert load(folder / "drbd.conf") == parse(R0)


def test_a_pattern_that_matches_nothing_is_no_error_but_a_name_is(tmp_path: Path) -> None:
    path = tmp_path / "drbd.conf"
    path.write_text(f'include "drbd.d/*.res";\n{R0}')
    assert load(path) == parse(R0)
    path.write_text(f'\ninclude "r1.res";\n{R0}')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:2: cannot include 'r1.res': No such file or directory"


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "drbd.conf")
    assert str(caught.value) == f"{tmp_path}/drbd.conf: cannot read the configuration: No such file or directory"
    assert caught.value.exit_code == 10


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "drbd.conf"
    path.write_text(SEED)
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot read the configuration: Permission denied"):
        load(path)


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "drbd.conf"
    path.write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:2: 'drbd.conf' is not a text in UTF-8"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="the file is larger than 1 MiB"):
        load(Path("/dev/zero"))
