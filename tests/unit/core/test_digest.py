"""The core's digest of a block against the one that a kernel put on the wire."""

from pathlib import Path

import pytest

CAPTURED = Path(__file__).resolve().parents[2] / "golden" / "packets" / "10-write-with-digest.bin"
HEADER_BYTES = 16
DATA_BYTES = 24


def test_crc32c_travels_as_the_kernel_writes_it_between_the_fixed_part_and_the_payload() -> None:
    core = pytest.importorskip("pydrbd.core._core", exc_type=ImportError, reason="the core is not built")
    packet = CAPTURED.read_bytes()
    fixed = packet[HEADER_BYTES : HEADER_BYTES + DATA_BYTES]
    digest, payload = packet[HEADER_BYTES + DATA_BYTES :][:4], packet[HEADER_BYTES + DATA_BYTES + 4 :]
    assert (int.from_bytes(fixed[:8]), len(payload)) == (0xA0, 4096)
    assert core.lib.core_crc32c(0, payload, len(payload)).to_bytes(4, "little") == digest
