"""What drbd 8.3, 8.4 and 9 read."""

import errno
from collections.abc import Sequence

import pytest

from helpers.configurations import R0, SEED_IN_84
from pydrbd.config import ConfigError, MetaDisk, MetaDiskKind, Resource, parse


def r0_with(body: str, before: str = "") -> Resource:
    """Return resource r0 with further statements at its start, and others before it."""
    return parse(before + R0.replace("{\n", "{\n" + body, 1)).resource("r0")


def test_common_holds_where_the_resource_says_nothing() -> None:
    common = (
        "common { net { protocol A; timeout 40; } disk { on-io-error pass_on; } handlers { pri-lost x; } attach none; }"
    )
    resource = r0_with("net { protocol B; }", common)
    assert (resource.protocol, resource.net.timeout_ms) == ("B", 4000)
    assert resource.disk.on_io_error == "pass_on"
    assert resource.hosts[1].volume(0).options.on_io_error == "pass_on"
    assert (resource.handlers.pri_lost, resource.attach) == ("x", "none")


def test_volumes_inherit_from_the_resource_and_may_differ() -> None:
    resource = parse("""
        resource r0 {
            disk { resync-rate 10M; }
            volume 0 { device minor 0; disk /dev/a; disk { resync-rate 20M; } }
            volume 1 { device /dev/drbd_log minor 1; disk /dev/b; meta-disk /dev/c[1]; }
            on castor { address ipv4 10.0.0.1:7788; node-id 0; }
            on pollux { address ipv4 10.0.0.2:7788; node-id 1; volume 1 { disk /dev/z; disk { size 1G; } } }
        }
    """).resource("r0")
    castor, pollux = resource.hosts
    assert resource.volume_numbers == (0, 1)
    assert (castor.node_id, pollux.node_id) == (0, 1)
    assert castor.volume(0).device == "/dev/drbd0"
    assert [volume.options.resync_rate_kib_per_s for volume in castor.volumes] == [20 << 10, 10 << 10]
    assert (castor.volume(1).device, castor.volume(1).minor, castor.volume(1).disk) == ("/dev/drbd_log", 1, "/dev/b")
    assert (pollux.volume(1).disk, pollux.volume(1).options.size_bytes) == ("/dev/z", 1 << 30)
    assert pollux.volume(1).meta_disk == MetaDisk(MetaDiskKind.INDEXED, "/dev/c", 1)


@pytest.mark.parametrize(
    ("written", "meta_disk"),
    [
        ("meta-disk internal;", MetaDisk(MetaDiskKind.INTERNAL)),
        ("flexible-meta-disk internal;", MetaDisk(MetaDiskKind.INTERNAL)),
        ("meta-disk /dev/sdb1;", MetaDisk(MetaDiskKind.FLEXIBLE, "/dev/sdb1")),
        ("flexible-meta-disk /dev/sdb1;", MetaDisk(MetaDiskKind.FLEXIBLE, "/dev/sdb1")),
        ("meta-disk /dev/sdb1[2];", MetaDisk(MetaDiskKind.INDEXED, "/dev/sdb1", 2)),
        ("meta-disk /dev/sdb1 [2];", MetaDisk(MetaDiskKind.INDEXED, "/dev/sdb1", 2)),
        ("meta-disk file;", MetaDisk(MetaDiskKind.FILE)),
        ("", MetaDisk(MetaDiskKind.INTERNAL)),
    ],
)
def test_the_places_of_metadata(written: str, meta_disk: MetaDisk) -> None:
    resource = parse(R0.replace("meta-disk internal;", written)).resource("r0")
    assert resource.hosts[0].volume(0).meta_disk == meta_disk


def test_spellings_of_83_are_read() -> None:
    resource = r0_with(
        """
        protocol B;
        syncer { rate 33M; al-extents 257; verify-alg md5; csums-alg sha1; c-max-rate 50M; }
        disk { no-disk-flushes; no-md-flushes; fencing resource-only; }
        net { no-tcp-cork; always-asbp; }
        handlers { outdate-peer "/sbin/fence"; }
        """
    )
    assert resource.protocol == "B"
    assert (resource.disk.resync_rate_kib_per_s, resource.disk.al_extents) == (33 << 10, 257)
    assert (resource.net.verify_alg, resource.net.csums_alg) == ("md5", "sha1")
    assert (resource.disk.disk_flushes, resource.disk.md_flushes) == (False, False)
    assert (resource.net.fencing, resource.net.tcp_cork, resource.net.always_asbp) == ("resource-only", False, True)
    assert resource.handlers.fence_peer == "/sbin/fence"


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ("size 100;", "size_bytes", 51200),
        ("size 1s;", "size_bytes", 512),
        ("size 1K;", "size_bytes", 1024),
        ("resync-rate 250;", "resync_rate_kib_per_s", 250),
        ("resync-rate 1g;", "resync_rate_kib_per_s", 1 << 20),
        ("c-fill-target 1M;", "c_fill_target_sectors", 2048),
        ("rs-discard-granularity 64K;", "rs_discard_granularity_bytes", 65536),
        ("disk-timeout 15;", "disk_timeout_ms", 1500),
        ("c-plan-ahead 0;", "c_plan_ahead_ms", 0),
        ("disk-barrier;", "disk_barrier", True),
        ("read-balancing 1M-striping;", "read_balancing", "1M-striping"),
    ],
)
def test_units_and_suffixes(written: str, field: str, value: object) -> None:
    assert getattr(r0_with(f"disk {{ {written} }}").disk, field) == value


def test_quoted_strings_keep_what_is_in_them() -> None:
    secret = r'net { cram-hmac-alg sha1; shared-secret "a;b {#} \"c\" \\"; }'
    assert r0_with(secret).net.shared_secret == r'a;b {#} "c" ' + "\\"


def test_an_empty_algorithm_switches_that_of_common_off() -> None:
    assert r0_with('net { verify-alg ""; }', "common { net { verify-alg sha1; } }").net.verify_alg is None


def test_skip_takes_text_out() -> None:
    resource = r0_with("skip { net { protocol A; } } skip net { it's \"\n } skip x { a; { b } }", "skip resource r9 {}")
    assert resource == parse(R0).resource("r0")


def test_a_host_may_be_called_skip() -> None:
    resource = parse(R0.replace("castor", "skip")).resource("r0")
    assert resource.hosts[0].name == "skip"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:7788", ("10.0.0.1", 7788)),
        ("ipv4 10.0.0.1:7789", ("10.0.0.1", 7789)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    host = parse(R0.replace("10.0.0.1:7788", address)).resource("r0").hosts[0]
    assert (host.address, host.port) == expected


def test_ipv6_addresses_stand_in_brackets() -> None:
    text = R0.replace("10.0.0.1:", "ipv6 [fd00:0::1]:").replace("10.0.0.2:", "[fd00::2]:")
    assert [host.address for host in parse(text).resource("r0").hosts] == ["fd00::1", "fd00::2"]


def test_several_resources_share_a_file() -> None:
    second = R0.replace("r0", "r1").replace("drbd0", "drbd1").replace("vdb", "vdc").replace("7788", "7789")
    configuration = parse(R0 + second)
    assert [resource.name for resource in configuration.resources] == ["r0", "r1"]


class Files:
    """A reader of includes that knows some files and remembers what it was asked for."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts
        self.asked: list[tuple[str, str]] = []

    def __call__(self, pattern: str, file: str) -> Sequence[tuple[str, str]]:
        self.asked.append((pattern, file))
        if pattern not in self.texts:
            raise OSError(errno.ENOENT, "No such file or directory")
        return [(pattern, self.texts[pattern])]


def test_included_statements_stand_where_the_include_stood() -> None:
    files = Files(common="common { net { protocol B; } } include more;", more=R0)
    configuration = parse("include common;", "/etc/drbd.conf", files)
    assert configuration.resource("r0").protocol == "B"
    assert files.asked == [("common", "/etc/drbd.conf"), ("more", "common")]


def test_errors_name_the_included_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('include "r0.res";', reader=Files(**{"r0.res": "\n" + R0.replace("device", "devise")}))
    assert str(caught.value) == "r0.res:3: unknown key 'devise' in resource r0; did you mean 'device'?"


def test_an_include_that_is_missing_is_named_at_the_line_that_includes_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("\ninclude 'x';", reader=Files())
    assert str(caught.value) == "drbd.conf:2: cannot include ''x'': No such file or directory"


def test_a_file_that_includes_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^b:1: 'a' includes itself$"):
        parse("include b;", "a", Files(b="include a;", a="include b;"))


def test_the_seed_can_be_written_with_less() -> None:
    assert parse(SEED_IN_84.replace("net { protocol C; }", "")) == parse(SEED_IN_84)
