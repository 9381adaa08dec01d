"""`pydrbd`, already imported: each command is a fork of this process, because imports take seconds in an emulated
machine.

Everything that a command runs is the installed pydrbd's own code; a daemon, too, is a fork in the place of a new
interpreter. A connection to the socket carries the arguments as
one line of JSON, then back the exit code, what was printed and what was complained, as one line of JSON. A daemon that
a command starts outlives it as always. Copied into the guest.
"""

import importlib
import json
import os
import pkgutil
import socket
import sys
import traceback

SOCKET = "/run/pydrbd-loaded.sock"


def serve() -> None:
    """Import everything, then fork for each connection."""
    import pydrbd
    from pydrbd.cli.main import main as run

    for module in pkgutil.walk_packages(pydrbd.__path__, "pydrbd."):
        importlib.import_module(module.name)
    import pydrbd.cli.daemon_verbs

    pydrbd.cli.daemon_verbs.start = start_daemon  # type: ignore[assignment]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen(16)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.setsid()
            supervise(connection, run)
        connection.close()
        while True:  # those that have ended
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def start_daemon(context: object, resource: str) -> None:
    """Start the daemon in the background; return when it is up. Raises `VerbError` with what it said."""
    from pydrbd.cli.admin_client import VerbError
    from pydrbd.node.main import main as node

    said, says = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(says, 2)
        os.closerange(3, 256)
        os.environ.update(context.environment())  # type: ignore[attr-defined]
        os._exit(node([resource]))
    os.close(says)
    with open(said, encoding="utf-8") as pipe:  # noqa: PTH123
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise VerbError(text.strip(), code)


def supervise(connection: socket.socket, run: object) -> None:
    """Run one command in a child, with files for its output, and answer when it has ended."""
    with connection, connection.makefile("rb") as asked:
        arguments = json.loads(asked.readline())
        places = [f"/run/pydrbd-loaded.{os.getpid()}.{kind}" for kind in ("out", "err")]
        child = os.fork()
        if child == 0:
            connection.detach()
            command(arguments, places, run)
        status = os.waitpid(child, 0)[1]
        said = []
        for place in places:
            with open(place, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                said.append(file.read())
            os.unlink(place)  # noqa: PTH108
        code = os.waitstatus_to_exitcode(status)
        connection.sendall(json.dumps([code, *said]).encode() + b"\n")
    os._exit(0)


def command(arguments: list[str], places: list[str], run: object) -> None:
    """Be `pydrbd ARGUMENTS`."""
    os.closerange(3, 256)
    for number, place in enumerate(places, start=1):
        descriptor = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null) if null > 2 else None
    os.chdir("/")
    sys.argv = ["pydrbd", *arguments]
    try:
        code = run()  # type: ignore[operator]
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - a traceback is what the command would have shown
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)


if __name__ == "__main__":
    serve()
