"""drbdadm reads what `dump` writes, and understands by it what we do.

Goal: the two programs agree about one file. Setup: a configuration, our dump of it, drbdadm's dump of each (it needs no
kernel module for that). PASS: drbdadm takes both, and what it prints is our description again, but for the node-ids
that drbd-utils 9 gives to hosts without one.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pydrbd.config import Configuration, dump, parse

pytestmark = pytest.mark.skipif(not shutil.which("drbdadm"), reason="needs drbdadm (Debian: drbd-utils)")

GOLDEN = Path(__file__).resolve().parents[1] / "golden/configuration"
LARGE = r"""
global { usage-count no; }
common {
  net { protocol B; timeout 50; ko-count 4; }
  disk { on-io-error pass_on; c-min-rate 500; }
  handlers { split-brain "/bin/echo \"a b\" ; x"; }
}
resource r0 {
  options { on-no-data-accessible suspend-io; }
  disk { resync-rate 10M; al-extents 257; disk-flushes no; size 1G; }
  net {
    after-sb-0pri discard-zero-changes; after-sb-1pri discard-secondary; sndbuf-size 512k; max-buffers 8000;
    cram-hmac-alg sha1; shared-secret "x;y";
  }
  startup { wfc-timeout 30; degr-wfc-timeout 10; }
  volume 0 { device /dev/drbd0 minor 0; disk /dev/a; meta-disk internal; }
  volume 1 { device /dev/drbd1; disk /dev/b; meta-disk /dev/c[1]; disk { resync-rate 20M; } }
  on castor { address ipv4 10.0.0.1:7788; }
  on pollux { address ipv4 10.0.0.2:7788; volume 1 { device minor 1; disk /dev/z; meta-disk /dev/y; } }
}
skip resource r9 { anything; }
resource r1 {
  net { fencing resource-only; }
  on castor { device minor 7; disk /dev/q; flexible-meta-disk /dev/c2; address ipv6 [fd00::1]:7790; }
  on pollux { device /dev/drbd7; disk /dev/q; address ipv6 [fd00::2]:7790; meta-disk internal; }
}
"""
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("*.conf"))} | {"large": LARGE}


def as_drbdadm_reads(text: str, folder: Path) -> Configuration:
    path = folder / "drbd.conf"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(["drbdadm", "-c", str(path), "dump"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def without_node_ids(configuration: Configuration) -> Configuration:
    resources = []
    for resource in configuration.resources:
        first, second = (replace(host, node_id=None) for host in resource.hosts)
        resources.append(replace(resource, hosts=(first, second)))
    return replace(configuration, resources=tuple(resources))


@pytest.mark.parametrize("name", TEXTS)
def test_drbdadm_understands_a_configuration_as_we_do(name: str, tmp_path: Path) -> None:
    assert without_node_ids(as_drbdadm_reads(TEXTS[name], tmp_path)) == parse(TEXTS[name])


@pytest.mark.parametrize("name", TEXTS)
def test_drbdadm_understands_our_dump_as_we_do(name: str, tmp_path: Path) -> None:
    configuration = parse(TEXTS[name])
    assert without_node_ids(as_drbdadm_reads(dump(configuration), tmp_path)) == configuration
