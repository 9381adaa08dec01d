"""Goal: programs that others wrote agree with our device. PASS: each ends with exit code 0 and with the right data."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pair import Pair

MIB = 1 << 20


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test, and say why, where a foreign program is not installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def run(*arguments: str | Path) -> str:
    result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"{arguments[0]} exited with {result.returncode}: {result.stderr}{result.stdout}"
    return result.stdout


def size_of(pair: Pair) -> int:
    return int(run("nbdinfo", "--size", pair.castor.uri))


def random_file(path: Path, size_bytes: int, seed: int) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size_bytes))
    return path


@needs("nbdinfo")
def test_nbdinfo_sees_what_the_device_can_do(shared_pair: Pair) -> None:
    export = json.loads(run("nbdinfo", "--json", "--no-content", shared_pair.castor.uri))["exports"][0]
    assert export["export-size"] == shared_pair.castor.status().raw["devices"][0]["size"] * 1024
    for ability in ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn", "can_cache", "can_fast_zero"):
        assert export[ability] is True, ability
    assert export["is_read_only"] is False
    assert run("nbdinfo", "--list", "--no-content", shared_pair.castor.uri)


@needs("nbdcopy")
def test_nbdcopy_brings_back_what_it_took_there(shared_pair: Pair, tmp_path: Path) -> None:
    there = random_file(tmp_path / "there", size_of(shared_pair), 1)
    back = tmp_path / "back"
    run("nbdcopy", "--flush", there, shared_pair.castor.uri)
    run("nbdcopy", shared_pair.castor.uri, back)
    assert back.read_bytes() == there.read_bytes()
    with shared_pair.pollux.disk.open("rb") as replica:
        assert replica.read(there.stat().st_size) == there.read_bytes()


@needs("qemu-img")
def test_qemu_img_converts_and_measures(shared_pair: Pair, tmp_path: Path) -> None:
    there = random_file(tmp_path / "there", size_of(shared_pair), 2)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", there, shared_pair.castor.uri)
    assert "virtual size" in run("qemu-img", "info", shared_pair.castor.uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", there, shared_pair.castor.uri)
    run("qemu-img", "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "--flush-interval=64", shared_pair.castor.uri)


@needs("qemu-io")
def test_qemu_io_writes_zeroes_discards_and_flushes(shared_pair: Pair) -> None:
    commands = ["write -P 0x5a 1M 1M", "write -z 1M 64k", "write -f -P 0x11 2M 4k", "discard 4M 1M", "flush"]
    reads = ["read -P 0 1M 64k", "read -P 0x5a 1088k 960k", "read -P 0x11 2M 4k"]
    output = run("qemu-io", "-f", "raw", *(w for c in commands + reads for w in ("-c", c)), shared_pair.castor.uri)
    assert "verification failed" not in output


def fio(pair: Pair, *options: str) -> str:
    return run(
        "fio",
        "--name=job",
        "--ioengine=nbd",
        f"--uri={pair.castor.uri}",
        "--size=32m",
        "--verify_state_save=0",
        *options,
    )


@needs("fio")
def test_fio_verifies_every_block(shared_pair: Pair) -> None:
    fio(
        shared_pair, "--rw=randwrite", "--bs=4k", "--iodepth=32", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1"
    )
    fio(shared_pair, "--rw=write", "--bs=1m", "--iodepth=4", "--verify=crc32c", "--do_verify=1", "--verify_fatal=1")


@needs("fio")
def test_fio_flushes_and_trims_over_several_connections(shared_pair: Pair) -> None:
    fio(shared_pair, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--fsync=32", "--numjobs=4", "--io_size=4m")
    fio(shared_pair, "--rw=trim", "--bs=64k", "--iodepth=16", "--io_size=8m")


def test_nbdsh_reads_what_it_wrote(shared_pair: Pair) -> None:
    script = "h.pwrite(b'pydrbd..' * 64, 12800); h.flush(); assert h.pread(512, 12800) == b'pydrbd..' * 64"
    run("/usr/bin/python3", "-m", "nbd", "-u", shared_pair.castor.uri, "-c", script)


@needs("fio")
def test_two_clients_at_once_do_not_disturb_each_other(shared_pair: Pair, tmp_path: Path) -> None:
    picture = random_file(tmp_path / "picture", 8 * MIB, 3)
    options = ["--rw=randwrite", "--bs=4k", "--iodepth=16", "--offset=32m", "--size=16m", "--verify=crc32c"]
    options += ["--verify_state_save=0"]
    command = ["fio", "--name=job", "--ioengine=nbd", f"--uri={shared_pair.castor.uri}", *options, "--verify_fatal=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as other:
        script = f"d = open('{picture}', 'rb').read(); h.pwrite(d, 0); h.flush(); assert h.pread(len(d), 0) == d"
        for _ in range(5):
            run("/usr/bin/python3", "-m", "nbd", "-u", shared_pair.castor.uri, "-c", script)
        output, _ = other.communicate(timeout=120)
    assert other.returncode == 0, output
