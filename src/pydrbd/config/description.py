"""The configuration as the program knows it: one immutable, validated description, whatever dialect it was written in.

Field names are DRBD's option names with underscores, the unit last: times in milliseconds or seconds, sizes in bytes,
sectors of 512 bytes, pages of 4 KiB, rates in KiB/s. Ranges, DRBD's own units and the meaning of each option stand in
`options.py`; a test holds the defaults of both together. Nothing here knows a file, a grammar or a command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pydrbd.config.errors import NOWHERE, ConfigError, Place, did_you_mean, listed

DEFAULT_PORT = 7788


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """What concerns the host, not a resource."""

    dialog_refresh_s: int = 1


@dataclass(frozen=True, slots=True)
class NetOptions:
    """The link to the peer: section `net`."""

    protocol: str = "C"
    timeout_ms: int = 6000
    connect_int_ms: int = 10_000
    ping_int_ms: int = 10_000
    ping_timeout_ms: int = 500
    ko_count: int = 1
    socket_check_timeout_ms: int = 0
    max_epoch_size: int = 2048
    max_buffers_pages: int = 2048
    sndbuf_size_bytes: int = 0
    rcvbuf_size_bytes: int = 0
    after_sb_0pri: str = "disconnect"
    after_sb_1pri: str = "disconnect"
    after_sb_2pri: str = "disconnect"
    always_asbp: bool = False
    rr_conflict: str = "disconnect"
    fencing: str = "dont-care"
    cram_hmac_alg: str | None = None
    shared_secret: str | None = field(default=None, repr=False)
    data_integrity_alg: str | None = None
    verify_alg: str | None = None
    csums_alg: str | None = None
    csums_after_crash_only: bool = False
    use_rle: bool = True
    tcp_cork: bool = True
    on_congestion: str = "block"
    congestion_fill_sectors: int = 0
    congestion_extents: int = 1237
    allow_remote_read: bool = True
    skip_sync: bool = False


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """The backing disk and its resync: section `disk`."""

    size_bytes: int | None = None
    on_io_error: str = "detach"
    disk_barrier: bool = False
    disk_flushes: bool = True
    disk_drain: bool = True
    md_flushes: bool = True
    resync_rate_kib_per_s: int = 250
    resync_after: str | None = None
    al_extents: int = 1237
    al_updates: bool = True
    c_plan_ahead_ms: int = 2000
    c_delay_target_ms: int = 1000
    c_fill_target_sectors: int = 4096
    c_max_rate_kib_per_s: int = 1 << 20
    c_min_rate_kib_per_s: int = 4096
    disk_timeout_ms: int = 0
    read_balancing: str = "prefer-local"
    rs_discard_granularity_bytes: int = 0
    discard_zeroes_if_aligned: bool = True
    sync_group: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """What `resync-after` names; `volume` None: all volumes of the resource."""

    resource: str
    volume: int | None = None


def dependency(text: str | None) -> Dependency | None:
    """Return what a `resync-after` of the form ``RESOURCE`` or ``RESOURCE/VOLUME`` names; None for none.

    Raise `ValueError` if there is no number behind the slash.
    """
    if text is None:
        return None
    resource, slash, volume = text.partition("/")
    if slash and not (volume.isascii() and volume.isdecimal()):
        raise ValueError(f"{volume!r} is no number of a volume")
    return Dependency(resource, int(volume) if slash else None)


@dataclass(frozen=True, slots=True)
class StartupOptions:
    """How long a booting node waits for its peer: section `startup`, and 0.6's keys of the same purpose."""

    wfc_timeout_s: int = 0
    degr_wfc_timeout_s: int = 0
    outdated_wfc_timeout_s: int = 0
    wait_after_sb: bool = False
    become_primary_on: str | None = None
    inittimeout_s: int = 0
    skip_wait: bool = False
    load_only: bool = False
    incon_degr_cmd: str | None = None


@dataclass(frozen=True, slots=True)
class Handlers:
    """Commands to run at an event, given to the shell: section `handlers`."""

    pri_on_incon_degr: str | None = None
    pri_lost_after_sb: str | None = None
    pri_lost: str | None = None
    fence_peer: str | None = None
    unfence_peer: str | None = None
    local_io_error: str | None = None
    initial_split_brain: str | None = None
    split_brain: str | None = None
    before_resync_target: str | None = None
    after_resync_target: str | None = None
    before_resync_source: str | None = None
    out_of_sync: str | None = None
    quorum_lost: str | None = None
    disconnected: str | None = None


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """The resource as a whole: section `options`."""

    on_no_data_accessible: str = "io-error"


class MetaDiskKind(Enum):
    """Where the metadata of a volume lives (DRBD's three layouts, and a file of our own)."""

    INTERNAL = "internal"  # at the end of the backing disk, which becomes smaller by it
    FLEXIBLE = "flexible"  # a device or file of its own, as large as needed
    INDEXED = "indexed"  # slot `index` of 128 MiB on a shared device
    FILE = "file"  # laid out as FLEXIBLE, in a file in the state directory; create-md makes it


@dataclass(frozen=True, slots=True)
class MetaDisk:
    """The place of a volume's metadata. `path` is given for FLEXIBLE and INDEXED, `index` for INDEXED only."""

    kind: MetaDiskKind
    path: str | None = None
    index: int | None = None

    def location(self, state_dir: Path, resource: str, number: int, disk: str) -> Path:
        """Return the path that holds the metadata of volume `number`, whose backing disk is `disk`."""
        match self.kind:
            case MetaDiskKind.INTERNAL:
                return Path(disk)
            case MetaDiskKind.FILE:
                # No resource name has a `+`, so that volume 1 of `a` is never volume 0 of some `a+1`.
                return state_dir / (f"{resource}.md" if number == 0 else f"{resource}+{number}.md")
            case MetaDiskKind.FLEXIBLE | MetaDiskKind.INDEXED:
                return Path(self.path or "")


@dataclass(frozen=True, slots=True)
class Volume:
    """One block device of the resource on one host.

    `device` is what applications open, `disk` the backing disk (a block device or a file), `minor` the number of the
    device. `options` are the disk options of just this volume: those of the resource, with its own on top.
    """

    number: int
    device: str
    minor: int | None
    disk: str
    meta_disk: MetaDisk
    options: DiskOptions = DiskOptions()

    def metadata_path(self, state_dir: Path, resource: str) -> Path:
        """Return the path that holds this volume's metadata."""
        return self.meta_disk.location(state_dir, resource, self.number, self.disk)


@dataclass(frozen=True, slots=True)
class Host:
    """One `on` section: a node of the resource, where it listens, what it replicates. `volumes` ascend by number."""

    name: str
    address: str
    port: int
    volumes: tuple[Volume, ...]
    node_id: int | None = None

    @property
    def is_ipv6(self) -> bool:
        """Whether `address` is an IPv6 address."""
        return ":" in self.address

    def volume(self, number: int) -> Volume:
        """Return the volume of this number; `KeyError` if there is none."""
        for volume in self.volumes:
            if volume.number == number:
                return volume
        raise KeyError(number)


@dataclass(frozen=True, slots=True)
class Resource:
    """Two hosts that keep the same volumes. `place` is where it was read from and does not take part in comparison."""

    name: str
    hosts: tuple[Host, Host]
    net: NetOptions = NetOptions()
    disk: DiskOptions = DiskOptions()
    startup: StartupOptions = StartupOptions()
    handlers: Handlers = Handlers()
    options: ResourceOptions = ResourceOptions()
    fsckcmd: str | None = None
    attach: str = "auto"
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    @property
    def protocol(self) -> str:
        """Return the replication protocol, `A`, `B` or `C`."""
        return self.net.protocol

    @property
    def volume_numbers(self) -> tuple[int, ...]:
        """Return the numbers of the volumes, ascending; both hosts have the same."""
        return tuple(volume.number for volume in self.hosts[0].volumes)

    def local(self, node_name: str) -> Host:
        """Return the host that is this node.

        `node_name` may be the full name (`uname -n`) or the short one (`hostname -s`), and so may the name in the
        file; an exact match wins. Raise `ConfigError` if no host, or more than one, matches.
        """
        exact = [host for host in self.hosts if host.name == node_name]
        short = node_name.partition(".")[0]
        near = [
            host
            for host in self.hosts
            if host.name.partition(".")[0] == short and ("." not in host.name or "." not in node_name)
        ]
        found = exact or near
        if len(found) == 1:
            return found[0]
        names = [host.name for host in self.hosts]
        if found:
            sentence = f"node name '{node_name}' fits both hosts of resource {self.name}: {listed(names)}"
            raise ConfigError(self.place, sentence, "give the full name with --node")
        sentence = (
            f"this node, '{node_name}', has no 'on' section in resource {self.name}; its hosts are {listed(names)}"
        )
        raise ConfigError(self.place, sentence, did_you_mean(node_name, names) or "name one of them with --node")

    def peer(self, node_name: str) -> Host:
        """Return the host that is not this node; `ConfigError` as for `local`."""
        return self.hosts[1] if self.local(node_name) is self.hosts[0] else self.hosts[0]

    def for_node(self, node_name: str) -> ResourceView:
        """Return the resource as this node sees it; `ConfigError` as for `local`."""
        return ResourceView(self, self.local(node_name), self.peer(node_name))


@dataclass(frozen=True, slots=True)
class ResourceView:
    """A resource from the side of one node."""

    resource: Resource
    local: Host
    peer: Host

    @property
    def after_sb_0pri(self) -> str:
        """Return the policy with ``discard-node-NAME`` as this node has to say it: discard-local or discard-remote."""
        policy = self.resource.net.after_sb_0pri
        loser = policy.partition("discard-node-")[2]
        if not loser:
            return policy
        return "discard-local" if loser == self.local.name else "discard-remote"


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that a configuration says. `place` names the file; it does not take part in comparison."""

    resources: tuple[Resource, ...]
    global_options: GlobalOptions = GlobalOptions()
    place: Place = field(default=NOWHERE, compare=False, repr=False)

    def resource(self, name: str) -> Resource:
        """Return the resource of this name; `ConfigError` with the known names if there is none."""
        for resource in self.resources:
            if resource.name == name:
                return resource
        names = [resource.name for resource in self.resources]
        sentence = f"no resource '{name}' is configured; there {'is' if len(names) == 1 else 'are'} {listed(names)}"
        raise ConfigError(self.place, sentence, did_you_mean(name, names))
