"""The OCF agent `ocf:pydrbd:drbd`: a promotable clone for Pacemaker, one instance on each node.

OCF resource agent API 1.1; actions, roles and exit codes are those of its section 3 and 4. What must hold:

- `monitor` says 8 only of a Primary and 7 only of what is not up: Pacemaker acts on both without asking twice.
- The promotion score is never high on a node whose data are known to be old, and is taken away on `stop`.
- `promote` and `demote` try until they succeed: it is Pacemaker's time-out, not the agent's, that ends them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from pydrbd.cluster.control import CONNECTED, PRIMARY, WITHOUT_DISK, Control, ControlError, Disks, Roles
from pydrbd.cluster.host import Host

RETRY_PAUSE_S = 1.0
MARGIN_S = 5.0
"""What is left of Pacemaker's time-out when the agent gives up by itself, so that it can still say why."""
DEFAULT_TIMEOUT_S = 90.0
DEFAULT_SCORES = "5 10 1000 10000"
_SCORE_COUNT = 4
UP_TO_DATE = "UpToDate"
CONSISTENT = "Consistent"


class Ocf(IntEnum):
    """Exit codes, by their names in the standard."""

    SUCCESS = 0
    ERR_GENERIC = 1
    ERR_ARGS = 2
    ERR_UNIMPLEMENTED = 3
    ERR_PERM = 4
    ERR_INSTALLED = 5
    ERR_CONFIGURED = 6
    NOT_RUNNING = 7
    RUNNING_PROMOTED = 8


class OcfAgent:
    """The agent for one resource. `environment` is the process's: parameters are in OCF_RESKEY_*, times in ms."""

    def __init__(self, control: Control, host: Host, name: str, environment: Mapping[str, str]) -> None:
        self._control = control
        self._host = host
        self._name = name
        self._scores = scores_of(environment.get("OCF_RESKEY_promotion_scores", DEFAULT_SCORES))
        timeout_ms = environment.get("OCF_RESKEY_CRM_meta_timeout", "")
        timeout_s = int(timeout_ms) / 1000 if timeout_ms.isdigit() else DEFAULT_TIMEOUT_S
        self._give_up_at_s = host.now() + max(timeout_s - MARGIN_S, RETRY_PAUSE_S)

    def start(self) -> Ocf:
        """Bring the resource up as Secondary; its score waits for what the peer says, if it is there soon."""
        try:
            self._control.up(self._name)
        except ControlError as error:
            if error.exit_code != WITHOUT_DISK:
                return self._failed(error)
            self._host.warn(str(error))
        self._update_score()
        return Ocf.SUCCESS

    def stop(self) -> Ocf:
        """Take it down; what is not up is stopped. Its score goes first: nobody promotes what is going away."""
        self._host.run("crm_attribute", "--promotion", "--delete")
        try:
            self._control.down(self._name)
        except ControlError as error:
            return self._failed(error)
        return Ocf.SUCCESS

    def monitor(self) -> Ocf:
        """Say what runs, and keep the score true."""
        try:
            roles = self._control.roles(self._name)
        except ControlError as error:
            return self._failed(error)
        if roles is None:
            return Ocf.NOT_RUNNING
        self._update_score()
        return Ocf.RUNNING_PROMOTED if roles.local == PRIMARY else Ocf.SUCCESS

    def promote(self) -> Ocf:
        """Make it Primary, until that succeeds or the time is up: the peer may just be giving up."""
        return self._insist(PRIMARY)

    def demote(self) -> Ocf:
        """Make it Secondary, likewise: the last opener may just be closing. What is not up is no Primary."""
        return self._insist("Secondary")

    def notify(self) -> Ocf:
        """Look again, as after every event that Pacemaker tells of."""
        try:
            if self._control.roles(self._name) is not None:
                self._update_score()
        except ControlError as error:
            self._host.warn(str(error))
        return Ocf.SUCCESS

    # --- inside ------------------------------------------------------------------------------------------------------

    def _insist(self, role: str) -> Ocf:
        while True:
            try:
                roles = self._control.roles(self._name)
                if roles is None:
                    return Ocf.NOT_RUNNING if role == PRIMARY else Ocf.SUCCESS
                if roles.local != role:
                    self._order(role)
                self._update_score()
            except ControlError as error:
                if self._host.now() + RETRY_PAUSE_S >= self._give_up_at_s:
                    return self._failed(error)
                self._host.warn(str(error))
                self._host.sleep(RETRY_PAUSE_S)
            else:
                return Ocf.SUCCESS

    def _order(self, role: str) -> None:
        if role == PRIMARY:
            self._control.primary(self._name)
        else:
            self._control.secondary(self._name)

    def _failed(self, error: ControlError) -> Ocf:
        self._host.warn(str(error))
        return Ocf.ERR_GENERIC

    def _update_score(self) -> None:
        """Give Pacemaker this node's score; a node with nothing to promote has none."""
        roles, link, disks = (
            self._control.roles(self._name),
            self._control.link(self._name),
            self._control.disks(self._name),
        )
        if roles is None or link is None or disks is None:
            return
        score = score_of(roles, link.connection, disks, self._scores)
        if score > 0:
            self._host.run("crm_attribute", "--promotion", "--lifetime", "reboot", "--update", str(score))
        else:
            self._host.run("crm_attribute", "--promotion", "--lifetime", "reboot", "--delete")


def scores_of(text: str) -> tuple[int, int, int, int]:
    """Return the four scores of a parameter, in rising order of worth. Raises `ValueError` with a sentence."""
    words = text.split()
    if len(words) != _SCORE_COUNT or not all(word.isdigit() for word in words):
        raise ValueError(f"promotion_scores: four numbers are expected, as in '{DEFAULT_SCORES}', not '{text}'")
    first, second, third, fourth = (int(word) for word in words)
    return first, second, third, fourth


def score_of(roles: Roles, connection: str, disks: Disks, scores: tuple[int, int, int, int]) -> int:
    """Return how well this node would do as Primary; 0: not at all.

    In rising order: data that are only consistent; none of its own, but an UpToDate peer's; its own, but nobody knows
    what the peer has; its own, and the peer is there, or this node is Primary already.
    """
    consistent, remote, alone, best = scores
    if disks.local == UP_TO_DATE:
        return best if roles.local == PRIMARY or connection == CONNECTED else alone
    if connection == CONNECTED and disks.peer == UP_TO_DATE:
        return remote
    return consistent if disks.local == CONSISTENT else 0
