"""The hands of a test inside a guest: runs commands, reads and writes files, asks daemons.

One request per line on a virtio-serial port, as JSON; answers carry the request's number and come when they are ready.
It knows nothing of pydrbd. It is copied into the guest and uses the standard library alone.
"""

import base64
import glob
import json
import os
import socket
import subprocess
import threading
import time

PORT_NAME = "pydrbd.agent"
Answer = dict[str, object]


def port_path() -> str:
    """Wait for the virtio-serial port of the tests and return its device."""
    while True:
        for name in glob.glob("/sys/class/virtio-ports/*/name"):  # noqa: PTH207 - a guest starts in half a second less
            with open(name, encoding="ascii") as file:  # noqa: PTH123
                if file.read().strip() == PORT_NAME:
                    return "/dev/" + name.split("/")[-2]
        time.sleep(0.02)


def run(request: dict[str, str]) -> Answer:
    """Run a shell command; its process group is killed when the time is over."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", request["command"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    late = False
    try:
        out, err = process.communicate(timeout=float(request["timeout_s"]))
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, 9)
        out, err = process.communicate()
    return {
        "code": process.returncode,
        "out": out.decode(errors="replace"),
        "err": err.decode(errors="replace"),
        "late": late,
    }


def put(request: dict[str, str]) -> Answer:
    """Write a file."""
    data = base64.b64decode(request["data"])
    os.makedirs(os.path.dirname(request["path"]), exist_ok=True)  # noqa: PTH103, PTH120
    with open(request["path"], "wb") as file:  # noqa: PTH123
        file.write(data)
    os.chmod(request["path"], int(request["mode"]))  # noqa: PTH101
    return {}


def get(request: dict[str, str]) -> Answer:
    """Read a file."""
    with open(request["path"], "rb") as file:  # noqa: PTH123
        return {"data": base64.b64encode(file.read()).decode()}


def ask(request: dict[str, str]) -> Answer:
    """Say a line to a UNIX socket and return the line that comes back."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(float(request["timeout_s"]))
        connection.connect(request["path"])
        connection.sendall(request["line"].encode() + b"\n")
        with connection.makefile("rb") as answer:
            return {"line": answer.readline().decode(errors="replace")}


VERBS = {"run": run, "put": put, "get": get, "ask": ask}


def main() -> None:
    """Serve until the end of the machine."""
    descriptor = os.open(port_path(), os.O_RDWR)
    lock = threading.Lock()

    def answer(number: int, body: Answer) -> None:
        line = json.dumps({"number": number, **body}).encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(descriptor, line) :]

    def serve(request: dict[str, str]) -> None:
        try:
            body = VERBS[request["verb"]](request)
        except Exception as error:  # noqa: BLE001 - whatever it was, the test shall read it
            body = {"error": repr(error)}
        answer(int(request["number"]), body)

    answer(0, {"ready": True})
    pending = b""
    while True:
        piece = os.read(descriptor, 65536)
        if not piece:
            time.sleep(0.05)  # nobody has the other end open
            continue
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


main()
