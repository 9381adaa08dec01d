"""What the scripts ask of pydrbd: roles, states and orders by the admin socket, daemons started and ended.

`Control` is the border: the scripts' logic is tested against a fake of it. `LiveControl` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydrbd.cli import daemon_verbs
from pydrbd.cli.admin_client import NotUpError, VerbError, ask
from pydrbd.cli.context import Context
from pydrbd.config.description import Resource

PRIMARY = "Primary"
SECONDARY = "Secondary"
CONNECTED = "Connected"
STANDALONE = "StandAlone"
WITHOUT_DISK = daemon_verbs.EXIT_WITHOUT_DISK


class ControlError(Exception):
    """An order was refused, or the daemon does not answer. One sentence, and DRBD's exit code."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Roles:
    """Both nodes' roles; the peer's is ``Unknown`` without a connection."""

    local: str
    peer: str


@dataclass(frozen=True, slots=True)
class Link:
    """How it stands with the peer. `progress` is one line while a resync runs, else empty."""

    connection: str
    progress: str = ""


@dataclass(frozen=True, slots=True)
class Disks:
    """Both disk states, in DRBD's words."""

    local: str
    peer: str


class Control(Protocol):
    """Each method may raise `ControlError`. `ConfigError` comes from `names` and `resource`."""

    def names(self) -> list[str]:
        """Return every resource of the configuration."""

    def resource(self, name: str) -> Resource:
        """Return its description."""

    def device(self, name: str) -> str:
        """Return the configured path of this node's device."""

    def roles(self, name: str) -> Roles | None:
        """Return the roles; None: the resource is not up."""

    def link(self, name: str) -> Link | None:
        """Return how it stands with the peer; None: the resource is not up."""

    def disks(self, name: str) -> Disks | None:
        """Return the disk states; None: the resource is not up."""

    def up(self, name: str) -> bool:
        """Bring the resource up; False: it is already. An error WITHOUT_DISK: it is up, and its disk is missing."""

    def down(self, name: str) -> None:
        """Take it down; fine if it is."""

    def replace(self, name: str) -> None:
        """Replace the daemon, which reads the configuration again."""

    def connect(self, name: str) -> None:
        """Connect again."""

    def primary(self, name: str, *, human: bool = False, timeout_expired: bool = False) -> None:
        """Promote."""

    def secondary(self, name: str) -> None:
        """Demote."""


class LiveControl:
    """Over the admin sockets of this node."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def names(self) -> list[str]:
        """See `Control`."""
        return self._context.names("all")

    def resource(self, name: str) -> Resource:
        """See `Control`."""
        return self._context.resource(name)

    def device(self, name: str) -> str:
        """See `Control`."""
        return self.resource(name).local(self._context.node_name).volumes[0].device

    def roles(self, name: str) -> Roles | None:
        """See `Control`."""
        text = self._look(name, "role")
        if text is None:
            return None
        local, _, peer = text.strip().partition("/")
        return Roles(local, peer)

    def link(self, name: str) -> Link | None:
        """See `Control`."""
        try:
            data = ask(self._context, name, "status").data
        except NotUpError:
            return None
        except VerbError as error:
            raise ControlError(error.sentence, error.exit_code) from error
        (connection,) = data["connections"]
        (peer_device,) = connection["peer_devices"]
        progress = ""
        if peer_device["has-sync-details"]:
            done, left_s = peer_device["percent-resync-done"], peer_device["estimated-seconds-to-finish"]
            progress = f"{peer_device['replication-state']} sync'ed: {done:.1f}%, finish in {left_s} s"
        return Link(connection["connection-state"], progress)

    def disks(self, name: str) -> Disks | None:
        """See `Control`."""
        text = self._look(name, "dstate")
        if text is None:
            return None
        local, _, peer = text.strip().partition("/")
        return Disks(local, peer)

    def up(self, name: str) -> bool:
        """See `Control`."""
        if self._look(name, "role") is not None:
            return False
        self._try(lambda: daemon_verbs.start(self._context, name))
        return True

    def down(self, name: str) -> None:
        """See `Control`."""
        self._try(lambda: daemon_verbs.stop(self._context, name))

    def replace(self, name: str) -> None:
        """See `Control`."""
        self._try(lambda: daemon_verbs.replace(self._context, name))

    def connect(self, name: str) -> None:
        """See `Control`."""
        self._order(name, "connect")

    def primary(self, name: str, *, human: bool = False, timeout_expired: bool = False) -> None:
        """See `Control`."""
        self._order(name, "primary", human=human, timeout_expired=timeout_expired)

    def secondary(self, name: str) -> None:
        """See `Control`."""
        self._order(name, "secondary")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _look(self, name: str, verb: str) -> str | None:
        try:
            return ask(self._context, name, verb).text
        except NotUpError:
            return None
        except VerbError as error:
            raise ControlError(error.sentence, error.exit_code) from error

    def _order(self, name: str, verb: str, **arguments: object) -> None:
        self._try(lambda: ask(self._context, name, verb, arguments))

    @staticmethod
    def _try(body: Callable[[], object]) -> None:
        try:
            body()
        except VerbError as error:
            raise ControlError(error.sentence, error.exit_code) from error
