"""How a booting node waits for its peers: until each is connected and in sync, its time is over, or a person says yes.

What must hold: a node that goes on alone is promoted only by a person's word (`primary --human`) or where the
configuration says so (positive inittimeout: `primary --timeout-expired`); a negative inittimeout, or 8.4's
wfc-timeout, ends the waiting and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydrbd.cluster.control import CONNECTED, SECONDARY, STANDALONE, Control, ControlError
from pydrbd.cluster.dialog import AGAIN, QUESTION, YES, Dialog
from pydrbd.cluster.host import Host
from pydrbd.config.description import StartupOptions

POLL_S = 0.5
DIALOG_AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class Limit:
    """How long one resource is waited for: None, for ever; `promotes`: then it becomes Primary."""

    seconds: float | None
    promotes: bool = False

    @classmethod
    def of(cls, startup: StartupOptions) -> Limit:
        """Return the limit that the configuration sets."""
        if startup.inittimeout_s:
            return cls(abs(startup.inittimeout_s), promotes=startup.inittimeout_s > 0)
        return cls(startup.wfc_timeout_s or None)


class BootWait:
    """One wait for all resources together."""

    def __init__(self, control: Control, host: Host, open_dialog: Callable[[], Dialog]) -> None:
        self._control = control
        self._host = host
        self._open_dialog = open_dialog
        self._dialog: Dialog | None = None
        self.said_yes = False
        """A person has ended the waiting."""

    def run(self, names: list[str]) -> None:
        """Wait. Raises `EOFError` or `KeyboardInterrupt` when a person aborts the boot script."""
        waiting = list(names)
        begun = self._host.now()
        self._host.say(f"waiting for connection: {' '.join(waiting)}")
        try:
            while waiting := [name for name in waiting if not self._is_over(name, self._host.now() - begun)]:
                if self._host.now() - begun >= DIALOG_AFTER_S and self._has_consent():
                    self.said_yes = True
                    self._go_on_alone(waiting)
                    return
                self._host.sleep(POLL_S)
            if self._dialog is not None:
                self._dialog.ask("\nAll resources are connected.\n")
        finally:
            if self._dialog is not None:
                self._dialog.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _is_over(self, name: str, waited_s: float) -> bool:
        link, roles = self._control.link(name), self._control.roles(name)
        if link is None or roles is None or link.connection == STANDALONE:
            return True
        startup = self._control.resource(name).startup
        if link.connection == CONNECTED:
            return startup.skip_wait or not link.progress or roles.local != SECONDARY
        limit = Limit.of(startup)
        if limit.seconds is None or waited_s < limit.seconds:
            return False
        self._host.warn(f"'{name}': the other node has not come within {limit.seconds:g} s; going on without it")
        if limit.promotes:
            self._promote(name, human=False)
        return True

    def _has_consent(self) -> bool:
        if self._dialog is None:
            self._dialog = self._open_dialog()
            self._dialog.ask(QUESTION)
        answer = self._dialog.answer()
        if answer is None or answer == YES:
            return answer == YES
        self._dialog.ask(AGAIN)
        return False

    def _go_on_alone(self, names: list[str]) -> None:
        for name in names:
            link = self._control.link(name)
            if link is not None and link.connection != CONNECTED:
                self._promote(name, human=True)

    def _promote(self, name: str, *, human: bool) -> None:
        try:
            self._control.primary(name, human=human, timeout_expired=not human)
        except ControlError as error:
            self._host.warn(f"'{name}': {error}")
