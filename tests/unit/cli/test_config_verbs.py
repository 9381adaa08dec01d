"""`pydrbd dump` and `pydrbd sh-resources`."""

from dataclasses import dataclass

from click.testing import CliRunner, Result

from helpers.configurations import R0, SEED
from pydrbd.cli.config_verbs import COMMANDS
from pydrbd.config import Configuration, parse


@dataclass
class FakeContext:
    text: str

    def configuration(self) -> Configuration:
        return parse(self.text)


def run(text: str, name: str, *arguments: str) -> Result:
    (command,) = (command for command in COMMANDS if command.name == name)
    return CliRunner().invoke(command, arguments, obj=FakeContext(text))


def test_dump_prints_what_can_be_read_back() -> None:
    result = run(SEED, "dump")
    assert result.exit_code == 0
    assert parse(result.stdout) == parse(SEED)


def test_dump_of_one_resource() -> None:
    second = R0.replace("r0", "r1").replace("drbd0", "drbd1").replace("vdb", "vdc").replace("7788", "7789")
    assert parse(run(R0 + second, "dump", "r1").stdout) == parse(second)
    assert parse(run(R0 + second, "dump", "all").stdout) == parse(R0 + second)


def test_a_resource_that_is_not_there_is_one_line_on_stderr() -> None:
    result = run(SEED, "dump", "drbd1")
    assert (result.exit_code, result.stdout) == (10, "")
    assert result.stderr == "drbd.conf: no resource 'drbd1' is configured; there is drbd0; did you mean 'drbd0'?\n"


def test_an_invalid_configuration_ends_with_drbdadms_exit_code() -> None:
    result = run(SEED.replace("protocol", "protokol"), "dump")
    assert result.exit_code == 10
    assert result.stderr == "drbd.conf:2: unknown key 'protokol' in resource drbd0; did you mean 'protocol'?\n"
    assert run(SEED + "}", "sh-resources").exit_code == 2


def test_sh_resources_prints_the_names_on_one_line() -> None:
    second = R0.replace("r0", "r1").replace("drbd0", "drbd1").replace("vdb", "vdc").replace("7788", "7789")
    assert run(R0 + second, "sh-resources").stdout == "r0 r1\n"
