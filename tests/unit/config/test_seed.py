"""The configuration of 0.6 that must work as it stands, and what later dialects make of the same resource."""

from pathlib import Path

import pytest

from helpers.configurations import SEED, SEED_IN_84
from pydrbd.config import Configuration, Host, MetaDisk, MetaDiskKind, NetOptions, Resource, Volume, dump, parse

GOLDEN = sorted((Path(__file__).resolve().parents[2] / "golden/configuration").glob("*.conf"))


def seed_volume() -> Volume:
    return Volume(0, "/dev/nb0", 0, "/dev/md3", MetaDisk(MetaDiskKind.FILE))


def test_the_seed_is_read_as_it_stands() -> None:
    assert parse(SEED) == Configuration(
        (
            Resource(
                "drbd0",
                (
                    Host("castor", "10.0.0.1", 7788, (seed_volume(),)),
                    Host("pollux", "10.0.0.2", 7788, (seed_volume(),)),
                ),
                net=NetOptions(protocol="C"),
                fsckcmd="/usr/bin/true",
                attach="auto",
            ),
        ),
    )


def test_the_same_resource_in_the_dialect_of_84_is_the_same_description() -> None:
    assert parse(SEED_IN_84) == parse(SEED)


def test_the_two_dialects_differ_in_where_metadata_is_by_default() -> None:
    plain = parse(SEED_IN_84.replace("  meta-disk file;\n", "")).resource("drbd0")
    assert plain.hosts[0].volume(0).meta_disk == MetaDisk(MetaDiskKind.INTERNAL)
    assert parse(SEED).resource("drbd0").hosts[0].volume(0).meta_disk == MetaDisk(MetaDiskKind.FILE)


def test_the_metadata_of_the_seed_is_a_file_in_the_state_directory() -> None:
    volume = parse(SEED).resource("drbd0").local("castor").volume(0)
    assert volume.metadata_path(Path("/var/lib/pydrbd"), "drbd0") == Path("/var/lib/pydrbd/drbd0.md")


def test_metadata_files_of_two_volumes_never_have_one_name() -> None:
    meta, state = MetaDisk(MetaDiskKind.FILE), Path("/var/lib/pydrbd")
    names = [meta.location(state, "a", 1, "/dev/x"), meta.location(state, "a.1", 0, "/dev/x")]
    assert names == [state / "a+1.md", state / "a.1.md"]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_the_configurations_of_a_real_cluster_are_read_and_dumped(path: Path) -> None:
    configuration = parse(path.read_text(encoding="utf-8"), str(path))
    resource = configuration.resource("r0")
    assert [(host.name, host.address, host.port) for host in resource.hosts] == [
        ("castor", "10.0.0.1", 7788),
        ("pollux", "10.0.0.2", 7788),
    ]
    assert resource.hosts[0].volumes == resource.hosts[1].volumes
    volume = resource.hosts[0].volume(0)
    assert (volume.device, volume.minor, volume.disk) == ("/dev/drbd0", 0, "/dev/vdb")
    assert volume.meta_disk == MetaDisk(MetaDiskKind.INTERNAL)
    assert volume.options == resource.disk
    assert (resource.disk.size_bytes, resource.disk.resync_rate_kib_per_s) == (8 << 20, 40 << 10)
    assert resource.disk.c_plan_ahead_ms == 0
    assert parse(dump(configuration)) == configuration


def test_the_golden_configurations_are_there() -> None:
    assert len(GOLDEN) == 3


def test_digests_and_secret_of_the_real_cluster_are_read() -> None:
    net = parse(GOLDEN[1].read_text(encoding="utf-8")).resource("r0").net
    assert (net.cram_hmac_alg, net.shared_secret) == ("sha256", "castor and pollux")
    assert (net.verify_alg, net.csums_alg, net.data_integrity_alg) == ("crc32c", "crc32c", "crc32c")


def test_a_secret_does_not_show_in_a_log_line() -> None:
    assert "castor and pollux" not in repr(parse(GOLDEN[1].read_text(encoding="utf-8")))
