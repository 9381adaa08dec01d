"""Goal: programs that others wrote agree with the NBD room alone, before an engine stands behind it.

Setup: the room's own test server over memory. PASS: each program ends with exit code 0 and with the right data.
"""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import nbd_memory_server
from helpers.nbd_memory_server import MIB, NbdServer

SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's libnbd module belongs to it, not to a virtual environment


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def has_libnbd_module() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", "import nbd"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nbd_memory_server.compiled(tmp_path_factory.mktemp("program"))


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[NbdServer]:
    with nbd_memory_server.running(program, tmp_path / "socket") as running:
        yield running


@pytest.fixture
def other_server(program: Path, tmp_path: Path) -> Iterator[NbdServer]:
    options = ("--block-min=512", "--fast-zero", "--copy")
    with nbd_memory_server.running(program, tmp_path / "other", *options) as running:
        yield running


def run(folder: Path, *arguments: str | Path) -> str:
    words = [str(argument) for argument in arguments]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert result.returncode == 0, f"{words} exited with {result.returncode}: {result.stderr}{result.stdout}"
    return result.stdout


def image(folder: Path) -> Path:
    path = folder / "image"
    path.write_bytes(random.Random(8).randbytes(24 * MIB) + bytes(16 * MIB) + random.Random(9).randbytes(24 * MIB))
    return path


@needs("nbdinfo")
def test_nbdinfo_sees_all_abilities(server: NbdServer, tmp_path: Path) -> None:
    export = json.loads(run(tmp_path, "nbdinfo", "--json", server.uri))["exports"][0]
    abilities = ["cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"]
    assert [name for name in abilities if not export[f"can_{name}"]] == []
    assert (export["export-size"], export["is_read_only"]) == (server.size_bytes, False)
    assert (export["block_size_minimum"], export["block_size_preferred"]) == (1, 4096)
    assert export["block_size_maximum"] == 32 * MIB


@needs("nbdinfo")
def test_nbdinfo_lists_the_export(server: NbdServer, tmp_path: Path) -> None:
    listed = json.loads(run(tmp_path, "nbdinfo", "--json", "--list", server.uri))["exports"]
    assert [export["export-name"] for export in listed] == ["drbd0"]


@needs("nbdinfo")
def test_read_only_export_says_so(program: Path, tmp_path: Path) -> None:
    with nbd_memory_server.running(program, tmp_path / "socket", "--read-only") as server:
        run(tmp_path, "nbdinfo", "--is", "read-only", server.uri)


@needs("nbdcopy")
@pytest.mark.parametrize("how", [(), ("--connections=1", "--requests=1"), ("--synchronous",)], ids=str)
def test_nbdcopy_both_ways(server: NbdServer, tmp_path: Path, how: tuple[str, ...]) -> None:
    original, copy = image(tmp_path), tmp_path / "copy"
    run(tmp_path, "nbdcopy", "--flush", *how, original, server.uri)
    run(tmp_path, "nbdcopy", *how, server.uri, copy)
    assert copy.read_bytes() == original.read_bytes()


@needs("nbdcopy")
def test_nbdcopy_from_one_server_to_another(server: NbdServer, other_server: NbdServer, tmp_path: Path) -> None:
    original, copy = image(tmp_path), tmp_path / "copy"
    run(tmp_path, "nbdcopy", original, server.uri)
    run(tmp_path, "nbdcopy", server.uri, other_server.uri)
    run(tmp_path, "nbdcopy", other_server.uri, copy)
    assert copy.read_bytes() == original.read_bytes()


@needs("qemu-img")
def test_qemu_img_converts_both_ways(other_server: NbdServer, tmp_path: Path) -> None:
    original, copy = image(tmp_path), tmp_path / "copy"
    run(tmp_path, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", original, other_server.uri)
    run(tmp_path, "qemu-img", "convert", "-f", "raw", "-O", "raw", other_server.uri, copy)
    assert copy.read_bytes() == original.read_bytes()
    information = json.loads(run(tmp_path, "qemu-img", "info", "--output=json", other_server.uri))
    assert information["virtual-size"] == other_server.size_bytes


@needs("qemu-img")
@pytest.mark.parametrize("direction", [("-w",), ()], ids=["write", "read"])
def test_qemu_img_bench(server: NbdServer, tmp_path: Path, direction: tuple[str, ...]) -> None:
    bench = ("qemu-img", "bench", "-f", "raw", "-c", "5000", "-d", "64", "-s", "4096", *direction)
    run(tmp_path, *bench, server.uri)


@needs("qemu-io")
def test_qemu_io_commands(other_server: NbdServer, tmp_path: Path) -> None:
    commands = [
        "write -P 0x11 0 1M",
        "write -f -P 0x22 4k 4k",  # FUA
        "write -z 512k 64k",
        "write -z -u 640k 64k",
        "discard 1M 1M",
        "flush",
        "read -P 0x11 0 4k",
        "read -P 0x22 4k 4k",
        "read -P 0 512k 64k",
        "read -P 0x11 576k 64k",
        "read -P 0 640k 64k",
        "read -P 0x11 704k 320k",
        "aio_write -P 0x33 2M 1M",
        "aio_read -P 0x11 0 4k",
        "aio_flush",
        "read -P 0x33 2M 1M",
    ]
    output = run(
        tmp_path, "qemu-io", "-f", "raw", *[word for command in commands for word in ("-c", command)], other_server.uri
    )
    assert "failed" not in output
    assert "error" not in output


@pytest.mark.skipif(not has_libnbd_module(), reason="python3-libnbd is not installed")
def test_libnbd_commands_and_errors(server: NbdServer, tmp_path: Path) -> None:
    script = """
import nbd, errno
h = nbd.NBD()
h.set_strict_mode(0)  # send what the library would refuse itself
h.connect_uri(%r)
size = h.get_size()
h.pwrite(b"x" * 4096, 0, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 0) == b"x" * 4096
h.zero(512, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.trim(512, 512)
h.cache(4096, 0)
h.flush()
assert h.pread(1024, 0) == bytes(1024)
chunks = []
h.pread_structured(65536, 0, lambda data, offset, status, error: chunks.append((offset, len(data))), nbd.CMD_FLAG_DF)
assert chunks == [(0, 65536)], chunks
for call, number in [
    (lambda: h.pread(512, size), errno.EINVAL),
    (lambda: h.pwrite(b"x" * 512, size), errno.ENOSPC),
    (lambda: h.zero(512, size), errno.ENOSPC),
    (lambda: h.trim(512, size), errno.EINVAL),
    (lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO), errno.EOPNOTSUPP),
]:
    try:
        call()
    except nbd.Error as error:
        assert error.errnum == number, (error, number)
    else:
        raise AssertionError(number)
cookies = [h.aio_pread(nbd.Buffer(4096), i * 4096) for i in range(500)]
while cookies:
    h.poll(-1)
    cookies = [cookie for cookie in cookies if not h.aio_command_completed(cookie)]
h.shutdown()
"""
    run(tmp_path, SYSTEM_PYTHON, "-c", script % server.uri)


@needs("fio")
@pytest.mark.parametrize(
    "shape",
    [
        ("--rw=randwrite", "--bs=4k", "--iodepth=32"),
        ("--rw=randrw", "--bs=512-128k", "--iodepth=16", "--bs_unaligned=0"),
        ("--rw=write", "--bs=1m", "--iodepth=4"),
        ("--rw=randwrite", "--bs=16k", "--iodepth=200", "--fsync=32"),
    ],
    ids=["small", "mixed", "large", "deep with flushes"],
)
def test_fio_verifies(server: NbdServer, tmp_path: Path, shape: tuple[str, ...]) -> None:
    verify = ("--verify=crc32c", "--do_verify=1", "--verify_fatal=1")
    run(tmp_path, "fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri}", "--size=32m", *shape, *verify)


@needs("fio")
def test_two_programs_at_once(server: NbdServer, tmp_path: Path) -> None:
    fio = ["fio", "--ioengine=nbd", f"--uri={server.uri}", "--bs=4k", "--iodepth=32", "--rw=randwrite"]
    fio += ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--size=16m"]
    jobs = [[*fio, "--name=low", "--offset=0"], [*fio, "--name=high", "--offset=32m"]]
    started = [
        subprocess.Popen(job, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ, text=True)
        for job in jobs
    ]
    results = [(process.communicate(timeout=120)[0], process.returncode) for process in started]
    assert [code for _, code in results] == [0, 0], results
