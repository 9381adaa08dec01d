"""The init script's `start|stop|status|reload|restart|reconnect|checkconfig`, for one resource or all (0.6, 8.4).

It starts before heartbeat and stops after it. `start` returns when every peer is there and in sync, or nobody waits
for it any more: heartbeat that comes after it finds a device that may be promoted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydrbd.cluster.boot_wait import BootWait
from pydrbd.cluster.control import CONNECTED, PRIMARY, WITHOUT_DISK, Control, ControlError, Roles
from pydrbd.cluster.datadisk import EXIT_FAILED, EXIT_OK, Datadisk, line_of
from pydrbd.cluster.dialog import Dialog
from pydrbd.cluster.host import Host

LOCK = Path("/var/lock/subsys/drbd")


class InitScript:
    """The script for the resources that it is called for."""

    def __init__(self, control: Control, host: Host, open_dialog: Callable[[], Dialog], lock: Path = LOCK) -> None:
        self._control = control
        self._host = host
        self._wait = BootWait(control, host, open_dialog)
        self._lock = lock

    def start(self, names: list[str]) -> int:
        """Bring everything up, wait for the peers. 1 when a person ended the waiting, as ever."""
        failed = [name for name in names if not self._set_up(name)]
        if self._lock.parent.is_dir():
            self._lock.touch()
        awaited = [name for name in names if name not in failed and not self._control.resource(name).startup.load_only]
        if awaited:
            try:
                self._wait.run(awaited)
            except (EOFError, KeyboardInterrupt):
                self._host.warn("aborted")
                return EXIT_FAILED
        for name in awaited:
            self._warn_unless_connected(name)
        if failed:
            return EXIT_FAILED
        return 1 if self._wait.said_yes else EXIT_OK

    def stop(self, names: list[str]) -> int:
        """Unmount, demote and take down everything; what is not up is down."""
        if all(self._control.roles(name) is None for name in names):
            self._host.say("drbd: nothing to do")
        datadisk = Datadisk(self._control, self._host)
        code = EXIT_OK
        for name in names:
            code = self._take_down(datadisk, name) or code
        if code == EXIT_OK and set(names) == set(self._control.names()):
            self._lock.unlink(missing_ok=True)
        return code

    def status(self, names: list[str]) -> int:
        """Print a line for each resource, and how far its resync is. 255 if nothing is up."""
        is_any_up = False
        for name in names:
            roles, link = self._control.roles(name), self._control.link(name)
            is_any_up = is_any_up or roles is not None
            self._host.say(line_of(name, _word(roles, "" if link is None else link.connection)))
            if link is not None and link.progress:
                self._host.say(f"\t{link.progress}")
        return EXIT_OK if is_any_up else EXIT_FAILED

    def reload(self, names: list[str]) -> int:
        """Let every daemon read the configuration again: it is replaced, and what uses its device waits meanwhile."""
        return self._each(names, self._control.replace)

    def reconnect(self, names: list[str]) -> int:
        """Connect what is not connected."""
        return self._each(names, self._control.connect)

    def restart(self, names: list[str]) -> int:
        """Stop, and start if that went well."""
        return self.stop(names) or self.start(names)

    def checkconfig(self, names: list[str]) -> int:
        """Print who has which device: heartbeat's own tests look for it."""
        for name in names:
            for host in self._control.resource(name).hosts:
                for volume in host.volumes:
                    self._host.say(f"{name}:on {host.name}:device '{volume.device}'")
        return EXIT_OK

    # --- inside ------------------------------------------------------------------------------------------------------

    def _set_up(self, name: str) -> bool:
        try:
            is_new = self._control.up(name)
        except ControlError as error:
            is_up = error.exit_code == WITHOUT_DISK
            self._host.say(f"Setting up '{name}'...[ {'OK' if is_up else 'FAILED'} ]")
            self._host.warn(str(error))
            return is_up
        if is_new:
            self._host.say(f"Setting up '{name}'...[ OK ]")
        else:
            self._host.warn(f"'{name}' is already configured")
        return True

    def _take_down(self, datadisk: Datadisk, name: str) -> int:
        code = datadisk.stop(name)
        if code == EXIT_OK:
            try:
                self._control.down(name)
            except ControlError as error:
                self._host.warn(str(error))
                return EXIT_FAILED
        return code

    def _warn_unless_connected(self, name: str) -> None:
        link = self._control.link(name)
        state = "Unconfigured" if link is None else link.connection
        if state != CONNECTED:
            self._host.warn(f"'{name}' is not connected: {state}")

    def _each(self, names: list[str], body: Callable[[str], None]) -> int:
        code = EXIT_OK
        for name in names:
            try:
                body(name)
            except ControlError as error:
                self._host.warn(str(error))
                code = EXIT_FAILED
        return code


def _word(roles: Roles | None, connection: str) -> str:
    if roles is not None and roles.local == PRIMARY and roles.peer == PRIMARY:
        return "error"
    return "running" if connection == CONNECTED else "stopped"
