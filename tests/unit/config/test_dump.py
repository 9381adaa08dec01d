"""`pydrbd dump`: canonical text of the 8.4 dialect."""

from helpers.configurations import R0, SEED
from pydrbd.config import dump, parse


def test_the_seed_in_the_dialect_of_84() -> None:
    assert (
        dump(parse(SEED))
        == """\
resource drbd0 {
    fsckcmd /usr/bin/true;
    net {
        protocol C;
    }
    on castor {
        address ipv4 10.0.0.1:7788;
        volume 0 {
            device /dev/nb0 minor 0;
            disk /dev/md3;
            meta-disk file;
        }
    }
    on pollux {
        address ipv4 10.0.0.2:7788;
        volume 0 {
            device /dev/nb0 minor 0;
            disk /dev/md3;
            meta-disk file;
        }
    }
}
"""
    )


def test_only_what_is_no_default_is_written() -> None:
    text = R0.replace("{\n", "{\n  net { timeout 60; ping-int 15; }\n", 1)
    lines = [line.strip() for line in dump(parse(text)).split("\n")]
    assert lines[1:5] == ["net {", "protocol C;", "ping-int 15;", "}"]


def test_a_volumes_own_disk_options_are_written_in_it() -> None:
    text = """resource r0 {
        disk { resync-rate 10M; al-updates no; }
        volume 0 { device minor 0; disk /dev/a; disk { resync-rate 1536; size 4M; } }
        on castor { address 10.0.0.1:7788; }
        on pollux { address [::1]:7788; } }""".replace("10.0.0.1", "[fd00::1]")
    configuration = parse(text)
    written = dump(configuration)
    assert "disk {\n                size 4M;\n                resync-rate 1536;\n            }" in written
    assert "address ipv6 [fd00::1]:7788;" in written
    assert parse(written) == configuration


def test_what_needs_quotes_gets_them() -> None:
    command = r'/bin/sh -c "echo \"a; b\" # c" \\'
    configuration = parse(
        R0.replace(
            "{\n", '{\n handlers { split-brain "' + command.replace("\\", "\\\\").replace('"', '\\"') + '"; }\n', 1
        )
    )
    assert configuration.resource("r0").handlers.split_brain == command
    assert parse(dump(configuration)) == configuration


def test_global_options_and_several_resources() -> None:
    second = R0.replace("r0", "r1").replace("drbd0", "drbd1").replace("vdb", "vdc").replace("7788", "7789")
    configuration = parse("global { dialog-refresh 5; usage-count no; }" + R0 + second)
    written = dump(configuration)
    assert written.startswith("global {\n    dialog-refresh 5;\n}\n\nresource r0 {\n")
    assert "}\n\nresource r1 {\n" in written
    assert parse(written) == configuration
