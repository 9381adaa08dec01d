"""One guest: a QEMU process in software emulation, its disks, its Ethernet, and the channel to the agent inside.

The process dies with the test that started it (a parent-death signal), and is ended by its own id before. It knows
nothing of pydrbd or DRBD: it boots, runs commands, moves files, and is cut off from power or network.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.image import Image

PATIENCE = float(os.environ.get("PYDRBD_VM_PATIENCE") or 4)
"""By how much everything may take longer than on a quiet machine before a case fails."""
BOOT_SECONDS = 60 * PATIENCE
CONNECT_POLL_SECONDS = 0.05
KERNEL_LINE = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 no_timer_check random.trust_cpu=on "
    "rcupdate.rcu_expedited=1 raid=noautodetect"
)


class CommandFailedError(Exception):
    """A command in a guest ended with an exit code other than 0."""

    def __init__(self, node: str, command: str, result: Result) -> None:
        what = "did not end in time" if result.late else f"exited with {result.code}"
        super().__init__(f"{node}: `{command}` {what}\n{result.out}{result.err}")
        self.result = result


class GoneError(Exception):
    """QEMU has ended while an answer was waited for: a panic ends it, or a power cut of the test's own."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str
    late: bool = False


@dataclass(slots=True)
class Machine:
    """A guest. `directory` takes its sockets and its console; `disks` become /dev/vdc, /dev/vdd and so on."""

    name: str
    address: str
    directory: Path
    image: Image
    disks: tuple[Path, ...]
    memory_mib: int = 640
    extra_kernel_line: str = ""
    process: subprocess.Popen[bytes] | None = None
    _channel: socket.socket | None = None
    _monitor: socket.socket | None = None
    _reader: threading.Thread | None = None
    _waiting: dict[int, Future[dict[str, Any]]] = field(default_factory=dict)
    _number: int = 0

    # --- power -------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Switch on, without waiting."""
        assert self.process is None, f"{self.name} is on"
        for name in ("agent", "monitor", "wire"):
            self._path(name).unlink(missing_ok=True)
        with self._path("qemu.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        """Return when the agent answers."""
        deadline = time.monotonic() + BOOT_SECONDS
        ready: Future[dict[str, Any]] = Future()
        self._waiting[0] = ready
        self._monitor = self._connected("monitor", deadline)
        self._monitor.recv(65536)
        self.monitor("qmp_capabilities")
        self._channel = self._connected("agent", deadline)
        self._reader = threading.Thread(target=self._read_answers, args=(self._channel,), daemon=True)
        self._reader.start()
        while True:
            try:
                ready.result(timeout=1)
            except TimeoutError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name} does not boot\n{self.qemu_log()}\n{self.console()}") from None
            else:
                return

    def power_cut(self) -> None:
        """Take the power away: nothing in the guest gets to do anything any more. Its disks keep what they were
        given."""
        self._end(kill=True)

    def shutdown(self) -> None:
        """Let the guest's kernel stop, at once and without its services."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                self._send({"verb": "run", "command": "sync; poweroff -f -f", "timeout_s": "20"})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
        self._end(kill=True)

    def end(self) -> None:
        """Leave nothing running."""
        self._end(kill=True)

    @property
    def is_on(self) -> bool:
        """Whether the machine runs."""
        return self.process is not None and self.process.poll() is None

    def _end(self, *, kill: bool) -> None:
        if self.process is not None:
            if kill:
                self.process.kill()
            self.process.wait()
            self.process = None
        for each in (self._channel, self._monitor):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        if self._reader is not None:
            self._reader.join()
        self._channel = self._monitor = self._reader = None
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    # --- commands and files ------------------------------------------------------------------------------------------

    def start(self, command: str, timeout_s: float = 120) -> Future[dict[str, Any]]:
        """Begin a shell command; its result comes later, see `result`."""
        return self._send({"verb": "run", "command": command, "timeout_s": str(timeout_s * PATIENCE)})

    def result(self, future: Future[dict[str, Any]], timeout_s: float = 150) -> Result:
        """Wait for a command that was begun."""
        body = future.result(timeout=timeout_s * PATIENCE)
        assert "error" not in body, f"{self.name}: {body['error']}"
        return Result(int(body["code"]), str(body["out"]), str(body["err"]), bool(body["late"]))

    def try_run(self, command: str, timeout_s: float = 120) -> Result:
        """Run a shell command; the exit code is the caller's to look at."""
        return self.result(self.start(command, timeout_s), timeout_s + 30)

    def run(self, command: str, timeout_s: float = 120) -> str:
        """Run a shell command and return what it printed; raise CommandFailedError when it fails."""
        result = self.try_run(command, timeout_s)
        if result.code != 0:
            raise CommandFailedError(self.name, command, result)
        return result.out

    def wait_for_path(self, path: str, timeout_s: float = 120) -> None:
        """Return when there is such a file in the guest."""
        self.run(f"until [ -e {path} ]; do sleep 0.1; done", timeout_s)

    def put(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        raw = data.encode() if isinstance(data, str) else data
        body = {"verb": "put", "path": path, "mode": str(mode), "data": base64.b64encode(raw).decode()}
        answer = self._send(body).result(timeout=30 * PATIENCE)
        assert "error" not in answer, f"{self.name}: {answer['error']}"

    def get(self, path: str) -> bytes:
        """Read a file of the guest."""
        answer = self._send({"verb": "get", "path": path}).result(timeout=30 * PATIENCE)
        assert "error" not in answer, f"{self.name}: {answer['error']}"
        return base64.b64decode(answer["data"])

    def ask(self, path: str, line: str, timeout_s: float = 120) -> str:
        """Say a line to a UNIX socket in the guest; return the line that comes back. Raises OSError if nobody
        listens."""
        body = {"verb": "ask", "path": path, "line": line, "timeout_s": str(timeout_s * PATIENCE)}
        answer = self._send(body).result(timeout=timeout_s * PATIENCE + 30)
        if "error" in answer:
            raise OSError(f"{self.name}: {path}: {answer['error']}")
        return str(answer["line"])

    def console(self) -> str:
        """Return the end of what the kernel and init have said on the serial console."""
        path = self._path("console")
        return path.read_text(encoding="utf-8", errors="replace")[-6000:] if path.exists() else ""

    def qemu_log(self) -> str:
        """Return how QEMU has ended, if it has, and what it said."""
        path = self._path("qemu.log")
        ended = self.process.poll() if self.process is not None else None
        said = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return f"QEMU ended with {ended}: {said}" if ended is not None else said

    def answers(self, timeout_s: float = 60) -> bool:
        """Whether the machine is on and its agent does what it is told."""
        if not self.is_on or self._channel is None:
            return False
        try:
            return self.result(self.start("true", timeout_s), timeout_s).code == 0
        except (TimeoutError, OSError, GoneError):
            return False

    def resize_disk(self, number: int, size_bytes: int) -> None:
        """Make a disk larger or smaller, and wait until the guest has seen it."""
        self.monitor("block_resize", device=f"disk{number}", size=size_bytes)
        device = f"/dev/vd{'cdefgh'[number]}"
        self.run(f"until [ $(blockdev --getsize64 {device}) = {size_bytes} ]; do sleep 0.1; done")

    def pull_disk(self, number: int) -> None:
        """Pull a disk out of the running machine: /dev/vdc is number 0."""
        self.monitor("device_del", id=f"dev-disk{number}")

    # --- the wire ----------------------------------------------------------------------------------------------------

    def cut_link(self) -> None:
        """Pull the Ethernet cable."""
        self.monitor("set_link", name="wire", up=False)

    def mend_link(self) -> None:
        """Put it back."""
        self.monitor("set_link", name="wire", up=True)

    def freeze(self) -> None:
        """Stop the machine's clock and processor: it hangs, its peer sees silence."""
        self.monitor("stop")

    def thaw(self) -> None:
        """Let it go on."""
        self.monitor("cont")

    def start_capture(self, path: Path) -> None:
        """Write every frame on this machine's wire to a pcap file."""
        arguments = {"qom-type": "filter-dump", "id": "capture", "netdev": "wire", "file": str(path), "maxlen": 4 << 20}
        self.monitor("object-add", **arguments)

    def stop_capture(self) -> None:
        """End the capture."""
        self.monitor("object-del", id="capture")

    def monitor(self, command: str, **arguments: object) -> object:
        """Give QEMU itself a command (QMP)."""
        assert self._monitor is not None, f"{self.name} is off"
        self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        pending = b""
        while True:
            piece = self._monitor.recv(65536)
            if not piece:
                raise ConnectionError(f"{self.name}: QEMU has gone")
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise RuntimeError(f"{self.name}: {command}: {answer['error']['desc']}")
                if "return" in answer:
                    return answer["return"]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self.directory / f"{self.name}-{name}"

    def _peer_wire(self) -> Path:
        other = {"castor": "pollux", "pollux": "castor"}[self.name]
        return self.directory / f"{other}-wire"

    def _command(self) -> list[str]:
        mac = f"52:54:00:00:00:{int(self.address.rpartition('.')[2]):02x}"
        line = f"{KERNEL_LINE} node={self.name} address={self.address} {self.extra_kernel_line}"
        wire = f"local.type=unix,local.path={self._path('wire')},remote.type=unix,remote.path={self._peer_wire()}"
        command = [shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL"]
        command += ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        # A plain processor, without cmpxchg16b: a guest's kernel has died of a double fault, with half a pointer as its
        # flags, where SLUB tries that instruction again. QEMU 7.2 seems to compute them from an operation long past.
        command += ["-machine", "pc", "-accel", "tcg,tb-size=256", "-cpu", "Nehalem,-cx16", "-smp", "1"]
        command += ["-m", str(self.memory_mib), "-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)]
        command += ["-append", line, "-serial", f"file:{self._path('console')}"]
        command += ["-qmp", f"unix:{self._path('monitor')},server=on,wait=off", "-device", "virtio-rng-pci"]
        command += ["-netdev", f"dgram,id=wire,{wire}"]
        command += ["-device", f"virtio-net-pci,netdev=wire,mac={mac},romfile="]
        command += ["-chardev", f"socket,id=agent,path={self._path('agent')},server=on,wait=off"]
        command += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=pydrbd.agent"]
        for number, path in enumerate((self.image.root, self.image.project)):
            command += _drive(f"read{number}", path, "readonly=on,cache=unsafe")
        for number, path in enumerate(self.disks):
            command += _drive(f"disk{number}", path, "cache=writeback,discard=unmap")
        return command

    def _connected(self, name: str, deadline: float) -> socket.socket:
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(self._path(name)))
            except OSError:
                connection.close()
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = f"{self.qemu_log()}\n{self.console()}"
                    raise TimeoutError(f"{self.name}: QEMU does not start\n{said}") from None
                time.sleep(CONNECT_POLL_SECONDS)
            else:
                return connection

    def _send(self, body: dict[str, str]) -> Future[dict[str, Any]]:
        assert self._channel is not None, f"{self.name} is off"
        self._number += 1
        future: Future[dict[str, Any]] = Future()
        self._waiting[self._number] = future
        self._channel.sendall(json.dumps({"number": self._number, **body}).encode() + b"\n")
        return future

    def _read_answers(self, channel: socket.socket) -> None:
        pending = b""
        while True:
            try:
                piece = channel.recv(1 << 16)
            except OSError:
                piece = b""
            if not piece:
                self._gone()
                return
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                future = self._waiting.pop(int(answer["number"]), None)
                if future is not None and not future.cancelled():
                    future.set_result(answer)

    def _gone(self) -> None:
        """Whoever waits for an answer learns at once that QEMU has ended: a panic ends it."""
        for future in list(self._waiting.values()):
            if not future.done():
                future.set_exception(GoneError(f"{self.name} is gone\n{self.console()}"))


def _drive(name: str, path: Path, options: str) -> list[str]:
    return [
        "-drive",
        f"file={path},if=none,id={name},format=raw,{options}",
        "-device",
        f"virtio-blk-pci,drive={name},serial={name},id=dev-{name}",
    ]
