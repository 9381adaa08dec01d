"""What drbd 0.6 read, and what its keys mean in the description."""

import pytest

from helpers.configurations import SEED
from pydrbd.config import ConfigError, DiskOptions, MetaDisk, MetaDiskKind, NetOptions, Resource, parse


def seed_with(*lines: str, on: str = "") -> Resource:
    """Return the seed's resource with lines before its first `on` section, and a line in both `on` sections."""
    text = SEED.replace("\n  on castor", "\n".join(["", *lines, "  on castor"]))
    return parse(text.replace("    port ", f"    {on}\n    port ")).resource("drbd0")


def test_all_keys_of_the_net_section_are_mapped() -> None:
    resource = seed_with(
        "net {",
        "  sync-max = 8M",
        "  sync-min = 500",
        "  sync-nice = -5",
        "  sync-group = 2",
        "  skip-sync",
        "  connect-int = 20",
        "  ping-int = 15",
        "  timeout = 50",
        "  tl-size = 5000",
        "  sndbuf-size = 256",
        "  ko-count = 4",
        "}",
    )
    assert resource.net == NetOptions(
        skip_sync=True,
        connect_int_ms=20_000,
        ping_int_ms=15_000,
        timeout_ms=5000,
        sndbuf_size_bytes=256 << 10,
        ko_count=4,
    )
    assert resource.disk == DiskOptions(
        c_max_rate_kib_per_s=8192, resync_rate_kib_per_s=8192, c_min_rate_kib_per_s=500, sync_group=2
    )


def test_a_group_of_resyncs_never_makes_a_cycle() -> None:
    other = SEED.replace("drbd0", "drbd1").replace("nb0", "nb1").replace("md3", "md4").replace("7788", "7789")
    grouped = SEED.replace("\n  on castor", "\n  net {\n  sync-group = 1\n  }\n  on castor")
    assert [resource.disk.sync_group for resource in parse(grouped + other).resources] == [1, 0]


def test_disk_size_counts_in_kilobytes_and_takes_a_suffix() -> None:
    assert seed_with("disk {", "disk-size = 1024", "}").disk.size_bytes == 1 << 20
    assert seed_with("disk {", "disk-size = 10G", "}").disk.size_bytes == 10 << 30


def test_do_panic_becomes_the_handler_that_stops_the_host() -> None:
    resource = seed_with("disk { do-panic }")
    assert resource.disk.on_io_error == "call-local-io-error"
    assert resource.handlers.local_io_error == "echo o > /proc/sysrq-trigger ; halt -f"


def test_keys_of_the_boot_go_to_the_startup_options() -> None:
    startup = seed_with("inittimeout = -30", "skip-wait", "load-only", "incon-degr-cmd = halt -f").startup
    assert (startup.inittimeout_s, startup.skip_wait, startup.load_only) == (-30, True, True)
    assert startup.incon_degr_cmd == "halt -f"


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("no", False), ("1", True), ("off", False), ("true", True)])
def test_a_switch_may_have_a_value(word: str, value: bool) -> None:
    assert seed_with(f"skip-wait = {word}").startup.skip_wait is value


def test_a_command_keeps_its_blanks_quotes_and_equals_signs() -> None:
    command = """/sbin/fsck -C  'a=b' ";{x}" y"""
    assert parse(SEED.replace("/usr/bin/true", f"{command}   # really")).resource("drbd0").fsckcmd == command


def test_a_hash_within_a_word_is_data() -> None:
    assert parse(SEED.replace("/usr/bin/true", "a#b")).resource("drbd0").fsckcmd == "a#b"


@pytest.mark.parametrize(
    "text",
    [
        SEED.replace("\n", "\r\n"),
        SEED.replace(" = ", "="),
        SEED.replace("  on castor {", "  on castor\n  # the first\n  {"),
        "# our cluster = two nodes;\n" + SEED + "# end",
        SEED.replace("= C", "= c"),
        "global {\n  minor_count = 2\n  disable_io_hints\n}\n" + SEED,
        SEED.replace("}", "} # closed"),
    ],
    ids=["crlf", "no blanks", "brace below", "comments", "small letter", "global", "comment after brace"],
)
def test_the_layout_of_the_file_does_not_matter(text: str) -> None:
    assert parse(text) == parse(SEED)


@pytest.mark.parametrize(
    ("value", "meta_disk"),
    [
        ("internal", MetaDisk(MetaDiskKind.INTERNAL)),
        ("file", MetaDisk(MetaDiskKind.FILE)),
        ("/dev/sdb1", MetaDisk(MetaDiskKind.FLEXIBLE, "/dev/sdb1")),
        ("/dev/sdb1[3]", MetaDisk(MetaDiskKind.INDEXED, "/dev/sdb1", 3)),
        ("/dev/sdb1 [3]", MetaDisk(MetaDiskKind.INDEXED, "/dev/sdb1", 3)),
    ],
)
def test_meta_disk_may_be_added_to_an_on_section(value: str, meta_disk: MetaDisk) -> None:
    resource = seed_with(on=f"meta-disk = {value}")
    assert [host.volume(0).meta_disk for host in resource.hosts] == [meta_disk, meta_disk]


def test_attach_may_be_added() -> None:
    assert seed_with("attach = none").attach == "none"


def test_ipv6_addresses_are_read_and_written_in_one_form() -> None:
    resource = parse(SEED.replace("10.0.0.", "fd00:0::")).resource("drbd0")
    assert [(host.address, host.is_ipv6) for host in resource.hosts] == [("fd00::1", True), ("fd00::2", True)]


def test_port_is_required() -> None:
    with pytest.raises(ConfigError, match="section on castor of resource drbd0 has no 'port'; DRBD's port is 7788"):
        parse(SEED.replace("    port    = 7788\n", "", 1))
