"""Tell the story once, in a directory of its own, and leave nothing behind."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from types import FrameType

from demo.filesystem import NoFilesystemError, why_not
from demo.on_files import FileLoad
from demo.on_images import ImageLoad
from demo.story import LostDataError, Story
from demo.timeline import Timeline
from pair import ADDRESSES, CommandError, Pair, free_port

MIB = 1 << 20
DISK_BYTES = 256 * MIB
DRBD_PORT = 7788


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="./demo", description="Two nodes on this machine; one is killed while it writes."
    )
    parser.add_argument("--no-mount", action="store_true", help="use nbdcopy even where a filesystem could be mounted")
    parser.add_argument("--seed", type=int, default=random.getrandbits(32), help="of the written contents")
    parser.add_argument("--keep", action="store_true", help="keep disks and logs, and say where they are")
    return parser.parse_args()


def port() -> int:
    """Return DRBD's own port, or another one where somebody has it."""
    try:
        for address in ADDRESSES.values():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, DRBD_PORT))
    except OSError:
        return free_port()
    return DRBD_PORT


def tell(arguments: argparse.Namespace, directory: Path, timeline: Timeline) -> Story:
    """Tell the story with a filesystem, or without one and say why."""
    reason = "--no-mount" if arguments.no_mount else why_not()
    load: FileLoad | ImageLoad
    if reason:
        timeline.fact("", f"no filesystem will be mounted ({reason}); nbdcopy shows the same with images")
        load = ImageLoad(directory, arguments.seed)
    else:
        load = FileLoad(directory, arguments.seed)
    with Pair.create(directory, DISK_BYTES, port()) as pair:
        story = Story(pair, load, timeline)
        try:
            story.tell()
        except Exception:
            timeline.console.print(pair.report(), style="dim", markup=False)
            raise
        return story


def close(story: Story, timeline: Timeline) -> None:
    """Print what counts."""
    timeline.summary(
        [
            ("acknowledged", f"{story.load.acknowledged} {story.load.unit}"),
            ("lost", "0"),
            ("copied when castor came back", f"{story.copied_mib:.1f} MiB of {story.size_bytes / MIB:.0f}"),
            ("bytes in which the disks differ", "0"),
        ]
    )


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C: everything is taken down on the way out."""
    raise KeyboardInterrupt


def main() -> int:
    """Run; the exit code is 0 only when nothing was lost."""
    arguments = parse()
    signal.signal(signal.SIGTERM, stop)
    timeline = Timeline()
    directory = Path(tempfile.mkdtemp(prefix="pydrbd-demo-"))
    try:
        story = tell(arguments, directory, timeline)
    except KeyboardInterrupt:
        timeline.blow("", "stopped; everything has been taken down")
        return 130
    except (LostDataError, CommandError, TimeoutError, NoFilesystemError) as error:
        timeline.blow("", str(error))
        return 1
    finally:
        if arguments.keep:
            timeline.fact("", f"disks and logs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    close(story, timeline)
    return 0


sys.exit(main())
