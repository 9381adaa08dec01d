"""The file that says which device there is, for the daemon's successor: written before use, removed after the end.

It is worth nothing after a reboot, which took the device along: the kernel's boot identifier is in it. A file that
cannot be read counts as none, for what it speaks of is then found by `Kind.clear`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydrbd.device.kind import Attached

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StateFile:
    """`device.json` in the resource's run directory."""

    def __init__(self, run: Path, boot_id: Path = BOOT_ID) -> None:
        self.path = run / "device.json"
        self._boot_id = boot_id.read_text(encoding="ascii").strip()

    def save(self, device: Attached) -> None:
        """Write it, whole or not at all. Raises `OSError`."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(device) | {"boot_id": self._boot_id}), encoding="utf-8")
        fresh.replace(self.path)

    def load(self) -> Attached | None:
        """Return the device that was there when the last daemon ended; None: there was none in this boot."""
        try:
            fields = json.loads(self.path.read_text(encoding="utf-8"))
            if fields.pop("boot_id") != self._boot_id:
                return None
            return Attached(**fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def remove(self) -> None:
        """Forget the device: it has gone. Twice is fine."""
        self.path.unlink(missing_ok=True)
