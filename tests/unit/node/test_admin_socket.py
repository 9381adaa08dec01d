"""Lines in, lines out; whoever asks badly hears so, and nobody waits for another."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from fakes.loop import run
from pydrbd.node.admin.admin_socket import (
    CLIENTS_MAX,
    LINE_BYTES_MAX,
    AdminSocket,
    Reply,
    Request,
    UnreadableRequestError,
    read_request,
)


async def echo(request: Request) -> Reply:
    if request.verb == "wait":
        await asyncio.sleep(60)
    if request.verb == "fault":
        raise RuntimeError("a fault of the daemon")
    return Reply(text=request.verb, data=request.arguments)


async def ask(path: Path, *lines: bytes) -> list[dict[str, object]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    replies = []
    try:
        for line in lines:
            writer.write(line)
            answer = await reader.readline()
            if not answer:
                break
            replies.append(json.loads(answer))
    except ConnectionError:
        pass
    finally:
        writer.close()
    return replies


def with_socket(tmp_path: Path, body: object) -> None:
    async def main() -> None:
        admin = AdminSocket(tmp_path / "control.sock", echo)
        await admin.open()
        try:
            await body(admin)  # type: ignore[operator]
        finally:
            await admin.close()
        assert not admin.path.exists()

    run(main())


def test_requests_on_one_connection_are_answered_in_order(tmp_path: Path):
    async def body(admin: AdminSocket) -> None:
        replies = await ask(admin.path, b'{"verb": "status"}\n', b'{"verb": "primary", "arguments": {"force": true}}\n')
        assert replies == [
            {"exit": 0, "sentence": "", "text": "status", "data": {}},
            {"exit": 0, "sentence": "", "text": "primary", "data": {"force": True}},
        ]

    with_socket(tmp_path, body)


def test_only_the_owner_may_ask(tmp_path: Path):
    async def body(admin: AdminSocket) -> None:
        assert stat.S_IMODE(admin.path.stat().st_mode) == 0o600

    with_socket(tmp_path, body)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'{"verb": 3}\n',
        b'{"verb": "x", "arguments": []}\n',
        b"\xff\xfe\n",
        b"[" * 9000 + b"\n",
    ],
)
def test_what_is_no_request_is_said_and_the_connection_goes_on(tmp_path: Path, line: bytes):
    with pytest.raises(UnreadableRequestError):
        read_request(line)

    async def body(admin: AdminSocket) -> None:
        wrong, right = await ask(admin.path, line, b'{"verb": "status"}\n')
        assert wrong["exit"] == 1
        assert right["exit"] == 0

    with_socket(tmp_path, body)


def test_a_line_without_end_is_refused(tmp_path: Path):
    async def body(admin: AdminSocket) -> None:
        (reply,) = await ask(admin.path, b"x" * (LINE_BYTES_MAX + 10))
        assert reply["sentence"] == "the request is too long"

    with_socket(tmp_path, body)


def test_one_who_waits_does_not_keep_others_waiting(tmp_path: Path):
    async def body(admin: AdminSocket) -> None:
        waiting = asyncio.ensure_future(ask(admin.path, b'{"verb": "wait"}\n'))
        await asyncio.sleep(0.01)
        assert await ask(admin.path, b'{"verb": "status"}\n')
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    with_socket(tmp_path, body)


def test_clients_are_limited(tmp_path: Path):
    async def body(admin: AdminSocket) -> None:
        writers = [(await asyncio.open_unix_connection(str(admin.path)))[1] for _ in range(CLIENTS_MAX)]
        await asyncio.sleep(0.01)
        assert await ask(admin.path, b'{"verb": "status"}\n') == []
        writers[0].close()
        await asyncio.sleep(0.01)
        assert await ask(admin.path, b'{"verb": "status"}\n')
        for writer in writers:
            writer.close()

    with_socket(tmp_path, body)


def test_an_answer_under_way_still_goes_out_at_the_end(tmp_path: Path):
    async def slow(_: Request) -> Reply:
        await asyncio.sleep(0.05)
        return Reply(text="last words")

    async def main() -> None:
        admin = AdminSocket(tmp_path / "control.sock", slow)
        await admin.open()
        asking = asyncio.ensure_future(ask(admin.path, b'{"verb": "down"}\n'))
        await asyncio.sleep(0.01)
        await admin.close()
        assert (await asking)[0]["text"] == "last words"

    run(main())


def test_a_fault_of_the_daemon_is_answered_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async def body(admin: AdminSocket) -> None:
        wrong, right = await ask(admin.path, b'{"verb": "fault"}\n', b'{"verb": "status"}\n')
        assert (wrong["exit"], wrong["sentence"]) == (20, "the daemon failed at this request; see its log")
        assert right["exit"] == 0

    with_socket(tmp_path, body)
    assert "a fault of the daemon" in caplog.text
