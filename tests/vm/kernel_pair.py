"""One case: pydrbd on castor, the kernel's DRBD on pollux, one resource between them.

Begins in sync by putting back the disks of a pair that was once synchronised and taken down cleanly, so that a case
costs seconds. Ends with both disks compared and with a transcript that must decode.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vm.capture import Capture, Transcript
from vm.couple import WORKLOAD, Couple, KernelNode, Node, PydrbdNode, configuration, wait_until

SYNC_SECONDS = 90
CONNECT_SECONDS = 60


@dataclass(slots=True)
class KernelPair:
    """Both nodes. `name` names the transcript; `compared` says whether the end compares the disks."""

    couple: Couple
    name: str
    output: Path
    snapshots: dict[str, bytes]
    compared: bool = True
    expected: dict[str, str] = field(default_factory=dict)
    _capturing: bool = False
    _captured: Capture = field(init=False)

    def __post_init__(self) -> None:
        """Begin without a capture."""
        self._captured = Capture(self._path("pcap"))

    @property
    def ours(self) -> PydrbdNode:
        """Castor."""
        node = self.couple.nodes["castor"]
        assert isinstance(node, PydrbdNode)
        return node

    @property
    def kernel(self) -> KernelNode:
        """Pollux."""
        node = self.couple.nodes["pollux"]
        assert isinstance(node, KernelNode)
        return node

    def node(self, kind: str) -> Node:
        """Return the node by what it is: pydrbd or kernel."""
        return {"pydrbd": self.ours, "kernel": self.kernel}[kind]

    def both(self, primary: str) -> tuple[Node, Node]:
        """Return (primary, secondary) of a case."""
        return (self.ours, self.kernel) if primary == "pydrbd" else (self.kernel, self.ours)

    # --- beginning ---------------------------------------------------------------------------------------------------

    def begin(self, net: str = "", disk: str = "", protocol: str = "C", meta: str = "internal") -> None:
        """Take everything down, write the configuration, begin the capture."""
        self.couple.boot()
        self.couple.as_kind(PydrbdNode, KernelNode)
        self.couple.stop_all()
        self.couple.resize_disks(self.couple.disk_bytes)
        for machine in self.couple.machines:
            machine.run("dmesg --clear")
        for node in self.couple.nodes.values():
            node.configure(configuration(net, disk, protocol, meta))
        self.output.mkdir(parents=True, exist_ok=True)
        self._stop_capture()
        self._path("pcap").unlink(missing_ok=True)
        self._captured = Capture(self._path("pcap"))
        self.couple.castor.start_capture(self._path("pcap"))
        self._capturing = True

    def begin_fresh(self, net: str = "", disk: str = "", protocol: str = "C", meta: str = "internal") -> None:
        """Begin with different random data on both disks, fresh metadata, and both up and connected."""
        self.begin(net, disk, protocol, meta)
        for number, name in enumerate(self.couple.nodes):
            data = random.Random(number).randbytes(self.couple.disk_bytes)
            _overwrite(self.couple.disk(name), data)
        self.ours.tell("create-md --force")
        self.kernel.tell("-- --force create-md")
        self.up()

    def begin_in_sync(self, primary: str | None = None, net: str = "", disk: str = "", protocol: str = "C") -> None:
        """Begin connected, both UpToDate, with one of them Primary if said."""
        self.begin_down(net, disk, protocol)
        self.up()
        self.wait_in_sync()
        if primary:
            self.node(primary).tell("primary")

    def begin_down(self, net: str = "", disk: str = "", protocol: str = "C") -> None:
        """Begin with the disks of a pair in sync; neither node is up."""
        if not self.snapshots:
            self._make_snapshots()
        self.begin(net, disk, protocol)
        for name, data in self.snapshots.items():
            _overwrite(self.couple.disk(name), data)

    def _make_snapshots(self) -> None:
        self.begin_fresh()
        self.ours.tell("primary --force")
        self.wait_in_sync()
        self.ours.tell("secondary")
        self.kernel.tell("down")
        self.ours.tell("down")
        for name in ("castor", "pollux"):
            self.snapshots[name] = self.couple.disk(name).read_bytes()

    def up(self) -> None:
        """Start both and wait until they have found each other."""
        self.kernel.tell("up")
        self.ours.tell("up")
        self.wait_connected()

    # --- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Wait until `condition` holds; a failure says what both nodes say."""
        wait_until(condition, lambda: f"{what}: {self.seen()}", timeout_s)

    def seen(self) -> str:
        """Return what both nodes say, for a failure's message."""
        return "\n".join(f"{name}: {node.seen()}" for name, node in self.couple.nodes.items())

    def wait_connected(self) -> None:
        """Wait until both say that they are connected, resync or not."""
        apart = {"WFConnection", "WFReportParams", "StandAlone", "Unconnected", "Unconfigured", "Disconnecting"}
        apart |= {"NetworkFailure", "BrokenPipe", "Timeout", "ProtocolError", "TearDown"}
        nodes = self.couple.nodes.values()
        self.wait(lambda: all(node.seen().connection not in apart for node in nodes), "connection", CONNECT_SECONDS)

    def wait_in_sync(self) -> None:
        """Wait until both say that both replicas are the same."""
        nodes = self.couple.nodes.values()
        self.wait(lambda: all(node.seen().in_sync for node in nodes), "both UpToDate", SYNC_SECONDS)

    def wait_seen(self, node: Node, timeout_s: float = 60, **wanted: str) -> None:
        """Wait until a node says this of itself."""
        self.wait(
            lambda: all(getattr(node.seen(), name) == value for name, value in wanted.items()),
            f"{node.machine.name} {wanted}",
            timeout_s,
        )

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, node: Node, seed: int, options: str = "") -> str:
        """Write on the primary; `options` are the workload's."""
        return node.machine.run(f"{WORKLOAD} write {node.target} --seed {seed} {options}")

    def verify(self, node: Node, seed: int, options: str = "") -> str:
        """Read what was written on the primary, and compare."""
        return node.machine.run(f"{WORKLOAD} verify {node.target} --seed {seed} {options}")

    # --- the end -----------------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Both in sync, no bit set, and both disks the same, byte by byte."""
        self.wait_in_sync()
        self.wait(lambda: all(n.seen().out_of_sync_kib == 0 for n in self.couple.nodes.values()), "no bit set", 20)
        size = 512 * int(self.kernel.machine.run("cat /sys/block/drbd0/size"))
        left, right = (self.couple.disk(name).read_bytes()[:size] for name in ("castor", "pollux"))
        if left != right:
            differing = [at for at in range(0, size, 4096) if left[at : at + 4096] != right[at : at + 4096]]
            raise AssertionError(f"{len(differing)} of {size // 4096} blocks differ, the first at {differing[0]}")

    def transcript(self) -> Transcript:
        """Return what was said until now."""
        return self._captured.read()

    def finish(self) -> None:
        """Compare, end the capture and decode it; the transcript stays beside it."""
        if self.compared:
            self.compare()
        self._stop_capture()
        transcript = self.transcript()
        self._path("packets").write_text(transcript.lines(), encoding="utf-8")
        assert not transcript.trouble, "\n".join(transcript.trouble[:10])
        kernel_log = self.kernel.machine.run("dmesg")
        for word in ("BUG:", "Oops", "ASSERT", "Call Trace", "INFO: task"):
            at = kernel_log.find(word)
            assert at < 0, f"{word} in the kernel's log of pollux:\n{kernel_log[max(0, at - 3000) : at + 2000]}"

    def report(self) -> str:
        """Return what both nodes and their logs say, for a failure's message."""
        parts = [f"transcript: {self._path('packets')}"]
        for name, node in self.couple.nodes.items():
            if node.machine.is_on:
                parts += [f"{name}: {node.seen()}", node.log()]
        return "\n".join(parts)

    def end(self) -> None:
        """Whatever happened: leave a transcript, mend the wire."""
        self._stop_capture()
        if self._path("pcap").exists():
            self._path("packets").write_text(self.transcript().lines(), encoding="utf-8")
        for machine in self.couple.machines:
            if machine.is_on:
                machine.mend_link()
                machine.thaw()

    def _stop_capture(self) -> None:
        if self._capturing and self.couple.castor.is_on:
            self.couple.castor.stop_capture()
        self._capturing = False

    def _path(self, kind: str) -> Path:
        return self.output / f"{self.name}.{kind}"


def _overwrite(path: Path, data: bytes) -> None:
    """Replace a disk's content under a machine that does not use it."""
    with path.open("r+b") as file:
        file.write(data)
