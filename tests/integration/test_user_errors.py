"""Goal: an error that a user makes costs one clear sentence and the right exit code, and changes nothing on disk.

PASS: exit code and the words that name the mistake; the disk's bytes are what they were.
"""

import contextlib
import hashlib
import re
import socket
import subprocess

import pytest

from pair import RESOURCE, Node, Pair

MIB = 1 << 20


def port_of(pair: Pair) -> int:
    found = re.search(r"port\s*=\s*(\d+)", pair.castor.configuration.read_text())
    assert found
    return int(found.group(1))


def refused(node: Node, *arguments: str, code: int, stdin: str = "") -> str:
    """Run a command that must fail with `code`; return the one sentence that it says."""
    before = hashlib.sha256(node.disk.read_bytes()).digest()
    result = node.try_run(*arguments, stdin=stdin)
    assert result.returncode == code, result.stderr
    assert hashlib.sha256(node.disk.read_bytes()).digest() == before
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("wrong", "right", "line"), [("protocl", "protocol", 2), ("  disc    =", "disk", 7), ("  adress =", "address", 8)]
)
def test_a_misspelt_key_is_named_with_file_and_line(pair: Pair, wrong: str, right: str, line: int) -> None:
    file = pair.castor.configuration
    file.write_text(re.sub(rf"  {right}\s*=?", wrong, file.read_text(), count=1))
    said = refused(pair.castor, "up", RESOURCE, code=10)
    assert f"{file}:{line}: " in said
    assert f"did you mean '{right}'?" in said
    assert said.count("\n") == 1


def test_an_unknown_host_is_told_who_is_known(pair: Pair) -> None:
    said = refused(pair.castor, "--node", "helena", "up", RESOURCE, code=10)
    assert "'helena'" in said
    assert "castor and pollux" in said


def test_a_node_without_metadata_says_how_to_make_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Pair.create(tmp_path_factory.mktemp("bare"), 16 * MIB) as bare:
        assert "create-md" in refused(bare.castor, "up", RESOURCE, code=10)
        assert bare.castor.pid() is None


def test_a_disk_with_a_filesystem_is_kept_unless_yes_is_typed(pair: Pair) -> None:
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", str(pair.castor.disk)], check=True)
    for answer in ("", "no\n", "y\n"):
        assert "ext4" in refused(pair.castor, "create-md", RESOURCE, code=1, stdin=answer)
    assert pair.castor.try_run("create-md", RESOURCE, stdin="yes\n").returncode == 0


def test_a_port_in_use_is_named_and_no_daemon_stays(pair: Pair) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port_of(pair)))
        other.listen()
        said = refused(pair.castor, "up", RESOURCE, code=10)
    assert f"127.0.0.1:{port_of(pair)}" in said
    assert pair.castor.pid() is None


def test_garbage_on_the_port_is_refused_and_the_peer_still_gets_in(pair: Pair) -> None:
    pair.castor.run("up", RESOURCE)
    # A connection from elsewhere, garbage from the peer's address, and one that says nothing and stays.
    with contextlib.ExitStack() as stack:
        for source, words in (("127.0.0.1", b""), ("127.0.0.2", b"GET / HTTP/1.0\r\n\r\n"), ("127.0.0.2", b"")):
            guest = stack.enter_context(socket.socket())
            guest.settimeout(5)
            guest.bind((source, 0))
            guest.connect(("127.0.0.1", port_of(pair)))
            guest.sendall(words)
        pair.pollux.run("up", RESOURCE)
        pair.wait_for(lambda: pair.castor.status().connection == "Connected", "the peer to get in", 20)
    assert pair.castor.logged("refused a connection from 127.0.0.1")


def test_a_daemon_that_runs_is_not_started_twice(pair: Pair) -> None:
    pair.castor.run("up", RESOURCE)
    pid = pair.castor.pid()
    assert f"pid {pid}" in pair.castor.try_run("up", RESOURCE).stderr
    assert pair.castor.pid() == pid


def test_two_different_sizes_make_a_device_of_the_smaller(pair: Pair) -> None:
    with pair.pollux.disk.open("r+b") as image:
        image.truncate(96 * MIB)
    pair.pollux.run("create-md", "--force", RESOURCE)
    pair.up()
    pair.first_sync()
    sizes = {node.status().raw["devices"][0]["size"] for node in pair.nodes}
    assert sizes == {pair.castor.disk.stat().st_size // 1024}
