"""The verbs that need no daemon: what they say and ask, what they exit with, and that a refusal changes nothing."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fakes.golden_disk import DISK_BYTES, GoldenDisk
from pydrbd.cli.metadata_verbs import COMMANDS
from pydrbd.config.description import Configuration, Host, MetaDisk, MetaDiskKind, Resource, Volume
from pydrbd.model.generation import GenerationIds, MdFlag
from pydrbd.node.backing.metadata_place import MetadataPlace
from pydrbd.node.metadata_store import MetadataStore

MIB = 1 << 20


@dataclass
class Context:
    """The command line's context object, with a configuration of one resource."""

    folder: Path
    meta_disk: MetaDisk = field(default_factory=lambda: MetaDisk(MetaDiskKind.INTERNAL))
    node_name: str = "castor"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def volume(self) -> Volume:
        return Volume(0, "/dev/nb0", 0, str(self.disk), self.meta_disk)

    @property
    def place(self) -> MetadataPlace:
        return MetadataPlace.of(self.volume, "drbd0", self.state_dir)

    def configuration(self) -> Configuration:
        hosts = (Host("castor", "127.0.0.1", 7788, (self.volume,)), Host("pollux", "127.0.0.2", 7788, (self.volume,)))
        return Configuration((Resource("drbd0", hosts),))

    def resource(self, name: str) -> Resource:
        return self.configuration().resource(name)

    def tail(self) -> bytes:
        with self.disk.open("rb") as disk:
            disk.seek(-MIB, os.SEEK_END)
            return disk.read()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    context = Context(tmp_path)
    context.disk.touch()
    os.truncate(context.disk, DISK_BYTES)
    return context


def run(context: Context, *arguments: str, answer: str = "") -> Result:
    group = click.Group(commands=COMMANDS)
    return CliRunner().invoke(group, list(arguments), obj=context, input=answer, catch_exceptions=False)


def crash(context: Context) -> None:
    with context.disk.open("r+b") as disk:
        disk.seek(-65536, os.SEEK_END)
        disk.write(GoldenDisk.load("primary-running").tail)


def make_filesystem(context: Context, *size: str) -> None:
    program = shutil.which("mke2fs", path=f"{os.environ['PATH']}:/sbin:/usr/sbin")
    if program is None:
        pytest.skip("mke2fs is not installed")
    subprocess.run([program, "-q", "-F", "-t", "ext4", str(context.disk), *size], check=True, capture_output=True)


def test_an_empty_disk_needs_no_question(context: Context):
    result = run(context, "create-md", "drbd0")
    assert result.exit_code == 0
    assert "internal metadata at byte 536866816, for a device of 511.9 MiB at most" in result.stdout
    assert result.stdout.endswith("New drbd meta data block successfully created.\n")
    assert "confirm" not in result.stderr
    line = run(context, "get-gi", "drbd0/0").stdout
    assert line.startswith("0000000000000004:0000000000000000:")


def test_two_disks_get_two_device_identifiers(context: Context):
    seen = set()
    for _ in range(2):
        run(context, "create-md", "--force", "drbd0")
        store = MetadataStore.open(context.place)
        seen.add(store.superblock.device_uuid)
        store.close()
    assert len(seen) == 2


@pytest.mark.parametrize("answer", ["", "no\n", "y\n", "YES\n"])
def test_a_filesystem_is_kept_unless_yes_is_typed_in_full(context: Context, answer: str):
    make_filesystem(context)
    before = context.tail()
    result = run(context, "create-md", "drbd0", answer=answer)
    assert result.exit_code == 1
    assert "found ext4 filesystem, 512 MiB: its last 52 KiB would be overwritten" in result.stderr
    assert "Operation canceled." in result.stdout
    assert context.tail() == before


def test_yes_or_force_go_on(context: Context):
    make_filesystem(context, "100M")
    result = run(context, "create-md", "drbd0", answer="yes\n")
    assert result.exit_code == 0
    assert "found ext4 filesystem, 100 MiB, which leaves room for the metadata behind it" in result.stderr
    result = run(context, "create-md", "--force", "drbd0")
    assert result.exit_code == 0
    assert "found DRBD v08 internal metadata" in result.stderr
    assert "forced via --force" in result.stderr


def test_external_metadata_leaves_the_filesystem_and_says_so(context: Context):
    make_filesystem(context)
    context.meta_disk = MetaDisk(MetaDiskKind.FILE)
    before = context.tail()
    result = run(context, "create-md", "drbd0", answer="yes\n")
    assert result.exit_code == 0
    assert "found ext4 filesystem, 512 MiB; it is kept" in result.stderr
    assert context.tail() == before
    assert (context.state_dir / "drbd0.md").stat().st_size == 36864 + 16384


def test_the_neighbours_slot_is_not_asked_about_but_our_own_is(context: Context, tmp_path: Path):
    shared = tmp_path / "shared"
    shared.touch()
    os.truncate(shared, 256 * MIB)
    for index in (0, 1):
        context.meta_disk = MetaDisk(MetaDiskKind.INDEXED, str(shared), index)
        assert run(context, "create-md", "drbd0").exit_code == 0
    result = run(context, "create-md", "drbd0")
    assert result.exit_code == 1
    assert "found DRBD v08 metadata in slot 1" in result.stderr


def test_a_disk_in_use_is_refused_even_with_force_and_its_user_named(context: Context):
    run(context, "create-md", "drbd0")
    store = MetadataStore.open(context.place)
    for arguments in (["create-md", "-f"], ["wipe-md", "-f"], ["apply-al"]):
        result = run(context, *arguments, "drbd0")
        assert result.exit_code == 20
        assert f"{context.disk} is in use by " in result.stderr
        assert f"(pid {os.getpid()})" in result.stderr
    store.close()


def test_identifiers_are_read_beside_the_one_who_has_the_disk(context: Context):
    run(context, "create-md", "drbd0")
    store = MetadataStore.open(context.place)
    store.write(GenerationIds(0xAA, 0xBB, 0, 0), MdFlag.CONSISTENT, 16384)
    for verb in ("get-gi", "show-gi"):
        result = run(context, verb, "drbd0")
        assert result.exit_code == 0
        assert "00000000000000AA:00000000000000BB:" in result.stdout
        assert "# Output might be stale" in result.stderr
    store.close()


def test_a_disk_too_small_is_refused_in_one_sentence(context: Context):
    os.truncate(context.disk, 40960)
    result = run(context, "create-md", "--force", "drbd0")
    assert result.exit_code == 10
    assert "too small" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_metadata_the_readers_exit_255_and_name_the_remedy(context: Context):
    for verb in ("dump-md", "show-gi", "get-gi", "apply-al"):
        result = run(context, verb, "drbd0")
        assert result.exit_code == 255
        assert result.stderr == f"{context.disk}: no DRBD metadata (found zeros); `pydrbd create-md` makes it\n"


def test_a_metadata_file_that_is_not_there_is_no_metadata(context: Context):
    context.meta_disk = MetaDisk(MetaDiskKind.FILE)
    result = run(context, "get-gi", "drbd0")
    assert result.exit_code == 255
    assert "drbd0.md: no DRBD metadata (no such file); `pydrbd create-md` makes it" in result.stderr
    assert not context.state_dir.exists()


def test_our_own_file_is_made_anew_after_wiping_without_a_question(context: Context):
    context.meta_disk = MetaDisk(MetaDiskKind.FILE)
    for arguments in (["create-md"], ["wipe-md", "-f"], ["create-md"]):
        assert run(context, *arguments, "drbd0").exit_code == 0


def test_unclean_metadata_is_dumped_only_by_force(context: Context):
    crash(context)
    result = run(context, "dump-md", "drbd0")
    assert (result.exit_code, result.stdout) == (255, "")
    assert 'Found meta data is "unclean", please apply-al first' in result.stderr
    assert "This_is_an_unclean" in run(context, "dump-md", "--force", "drbd0").stdout


def test_apply_al_says_how_much_it_marked(context: Context):
    crash(context)
    result = run(context, "apply-al", "drbd0")
    assert (result.exit_code, result.stderr) == (0, "Marked additional 8192 KB as out-of-sync based on AL.\n")
    assert run(context, "apply-al", "drbd0").stderr == "Nothing to do.\n"
    assert "# bits-set 2048;" in run(context, "dump-md", "drbd0").stdout


def test_a_dump_comes_back_on_another_disk(context: Context, tmp_path: Path):
    crash(context)
    run(context, "apply-al", "drbd0")
    dump = run(context, "dump-md", "drbd0").stdout
    (tmp_path / "dump").write_text(dump)
    run(context, "create-md", "--force", "drbd0")
    result = run(context, "restore-md", "--force", "drbd0", str(tmp_path / "dump"))
    assert (result.exit_code, result.stdout) == (0, "Successfully restored meta data\n")

    def values(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("# ") or "bits-set" in line]

    assert values(run(context, "dump-md", "drbd0").stdout) == values(dump)


def test_a_garbled_dump_restores_nothing(context: Context, tmp_path: Path):
    run(context, "create-md", "drbd0")
    before = context.tail()
    (tmp_path / "dump").write_text('version "v08";\nuuid {\n 0x12;')
    result = run(context, "restore-md", "--force", "drbd0", str(tmp_path / "dump"))
    assert result.exit_code == 10
    assert "line 3: expected 16 hexadecimal digits, found '0x12'" in result.stderr
    assert context.tail() == before


def test_wiping_asks_and_twice_is_no_error(context: Context):
    run(context, "create-md", "drbd0")
    assert run(context, "wipe-md", "drbd0", answer="no\n").exit_code == 1
    assert run(context, "get-gi", "drbd0").exit_code == 0
    assert run(context, "wipe-md", "drbd0", answer="yes\n").exit_code == 0
    result = run(context, "wipe-md", "drbd0")
    assert result.exit_code == 0
    assert "no drbd meta data to wipe out" in result.stderr


def test_a_garbled_superblock_can_be_wiped(context: Context):
    run(context, "create-md", "drbd0")
    with context.disk.open("r+b") as disk:
        disk.seek(-4096 + 200, os.SEEK_END)
        disk.write(b"\1")
    assert run(context, "get-gi", "drbd0").exit_code == 255
    assert run(context, "wipe-md", "--force", "drbd0").exit_code == 0
    assert not any(context.tail()[-4096:])


def test_an_unknown_volume_is_a_usage_error(context: Context):
    result = run(context, "get-gi", "drbd0/7")
    assert result.exit_code == 2
    assert "resource drbd0 has no volume 7" in result.stderr
