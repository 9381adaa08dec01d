"""`datadisk [RESOURCE] start|stop|status|restart`, as heartbeat calls it: role and filesystem together (0.6).

What must hold, since heartbeat 1.2 acts on it without asking twice:

- `status` alone decides whether heartbeat thinks that it owns the resource: it looks for ``running`` or ``OK`` in any
  line. So no other line on stdout has such a word, and ``running`` is said only of a Primary or of a mounted device.
- A failed `start` does not stop what comes after it. So nothing is mounted then.
- A `stop` that fails ten times while status says running reboots the machine. So `stop` is idempotent, and a resync
  does not refuse it.
"""

from __future__ import annotations

from collections.abc import Callable

from pydrbd.cluster.control import PRIMARY, Control, ControlError
from pydrbd.cluster.host import Host, words_of

EXIT_OK = 0
EXIT_FAILED = 255

PEER_POLL_S = 5.0
"""How often a Primary peer is looked at: for as long as it takes."""
PROMOTE_TRIES = 6
PROMOTE_PAUSE_S = 1.0
NOT_UP_TO_DATE = 17
KILL_PAUSE_S = 3.0
PROGRAM_NOT_FOUND = 127
FSCK_CORRECTED = 1
"""fsck(8): errors were found and corrected."""
_HEARTBEAT_WORDS = ("running", "Running", "OK")


class ScriptError(Exception):
    """A step failed; one sentence."""


class Datadisk:
    """The script for one resource at a time."""

    def __init__(self, control: Control, host: Host) -> None:
        self._control = control
        self._host = host

    def start(self, name: str) -> int:
        """Wait until the peer is no Primary, promote, check, mount. Return the exit code."""
        return self._step(name, self._start)

    def stop(self, name: str) -> int:
        """Unmount and demote; fine if that has been done. Return the exit code."""
        return self._step(name, self._stop)

    def restart(self, name: str) -> int:
        """Stop, and start if that went well."""
        return self.stop(name) or self.start(name)

    def status(self, name: str) -> int:
        """Print the one line that heartbeat looks at. Always 0."""
        self._host.say(line_of(name, self._state(name)))
        return EXIT_OK

    # --- inside ------------------------------------------------------------------------------------------------------

    def _step(self, name: str, body: Callable[[str], None]) -> int:
        try:
            body(name)
        except (ScriptError, ControlError) as error:
            self._host.warn(f"datadisk: {error}")
            return EXIT_FAILED
        return EXIT_OK

    def _state(self, name: str) -> str:
        is_mounted = self._host.is_mounted(self._control.device(name))
        try:
            roles = self._control.roles(name)
        except ControlError as error:
            # The daemon does not answer. What is mounted is ours all the same.
            self._host.warn(f"datadisk: {error}")
            roles = None
        if roles is not None and roles.local == PRIMARY:
            return "error" if roles.peer == PRIMARY else "running"
        return "running" if is_mounted else "stopped"

    def _start(self, name: str) -> None:
        self._wait_for_peer(name)
        self._promote(name)
        device = self._control.device(name)
        if not self._host.is_mounted(device):
            self._check(name, device)
            if self._host.run("mount", "-v", device):
                raise ScriptError(f"'{name}': {device} cannot be mounted; /etc/fstab says where, with noauto")
        self._host.say(f"datadisk: '{name}' activated")

    def _wait_for_peer(self, name: str) -> None:
        told = False
        while True:
            roles = self._control.roles(name)
            if roles is None:
                raise ScriptError(f"'{name}' is not up; try `pydrbd up {name}` first")
            if roles.peer != PRIMARY:
                return
            if roles.local == PRIMARY:
                raise ScriptError(f"'{name}': both nodes are Primary")
            if not told:
                self._host.warn(f"datadisk: '{name}': waiting, the peer is Primary")
                told = True
            self._host.sleep(PEER_POLL_S)

    def _promote(self, name: str) -> None:
        """Promote; a refusal may be a matter of moments: the peer dies, or a handshake is under way."""
        for left in reversed(range(PROMOTE_TRIES)):
            roles = self._control.roles(name)
            if roles is not None and roles.local == PRIMARY:
                return
            try:
                self._control.primary(name)
            except ControlError as error:
                if left == 0 or error.exit_code == NOT_UP_TO_DATE:
                    raise
                self._host.sleep(PROMOTE_PAUSE_S)
                self._wait_for_peer(name)
            else:
                return

    def _check(self, name: str, device: str) -> None:
        command = self._control.resource(name).fsckcmd
        if command is None:
            return
        code = self._host.run(*words_of(command), device)
        if code not in {0, FSCK_CORRECTED}:
            raise ScriptError(f"'{name}': `{command} {device}` ended with {code}; not mounted")

    def _stop(self, name: str) -> None:
        device = self._control.device(name)
        if self._control.roles(name) is None:
            if not self._host.is_mounted(device):
                self._host.say(f"datadisk: '{name}' de-activated")
                return
            # The daemon died under it: nobody serves the last writes of an unmount but the next one.
            self._control.up(name)
        if self._host.is_mounted(device):
            self._unmount(name, device)
        self._control.secondary(name)
        self._host.say(f"datadisk: '{name}' de-activated")

    def _unmount(self, name: str, device: str) -> None:
        if self._unmount_all(device):
            return
        self._host.warn(f"datadisk: '{name}': killing who uses the filesystem on {device}")
        if self._host.run("fuser", "-k", "-m", device) == PROGRAM_NOT_FOUND:
            self._host.warn(f"datadisk: '{name}': nobody was killed: fuser is missing (Debian's package psmisc)")
        self._host.sleep(KILL_PAUSE_S)
        if not self._unmount_all(device):
            raise ScriptError(f"'{name}': {device} cannot be unmounted")

    def _unmount_all(self, device: str) -> bool:
        """Unmount the device from wherever it is mounted."""
        while self._host.is_mounted(device):
            if self._host.run("umount", "-v", device):
                return False
        return True


def line_of(name: str, state: str) -> str:
    """Return a line of `status`. A name that has one of heartbeat's words in it must not decide."""
    if state != "running" and any(word in name for word in _HEARTBEAT_WORDS):
        return state
    return f"{name}: {state}"
