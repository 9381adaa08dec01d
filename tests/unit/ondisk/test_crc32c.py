"""The checksum, against a published value and the kernel's."""

import zlib
from collections.abc import Callable

from fakes.golden_disk import GoldenDisk
from pydrbd.ondisk.activity_log import initial_ring
from pydrbd.ondisk.crc32c import crc32c, crc32c_kernel, crc_extension_in_use

LoadGolden = Callable[[str], GoldenDisk]


def test_the_usual_form_has_its_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0


def test_the_kernels_form_inverts_nothing(golden: LoadGolden):
    block = bytearray(golden("primary-running").ring[8192:12288])
    assert block[8:12] == bytes.fromhex("709cc651")
    block[8:12] = bytes(4)
    assert crc32c_kernel(bytes(block)) == 0x709CC651
    assert initial_ring(1)[8:12] == bytes.fromhex("709cc651")


def test_it_is_not_zlibs_polynomial():
    assert crc32c(b"123456789") != zlib.crc32(b"123456789")


def test_the_c_extension_is_in_use():
    assert crc_extension_in_use(), "crcmod was installed without a compiler and runs in pure Python"
