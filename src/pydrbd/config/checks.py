"""What must hold between options, between the two hosts of a resource, and between the resources of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydrbd.config.assignments import Assignments
from pydrbd.config.description import Dependency, Host, MetaDiskKind, Resource, dependency
from pydrbd.config.errors import ConfigError, Place, did_you_mean, listed, shown
from pydrbd.config.hosts import HostDraft
from pydrbd.config.layout import Dialect
from pydrbd.config.volumes import VolumeDraft


def check_pair(hosts: Sequence[Host], drafts: Sequence[HostDraft], place: Place, where: str) -> tuple[Host, Host]:
    """Return the two hosts of a resource; `ConfigError` if there are not two, or they do not fit together."""
    if len(hosts) < 2:
        only = f"only {hosts[0].name}" if hosts else "none"
        raise ConfigError(place, f"{where} needs two hosts, two 'on' sections; it has {only}")
    if len(hosts) > 2:
        names = listed(host.name for host in hosts)
        raise ConfigError(drafts[2].place, f"{where} has more than two hosts: {names}", "data is kept on two nodes")
    first, second = hosts
    if first.name == second.name:
        hint = f"the first is on line {drafts[0].place.line}"
        raise ConfigError(drafts[1].place, f"host {first.name} is given twice in {where}", hint)
    if (first.address, first.port) == (second.address, second.port):
        sentence = f"{first.name} and {second.name} have the same address and port in {where}"
        raise ConfigError(_place(drafts[1], "address"), sentence)
    if first.is_ipv6 != second.is_ipv6:
        sentence = f"{first.name} and {second.name} have addresses of different families in {where}"
        raise ConfigError(_place(drafts[1], "address"), sentence)
    for volume in first.volumes:
        if volume.number not in {other.number for other in second.volumes}:
            raise ConfigError(
                drafts[1].place, f"{second.name} has no volume {volume.number} in {where}, {first.name} has"
            )
    for volume in second.volumes:
        if volume.number not in {other.number for other in first.volumes}:
            raise ConfigError(
                drafts[0].place, f"{first.name} has no volume {volume.number} in {where}, {second.name} has"
            )
    return first, second


def check_options(resource: Resource, given: Assignments, dialect: Dialect) -> None:
    """Raise `ConfigError` for options that contradict each other (drbdsetup's and the kernel's own checks)."""
    net = resource.net
    for name, other_ms in (("connect-int", net.connect_int_ms), ("ping-int", net.ping_int_ms)):
        if net.timeout_ms >= other_ms:
            place = given.place("net", "timeout") or given.place("net", name) or resource.place
            sentence = f"timeout {net.timeout_ms // 100} is not less than {name} {other_ms // 1000}"
            raise ConfigError(place, sentence, "timeout counts in 0.1 s, the other in s")
    if net.cram_hmac_alg and not net.shared_secret:
        place = given.place("net", "cram-hmac-alg") or resource.place
        raise ConfigError(place, "cram-hmac-alg needs a shared-secret")
    if net.fencing == "resource-and-stonith" and net.protocol == "A":
        place = given.place("net", "fencing") or resource.place
        raise ConfigError(place, "fencing resource-and-stonith needs protocol B or C")
    if net.on_congestion == "pull-ahead" and net.protocol != "A":
        place = given.place("net", "on-congestion") or resource.place
        raise ConfigError(place, "on-congestion pull-ahead needs protocol A")
    slow, fast = given.place("disk", "c-min-rate"), given.place("disk", "c-max-rate")
    disk = resource.disk
    if dialect is Dialect.V06 and slow and fast and disk.c_min_rate_kib_per_s > disk.c_max_rate_kib_per_s:
        raise ConfigError(slow, "sync-min is more than sync-max")
    _check_host_names(resource, given)


def _check_host_names(resource: Resource, given: Assignments) -> None:
    """Options that name a host must name one of the resource."""
    names = [host.name for host in resource.hosts]
    loser = resource.net.after_sb_0pri.partition("discard-node-")[2]
    winner = resource.startup.become_primary_on or ""
    for section, option, name, others in (
        ("net", "after-sb-0pri", loser, []),
        ("startup", "become-primary-on", winner, ["both"]),
    ):
        if name == "both" and others:
            place = given.place(section, option) or resource.place
            raise ConfigError(place, "become-primary-on both is not supported: one node is primary at a time")
        if name and name not in names:
            place = given.place(section, option) or resource.place
            sentence = f"{option}: {shown(name)} is no host of resource {resource.name}; its hosts are {listed(names)}"
            raise ConfigError(place, sentence, did_you_mean(name, names))


_SLOTS = "indexed metadata"


class Claims:
    """Who has which device, disk, metadata and address on a host: each is used once."""

    def __init__(self) -> None:
        self._owners: dict[tuple[str, str, str], str] = {}

    def take(self, host: Host, draft: HostDraft, shared: dict[int, VolumeDraft], where: str) -> None:
        """Claim all that a resource uses on a host; `ConfigError` if something is taken."""
        endpoint = f"{host.address}:{host.port}"
        self._claim((host.name, "address", endpoint), where, _place(draft, "address"))
        for volume in host.volumes:
            owner = f"volume {volume.number} of {where}" if len(host.volumes) > 1 else where
            settings = shared[volume.number].settings if volume.number in shared else {}
            if volume.number in draft.volumes:
                settings = settings | draft.volumes[volume.number].settings
            place = {name: setting.place for name, setting in settings.items()}
            self._claim((host.name, "device", volume.device), owner, place["device"])
            if volume.minor is not None:
                self._claim((host.name, "minor", str(volume.minor)), owner, place["device"])
            self._claim((host.name, "disk", volume.disk), owner, place["disk"])
            meta = volume.meta_disk
            if meta.kind is MetaDiskKind.FLEXIBLE:
                # One name space with the disks: metadata on a disk that holds data would overwrite it.
                self._claim((host.name, "disk", str(meta.path)), owner, place["meta-disk"])
            elif meta.kind is MetaDiskKind.INDEXED:
                self._claim((host.name, "disk", f"{meta.path}[{meta.index}]"), owner, place["meta-disk"])
                self._claim((host.name, "disk", str(meta.path)), _SLOTS, place["meta-disk"])

    def _claim(self, what: tuple[str, str, str], owner: str, place: Place) -> None:
        host, kind, name = what
        if what not in self._owners:
            self._owners[what] = owner
            return
        first = self._owners[what]
        if first == owner == _SLOTS:
            return
        user = f"twice in {owner}" if first == owner else f"by {first} and by {owner}"
        raise ConfigError(place, f"{kind} {name} is used {user} on host {host}")


@dataclass(frozen=True, slots=True)
class _Rank:
    """A volume of a host in the order of resyncs; `place` is where its `resync-after` stands."""

    resource: str
    volume: int
    after: str | None
    group: int
    place: Place

    def precedes(self, other: _Rank, named: Dependency | None) -> bool:
        """Whether our resync comes before that of `other`, whose `resync-after` is `named`."""
        by_name = named is not None and named.resource == self.resource and named.volume in {None, self.volume}
        return by_name or self.group < other.group


class Order:
    """Who resyncs after whom on each host (`resync-after`, `sync-group`)."""

    def __init__(self) -> None:
        self._ranks: dict[str, list[_Rank]] = {}

    def take(
        self, resource: str, host: Host, scopes: Sequence[Mapping[int, VolumeDraft]], options: Assignments
    ) -> None:
        """Remember the volumes of a resource on a host; `scopes` are theirs, the narrower first."""
        for volume in host.volumes:
            given = [scope[volume.number].options for scope in scopes if volume.number in scope] + [options]
            places = [found for each in given if (found := each.place("disk", "resync-after"))]
            disk = volume.options
            rank = _Rank(resource, volume.number, disk.resync_after, disk.sync_group, [*places, Place()][0])
            self._ranks.setdefault(host.name, []).append(rank)

    def check(self, resources: Mapping[str, Resource]) -> None:
        """Raise `ConfigError` for a resource that is not there, and for one that would wait for itself."""
        for ranks in self._ranks.values():
            after = {rank: _named(rank, resources) for rank in ranks}
            earlier = {
                rank: [other for other in ranks if other is not rank and other.precedes(rank, after[rank])]
                for rank in ranks
            }
            for rank in ranks:
                if rank.after is not None:
                    _check_way(rank, after[rank], earlier)


def _named(rank: _Rank, resources: Mapping[str, Resource]) -> Dependency | None:
    """Return what `resync-after` names; `ConfigError` if that does not exist."""
    try:
        named = dependency(rank.after)
    except ValueError:
        sentence = f"resync-after {shown(rank.after or '')} is not RESOURCE or RESOURCE/VOLUME"
        raise ConfigError(rank.place, sentence) from None
    if named is None:
        return None
    if named.resource not in resources:
        names = list(resources)
        there = f"there {'is' if len(names) == 1 else 'are'} {listed(names)}"
        sentence = f"resync-after: no resource {shown(named.resource)} is configured; {there}"
        raise ConfigError(rank.place, sentence, did_you_mean(named.resource, names))
    if named.volume is not None and named.volume not in resources[named.resource].volume_numbers:
        raise ConfigError(rank.place, f"resync-after: resource {named.resource} has no volume {named.volume}")
    return named


def _check_way(rank: _Rank, named: Dependency | None, earlier: Mapping[_Rank, list[_Rank]]) -> None:
    """Raise `ConfigError` if the way from a volume over the one that it names leads back to it."""
    if rank.precedes(rank, named):
        raise ConfigError(rank.place, f"resync-after: {_title(rank, earlier)} would wait for its own resync")
    first = [other for other in earlier[rank] if named is not None and other.resource == named.resource]
    ways: list[tuple[_Rank, ...]] = [(rank, other) for other in first]
    seen = set(first)
    while ways:
        way = ways.pop(0)
        for other in earlier[way[-1]]:
            if other is rank:
                names = [_title(each, earlier) for each in (*way, rank)]
                steps = listed(f"{name} waits for {next_one}" for name, next_one in pairwise(names))
                groups = len({each.group for each in way}) > 1
                hint = "a resource of a higher sync-group waits for all those of lower ones" if groups else ""
                raise ConfigError(rank.place, f"resync-after makes a cycle: {steps}", hint)
            if other not in seen:
                seen.add(other)
                ways.append((*way, other))


def _title(rank: _Rank, ranks: Mapping[_Rank, list[_Rank]]) -> str:
    """Return the resource's name, with the volume if it has more than one."""
    several = sum(other.resource == rank.resource for other in ranks) > 1
    return f"{rank.resource}/{rank.volume}" if several else rank.resource


def _place(draft: HostDraft, name: str) -> Place:
    setting = draft.settings.get(name)
    return setting.place if setting else draft.place
