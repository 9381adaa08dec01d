"""The story, act by act. Each act says what it does, does it with the `pydrbd` command, and shows what came of it."""

from __future__ import annotations

import contextlib
import subprocess
import time

from demo.on_files import FileLoad
from demo.on_images import ImageLoad
from demo.timeline import Timeline
from pair import RESOURCE, Node, Pair

MIB = 1 << 20
KIB_PER_MIB = 1024


class LostDataError(Exception):
    """What must never happen has happened."""


class Story:
    """Castor and Pollux, and what befalls them."""

    def __init__(self, pair: Pair, load: FileLoad | ImageLoad, timeline: Timeline) -> None:
        self.pair = pair
        self.load = load
        self.timeline = timeline
        self.size_bytes = 0
        self.copied_mib = 0.0

    def say(self, node: Node, *arguments: str) -> str:
        """Type a `pydrbd` command on a node, before everybody's eyes."""
        self.timeline.command(node.name, f"pydrbd {' '.join(arguments)}")
        return node.run(*arguments)

    def expect_nothing_lost(self, node: Node) -> None:
        """Compare every acknowledged checksum on the node's device."""
        began = time.monotonic()
        lost, count, unit = self.load.lost(), self.load.acknowledged, self.load.unit
        if lost:
            raise LostDataError(f"{len(lost)} of {count} acknowledged {unit} lost: {lost[:5]}")
        seconds = time.monotonic() - began
        self.timeline.fact(
            node.name, f"[bold]all {count} acknowledged {unit} are there[/], compared in {seconds:.1f} s"
        )

    def open(self, node: Node) -> None:
        """Put the load on the node's device."""
        self.timeline.command(node.name, self.load.open(node))

    def hand_over(self, giver: Node, taker: Node) -> None:
        """Make the giver Secondary as soon as nobody uses its device, and the taker Primary."""
        self.pair.wait_for(lambda: not giver.status().raw["devices"][0]["open"], "the device to be closed")
        self.say(giver, "secondary", RESOURCE)
        self.say(taker, "primary", RESOURCE)

    def begin(self) -> None:
        """Act one: fresh disks, two daemons, the first full sync."""
        castor, pollux = self.pair.nodes
        self.timeline.chapter("Two nodes, two disks")
        self.timeline.document("drbd.conf", (self.pair.directory / "drbd.conf").read_text(encoding="utf-8"))
        for node in self.pair.nodes:
            self.say(node, "create-md", RESOURCE)
        for node in self.pair.nodes:
            self.say(node, "up", RESOURCE)
        self.pair.wait_for(lambda: all(n.status().connection == "Connected" for n in self.pair.nodes), "the connection")
        self.timeline.state(castor.name, castor.status())
        self.first_sync(pollux, castor)
        self.timeline.command(pollux.name, self.load.prepare(pollux))
        self.hand_over(pollux, castor)
        self.timeline.state(castor.name, castor.status())

    def first_sync(self, source: Node, target: Node) -> None:
        """Say once which disk is the good one."""
        self.say(source, "primary", "--force", RESOURCE)
        began = time.monotonic()
        self.timeline.watch(target.name, target.status, "first full sync", 300)
        seconds = time.monotonic() - began
        self.pair.wait_in_sync()
        self.size_bytes = self.device_bytes(source)
        mib = self.size_bytes / MIB
        self.timeline.fact(target.name, f"first full sync: {mib:.0f} MiB in {seconds:.1f} s, {mib / seconds:.0f} MiB/s")

    @staticmethod
    def device_bytes(node: Node) -> int:
        """Ask a foreign client for the size of the device."""
        command = ["nbdinfo", "--size", node.uri]
        return int(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)

    def write_and_kill(self) -> None:
        """Act two: write, and kill castor's daemon in the middle of it."""
        castor = self.pair.castor
        self.timeline.chapter("Castor writes, and dies of it")
        self.open(castor)
        self.timeline.fact(castor.name, f"wrote {self.load.write()}")
        self.load.start()
        self.timeline.fact(castor.name, "goes on writing in the background")
        pid = castor.pid()
        castor.kill()
        self.timeline.blow(castor.name, f"kill -9 {pid}: castor's daemon is dead in the middle of a write")
        reason = self.load.stop()
        self.timeline.fact(
            castor.name, f"{self.load.acknowledged} {self.load.unit} had been acknowledged. {reason}".strip()
        )
        self.load.close()

    def take_over(self) -> None:
        """Act three: pollux takes over and goes on alone."""
        pollux = self.pair.pollux
        self.timeline.chapter("Pollux takes over")
        self.pair.wait_for(lambda: pollux.status().connection != "Connected", "pollux to notice")
        self.timeline.state(pollux.name, pollux.status())
        self.say(pollux, "primary", RESOURCE)
        self.open(pollux)
        self.expect_nothing_lost(pollux)
        self.timeline.fact(pollux.name, f"writes on alone: {self.load.write_more()}")
        missing = int(pollux.status().peer_device["out-of-sync"]) / KIB_PER_MIB
        self.timeline.fact(pollux.name, f"has marked {missing:.1f} MiB that castor misses")

    def come_back(self) -> None:
        """Act four: castor comes back and gets what it missed, with writes going on."""
        castor, pollux = self.pair.nodes
        self.timeline.chapter("Castor comes back")
        self.load.start()
        self.say(castor, "up", RESOURCE)
        self.timeline.watch(castor.name, castor.status, "resync", 120)
        self.pair.wait_in_sync()
        self.load.stop()
        self.copied_mib = int(castor.status().peer_device["received"]) / KIB_PER_MIB
        for sentence in castor.logged("Began resync as SyncTarget")[-1:]:
            self.timeline.fact(castor.name, f"its log says: {sentence}")
        what = (
            f"{self.copied_mib:.1f} MiB, resync and new writes together, of a disk of {self.size_bytes / MIB:.0f} MiB"
        )
        self.timeline.fact(castor.name, f"was sent {what}")
        self.timeline.state(pollux.name, pollux.status())

    def swap_roles(self) -> None:
        """Act five: everything back to castor."""
        castor, pollux = self.pair.nodes
        self.timeline.chapter("The roles are swapped")
        self.expect_nothing_lost(pollux)
        self.load.close()
        self.hand_over(pollux, castor)
        self.open(castor)
        self.expect_nothing_lost(castor)
        self.timeline.fact(castor.name, f"wrote {self.load.write_more()}")
        self.load.close()
        self.timeline.state(castor.name, castor.status())

    def compare(self) -> None:
        """Act six: both daemons down; the disks themselves."""
        castor = self.pair.castor
        self.timeline.chapter("The two disks, byte by byte")
        self.pair.wait_for(lambda: not castor.status().raw["devices"][0]["open"], "the device to be closed")
        self.say(castor, "secondary", RESOURCE)
        for node in self.pair.nodes:
            self.say(node, "down", RESOURCE)
        differ = self.pair.data_areas_differ(self.size_bytes)
        if differ is not None:
            raise LostDataError(f"the disks differ at byte {differ}")
        self.timeline.fact("", f"[bold]all {self.size_bytes:,} bytes of data are the same on both disks")

    def tell(self) -> None:
        """Tell it all; whatever happens, leave no mount behind."""
        try:
            self.begin()
            self.write_and_kill()
            self.take_over()
            self.come_back()
            self.swap_roles()
            self.compare()
        except BaseException:
            with contextlib.suppress(Exception):
                self.load.stop()
            raise
        finally:
            self.load.close()
