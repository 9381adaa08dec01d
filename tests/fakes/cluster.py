"""A node and a host as the cluster scripts see them: states that a test sets, and a list of all that was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pydrbd.cluster.control import WITHOUT_DISK, ControlError, Disks, Link, Roles
from pydrbd.config.description import Host as HostDescription
from pydrbd.config.description import MetaDisk, MetaDiskKind, Resource, StartupOptions, Volume

REFUSED = ControlError("drbd0: State change failed: Multiple primaries not allowed by config", 11)
NOT_UP_TO_DATE = ControlError("drbd0: State change failed: Need access to UpToDate data", 17)


def _resource(name: str) -> Resource:
    volume = Volume(0, "/dev/nb0", 0, "/dev/md3", MetaDisk(MetaDiskKind.FILE))
    castor = HostDescription("castor", "10.0.0.1", 7788, (volume,))
    return Resource(name, (castor, replace(castor, name="pollux", address="10.0.0.2")), fsckcmd="/bin/true -y")


@dataclass
class World:
    """Both `Control` and `Host`. Time passes when somebody sleeps; `events` happen at their second."""

    roles_now: Roles | None = field(default_factory=lambda: Roles("Secondary", "Secondary"))
    link_now: Link | None = field(default_factory=lambda: Link("Connected"))
    disks_now: Disks | None = field(default_factory=lambda: Disks("UpToDate", "UpToDate"))
    mounted: bool = False
    description: Resource = field(default_factory=lambda: _resource("drbd0"))
    refusals: list[ControlError] = field(default_factory=list)
    """The next orders' answers; then orders succeed."""
    silent: ControlError | None = None
    """What asking for the roles raises."""
    codes: dict[str, list[int]] = field(default_factory=dict)
    """Exit codes of programs, by name, in the order of the runs; then 0."""
    events: list[tuple[float, Callable[[World], None]]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    clock: float = 0.0

    def startup(self, **options: object) -> None:
        self.description = replace(self.description, startup=StartupOptions(**options))  # type: ignore[arg-type]

    # --- Control ---

    def names(self) -> list[str]:
        return [self.description.name]

    def resource(self, _name: str) -> Resource:
        return self.description

    def device(self, _name: str) -> str:
        return "/dev/nb0"

    def roles(self, _name: str) -> Roles | None:
        if self.silent is not None:
            raise self.silent
        return self.roles_now

    def link(self, _name: str) -> Link | None:
        return self.link_now

    def disks(self, _name: str) -> Disks | None:
        return self.disks_now

    def up(self, name: str) -> bool:
        if self.roles_now is not None:
            return False
        try:
            self._order(f"up {name}")
        except ControlError as error:
            if error.exit_code == WITHOUT_DISK:
                self.roles_now, self.link_now = Roles("Secondary", "Unknown"), Link("Connecting")
            raise
        self.roles_now, self.link_now = Roles("Secondary", "Unknown"), Link("Connecting")
        return True

    def down(self, name: str) -> None:
        self._order(f"down {name}")
        self.roles_now = None

    def replace(self, name: str) -> None:
        self._order(f"replace {name}")

    def connect(self, name: str) -> None:
        self._order(f"connect {name}")

    def primary(self, name: str, *, human: bool = False, timeout_expired: bool = False) -> None:
        how = " human" if human else " timeout-expired" if timeout_expired else ""
        self._order(f"primary {name}{how}")
        self.roles_now = Roles("Primary", self.roles_now.peer if self.roles_now else "Unknown")

    def secondary(self, name: str) -> None:
        self._order(f"secondary {name}")
        self.roles_now = Roles("Secondary", self.roles_now.peer if self.roles_now else "Unknown")

    def _order(self, what: str) -> None:
        self.done.append(what)
        if self.refusals:
            raise self.refusals.pop(0)

    # --- Host ---

    def is_mounted(self, device: str) -> bool:
        assert device == "/dev/nb0"
        return self.mounted

    def run(self, *words: str) -> int:
        self.done.append(" ".join(words))
        codes = self.codes.get(words[0].rpartition("/")[2], [])
        code = codes.pop(0) if codes else 0
        if words[0] in {"mount", "umount"} and code == 0:
            self.mounted = words[0] == "mount"
        return code

    def sleep(self, seconds: float) -> None:
        self.clock += seconds
        assert self.clock < 3600, "it waits for ever"
        for event in [event for event in self.events if event[0] <= self.clock]:
            self.events.remove(event)
            event[1](self)

    def now(self) -> float:
        return self.clock

    def say(self, line: str) -> None:
        self.said.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)


@dataclass
class FakeDialog:
    """A terminal at which somebody types at given times."""

    world: World
    typed: list[tuple[float, str | None]]
    """(second, line); None is Ctrl-D."""
    shown: list[str] = field(default_factory=list)
    closed: bool = False

    def ask(self, text: str) -> None:
        self.shown.append(text)

    def answer(self) -> str | None:
        if not self.typed or self.typed[0][0] > self.world.clock:
            return None
        line = self.typed.pop(0)[1]
        if line is None:
            raise EOFError
        return line

    def close(self) -> None:
        self.closed = True
