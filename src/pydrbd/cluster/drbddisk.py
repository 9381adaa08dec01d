"""`drbddisk [RESOURCE] start|stop|status`: the role alone, for a cluster manager that mounts by itself (8.x).

Exit codes and words are those of drbd-utils' script: ``running`` is in a line only if the resource is, or may be,
Primary.
"""

from __future__ import annotations

from pydrbd.cluster.control import PRIMARY, SECONDARY, Control, ControlError
from pydrbd.cluster.host import Host

ALL = "all"
START_TRIES = 6
STOP_TRIES = 3
PAUSE_S = 1.0
EXIT_FAILED = 1
EXIT_STOPPED = 3
EXIT_UNKNOWN = 4
EXIT_ALL = 10


class Drbddisk:
    """The script for one resource at a time."""

    def __init__(self, control: Control, host: Host) -> None:
        self._control = control
        self._host = host

    def start(self, name: str) -> int:
        """Promote, trying for a few seconds."""
        for left in reversed(range(START_TRIES)):
            try:
                self._control.primary(name)
            except ControlError as error:
                self._host.warn(str(error))
                if left:
                    self._host.sleep(PAUSE_S)
            else:
                return 0
        return EXIT_FAILED

    def stop(self, name: str) -> int:
        """Demote, trying for a few seconds; what is not up is demoted."""
        for left in reversed(range(STOP_TRIES)):
            try:
                if self._control.roles(name) is not None:
                    self._control.secondary(name)
            except ControlError as error:
                self._host.warn(str(error))
                if left:
                    self._host.sleep(PAUSE_S)
            else:
                return 0
        return EXIT_FAILED

    def status(self, name: str) -> int:
        """Print the role."""
        if name == ALL:
            self._host.warn("resource name is needed for status inquiries")
            return EXIT_ALL
        try:
            roles = self._control.roles(name)
        except ControlError as error:
            self._host.say(f"cannot determine status, may be running ({error})")
            return EXIT_UNKNOWN
        role = "Unconfigured" if roles is None else roles.local
        if role == PRIMARY:
            self._host.say(f"running ({role})")
            return 0
        if role in {SECONDARY, "Unconfigured"}:
            self._host.say(f"stopped ({role})")
            return EXIT_STOPPED
        self._host.say(f"cannot determine status, may be running ({role})")
        return EXIT_UNKNOWN
