"""What `pydrbd status` says: DRBD 9's field names as data, and its text form (`drbdsetup status`, drbd-utils 9.22).

Both are pure functions of a `Snapshot`. Sizes and counters are in KiB, as there. Ours are `io`, the engine's way to
the kernel, and of a connection `given-up` and `split-brain`, with what a person has to type. During a resync the text
adds the speed (MiB/s) and the time left (s) under drbdsetup's own words, `dbdt1` and `eta`, which it shows only when
asked for more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydrbd.config.description import Host, ResourceView
from pydrbd.core.engine import Counters
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.node.admin.progress import SECTORS_PER_BIT, Progress, mib_per_s
from pydrbd.state.engine_settings import VERIFY_STATES, Suspended, suspended_for
from pydrbd.state.node_state import NodeState
from pydrbd.state.why import blocks

COLUMNS = 80
Json = dict[str, Any]

NEVER_S = 987654321
"""What drbdsetup says while nothing moves."""
RESYNC_STATES = frozenset(
    {
        ReplicationState.SYNC_SOURCE,
        ReplicationState.SYNC_TARGET,
        ReplicationState.PAUSED_SYNC_S,
        ReplicationState.PAUSED_SYNC_T,
    }
)
PACED_STATES = RESYNC_STATES | VERIFY_STATES
"""In these there is progress to show, and a pace to keep."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that status needs of one moment. `progress` is that of the resync under way, if there is one."""

    view: ResourceView
    state: NodeState
    counters: Counters
    now_ms: int
    progress: Progress | None = None
    io_name: str = ""
    device: Json | None = None
    """The kernel device: kind, path, names, size in KiB, who has it open; or the problem with it."""
    md: Json | None = None
    """What md says of the backing disk, if that is an md set."""
    given_up: Json = field(default_factory=lambda: {"given-up": None, "split-brain": None})
    """Why the peer was given up, if it was (`Chronicle.given_up`)."""
    grown_bytes: int = 0
    """By so much the backing disk has grown since it was looked at; `resize` looks again."""
    why: tuple[str, ...] = ()
    """What `pydrbd why` says."""


# --- data ------------------------------------------------------------------------------------------------------------


def as_data(snapshot: Snapshot) -> Json:
    """Return the resource's object of `drbdsetup status --json`."""
    state = snapshot.state
    suspended = suspended_for(state)
    return {
        "name": snapshot.view.resource.name,
        "node-id": _node_id(snapshot.view, snapshot.view.local),
        "role": str(state.role),
        "suspended": bool(suspended),
        "suspended-user": Suspended.USER in suspended,
        "suspended-no-data": Suspended.NO_DATA in suspended,
        "suspended-fencing": Suspended.FENCING in suspended,
        "suspended-quorum": False,
        "force-io-failures": False,
        "write-ordering": "flush" if snapshot.view.local.volumes[0].options.disk_flushes else "drain",
        "io": snapshot.io_name,
        "devices": [_device(snapshot)],
        "connections": [_connection(snapshot)],
        "why": list(snapshot.why),
    }


def _node_id(view: ResourceView, host: Host) -> int:
    return view.resource.hosts.index(host) if host.node_id is None else host.node_id


def _device(snapshot: Snapshot) -> Json:
    state, counters, volume = snapshot.state, snapshot.counters, snapshot.view.local.volumes[0]
    return {
        "volume": volume.number,
        "minor": -1 if volume.minor is None else volume.minor,
        "disk-state": str(state.disk),
        "client": False,
        "open": state.clients > 0,
        "quorum": True,
        "size": state.size_sectors // 2,
        "read": counters.read_sectors // 2,
        "written": counters.written_sectors // 2,
        "al-writes": counters.al_writes,
        "bm-writes": counters.bm_writes,
        "upper-pending": counters.upper_pending,
        "lower-pending": counters.lower_pending,
        "mended": counters.mended_sectors // 2,
    } | _host_side(snapshot)


def _host_side(snapshot: Snapshot) -> Json:
    """Return what only we can say: the device on this host, and the set below it."""
    device = snapshot.device
    if device is not None and device["kind"] != "none":
        device = device | {"requests": snapshot.counters.upper_pending}
    grown = snapshot.grown_bytes // 1024 or None
    found = {"kernel-device": device, "backing-md": snapshot.md, "backing-grown": grown}
    return {name: data for name, data in found.items() if data is not None}


def _connection(snapshot: Snapshot) -> Json:
    state, view = snapshot.state, snapshot.view
    return {
        "peer-node-id": _node_id(view, view.peer),
        "name": view.peer.name,
        "connection-state": str(state.connection),
        "congested": False,
        "peer-role": str(state.peer_role),
        "tls": False,
        "ap-in-flight": snapshot.counters.pending,
        "rs-in-flight": 0,
        "paths": [
            {
                "this_host": _address(view.local),
                "remote_host": _address(view.peer),
                "established": state.connection is ConnectionState.CONNECTED,
            }
        ],
        "peer_devices": [_peer_device(snapshot)],
        **snapshot.given_up,
    }


def _address(host: Host) -> Json:
    return {"address": host.address, "port": host.port, "family": "ipv6" if host.is_ipv6 else "ipv4"}


def _peer_device(snapshot: Snapshot) -> Json:
    state, counters = snapshot.state, snapshot.counters
    out_of_sync = counters.out_of_sync_bits * SECTORS_PER_BIT
    in_sync = 100 * (1 - out_of_sync / state.size_sectors) if state.size_sectors else 0.0
    reasons = {"user": state.user_paused, "peer": state.paused_by_peer, "dependency": bool(state.waits_for)}
    paused = [reason for reason, is_so in reasons.items() if is_so]
    progress = snapshot.progress if state.replication in PACED_STATES else None
    device = {
        "volume": snapshot.view.local.volumes[0].number,
        "replication-state": str(state.replication),
        "peer-disk-state": str(state.peer_disk),
        "peer-client": False,
        "resync-suspended": ",".join(paused) or "no",
        "received": counters.received_sectors // 2,
        "sent": counters.sent_sectors // 2,
        "out-of-sync": out_of_sync // 2,
        "pending": counters.pending,
        "unacked": counters.unacked,
        "has-sync-details": progress is not None,
        "has-online-verify-details": state.replication in VERIFY_STATES,
        "percent-in-sync": round(max(0.0, in_sync), 2),
    }
    device |= _resync(snapshot, progress) if progress is not None else {}
    return device | _verify(snapshot)


def left_bits(state: NodeState, counters: Counters) -> int:
    """Return how many 4 KiB blocks the resync or verify under way has still to look at."""
    if state.replication in VERIFY_STATES:
        return -(-counters.verify_left_sectors // SECTORS_PER_BIT)
    return counters.out_of_sync_bits


def _verify(snapshot: Snapshot) -> Json:
    """Return how far a verify is, in sectors; the target does not know where it ends."""
    run, left = snapshot.state.verify, snapshot.counters.verify_left_sectors
    if run is None or snapshot.state.replication not in VERIFY_STATES:
        return {}
    size = snapshot.state.size_sectors
    stop = min(size if run.stop_sector is None else run.stop_sector, size)
    return {"ov-start-sector": run.start_sector, "ov-stop-sector": stop, "ov-position": stop - left, "ov-left": left}


def _resync(snapshot: Snapshot, progress: Progress) -> Json:
    now_ms, left = snapshot.now_ms, left_bits(snapshot.state, snapshot.counters)
    whole_ms, whole_sectors = progress.whole(now_ms, left)
    recent_ms, recent_sectors = progress.recent(now_ms, left)
    seconds_left = progress.seconds_left(now_ms, left)
    return {
        "rs-total": progress.total_sectors,
        "rs-dt-start-ms": whole_ms,
        "rs-paused-ms": 0,
        "rs-dt0-ms": whole_ms,
        "rs-db0-sectors": whole_sectors,
        "rs-dt1-ms": recent_ms,
        "rs-db1-sectors": recent_sectors,
        "rs-failed": 0,
        "rs-same-csum": snapshot.counters.resync_same_sectors // SECTORS_PER_BIT,
        "want": 0.0,
        "db0/dt0 [MiB/s]": round(mib_per_s(whole_ms, whole_sectors), 2),
        "db1/dt1 [MiB/s]": round(mib_per_s(recent_ms, recent_sectors), 2),
        "estimated-seconds-to-finish": NEVER_S if seconds_left is None else round(seconds_left),
        "db/dt [MiB/s]": round(mib_per_s(whole_ms, whole_sectors), 2),
        "percent-resync-done": round(progress.percent_done(left), 2),
    }


# --- text ------------------------------------------------------------------------------------------------------------


class _Wrapped:
    """drbdsetup's `wrap_printf`: words on lines of 80 columns, of which it does not count the indentation."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._column = 0

    def put(self, indent: int, word: str) -> None:
        """Add a word, which brings the space before it along; at the beginning of a line that is dropped."""
        if self._column > 0 and self._column + len(word) > COLUMNS:
            self.end_line()
        if self._column == 0:
            word = word.lstrip(" ")
            self._parts.append(" " * indent)
            self._column = -1
        self._parts.append(word)
        self._column += len(word)

    def end_line(self) -> None:
        """Begin a new line; an empty one stays empty."""
        self._parts.append("\n")
        self._column = 0

    def put_line(self, indent: int, sentence: str) -> None:
        """Add a line that is ours and no word of drbdsetup's; it is not wrapped, so that it can be copied."""
        self._parts.append(" " * indent + sentence + "\n")

    def text(self) -> str:
        """Return everything."""
        return "".join(self._parts)


def as_text(data: Json, *, verbose: bool = False, statistics: bool = False) -> str:
    """Return the text form of what `as_data` made."""
    out = _Wrapped()
    out.put(0, data["name"])
    if verbose:
        out.put(4, f" node-id:{data['node-id']}")
    out.put(4, f" role:{data['role']}")
    reasons = [name for name in ("user", "no-data", "fencing") if data[f"suspended-{name}"]]
    if verbose or reasons:
        out.put(4, f" suspended:{','.join(reasons) or 'no'}")
    if verbose:
        out.put(4, " force-io-failures:no")
    if verbose and statistics:
        out.end_line()
        out.put(4, f" write-ordering:{data['write-ordering']}")
        out.put(4, f" io:{data['io']}")
    out.end_line()
    for device in data["devices"]:
        _put_device(out, device, verbose=verbose, statistics=statistics)
    for connection in data["connections"]:
        _put_connection(out, connection, verbose=verbose, statistics=statistics)
    return out.text()


def _put_device(out: _Wrapped, device: Json, *, verbose: bool, statistics: bool) -> None:
    indent = 2
    if verbose or device["volume"] != 0:
        out.put(2, f"volume:{device['volume']}")
        indent = 6
    if verbose:
        out.put(6, f" minor:{device['minor']}")
    out.put(indent, f" disk:{device['disk-state']}")
    if device["disk-state"] == str(DiskState.DISKLESS):
        out.put(indent, " client:no")
    if verbose:
        out.put(indent, " quorum:yes")
        out.put(indent, f" open:{'yes' if device['open'] else 'no'}")
    if "kernel-device" in device and (verbose or device["kernel-device"].get("problem")):
        _put_kernel_device(out, device["kernel-device"])
    if "backing-md" in device and (verbose or device["backing-md"]["degraded"]):
        md = device["backing-md"]
        out.put(indent, f" md:{md['level']}")
        out.put(indent, f" degraded:{md['degraded']}")
        out.put(indent, f" sync-action:{md['sync-action'] or 'none'}")
    if statistics:
        out.end_line()
        names = ["size", "read", "written", "al-writes", "bm-writes", "upper-pending", "lower-pending"]
        if device["mended"]:
            names.append("mended")
        for name in names if verbose else ["read", "written"]:
            out.put(6, f" {name}:{device[name]}")
        if verbose:
            out.put(6, " al-suspended:no")
            out.put(6, " blocked:no")
    out.end_line()
    if "backing-grown" in device:
        out.put_line(4, f"the backing disk has grown by {device['backing-grown']} KiB; `pydrbd resize` uses it")


def _put_kernel_device(out: _Wrapped, device: Json) -> None:
    out.end_line()
    if device["kind"] == "none":
        why = f" ({device['problem']})" if device["problem"] else ""
        out.put(6, f" kernel-device:none{why}")
        return
    out.put(6, f" kernel-device:{device['path']}")
    out.put(6, f" attach:{device['kind']}")
    for name in ("size", "requests", "reconnects"):
        out.put(6, f" {name}:{device[name]}")
    for name in device["names"]:
        out.end_line()
        out.put(6, f" name:{name}")
    for opener in device["openers"]:
        out.end_line()
        out.put(6, f" open-by:{opener}")


def _put_connection(out: _Wrapped, connection: Json, *, verbose: bool, statistics: bool) -> None:
    is_connected = connection["connection-state"] == str(ConnectionState.CONNECTED)
    out.put(2, connection["name"])
    if verbose:
        out.put(6, f" node-id:{connection['peer-node-id']}")
    if verbose or not is_connected:
        out.put(6, f" connection:{connection['connection-state']}")
    if verbose or is_connected:
        out.put(6, f" role:{connection['peer-role']}")
    if verbose:
        out.put(6, " tls:no")
        out.put(6, " congested:no")
        out.put(6, f" ap-in-flight:{connection['ap-in-flight']}")
        out.put(6, f" rs-in-flight:{connection['rs-in-flight']}")
    out.end_line()
    if verbose or statistics or is_connected:
        for peer_device in connection["peer_devices"]:
            _put_peer_device(out, peer_device, verbose=verbose, statistics=statistics)
    if connection["split-brain"] is not None:
        _put_split_brain(out, connection["name"], connection["split-brain"])
    elif connection["given-up"] is not None:
        out.put_line(4, f"given up: {connection['given-up']['sentence']}")


def _put_split_brain(out: _Wrapped, peer: str, split: Json) -> None:
    own, theirs = blocks(split["own-blocks"]), blocks(split["peer-blocks"])
    out.put_line(4, f"split brain since {split['since']}: this node wrote {own}, {peer} {theirs}")
    for cure in split["cures"]:
        out.put_line(4, f"to keep {cure['keeps']}'s data and throw {cure['discards']}'s changes away:")
        for each in cure["commands"]:
            out.put_line(6, f"on {each['node']}: {each['command']}")


def _put_peer_device(out: _Wrapped, device: Json, *, verbose: bool, statistics: bool) -> None:
    indent = 4
    if verbose or device["volume"] != 0:
        out.put(4, f"volume:{device['volume']}")
        indent = 8
    replication = device["replication-state"]
    if verbose or replication not in {str(ReplicationState.OFF), str(ReplicationState.ESTABLISHED)}:
        out.put(indent, f" replication:{replication}")
        indent = 8
    out.put(indent, f" peer-disk:{device['peer-disk-state']}")
    if device["peer-disk-state"] == str(DiskState.DISKLESS):
        out.put(8, " peer-client:no")
    if device["has-sync-details"]:
        out.put(8, f" done:{device['percent-resync-done']:.2f}")
        out.put(8, f" dbdt1:{device['db1/dt1 [MiB/s]']:.2f}")
        seconds = device["estimated-seconds-to-finish"]
        out.put(8, f" eta:{'nan' if seconds == NEVER_S else seconds}")
    if verbose or device["resync-suspended"] != "no":
        out.put(8, f" resync-suspended:{device['resync-suspended']}")
    if statistics:
        out.end_line()
        out.put(8, f" received:{device['received']}")
        out.put(8, f" sent:{device['sent']}")
        if verbose or device["out-of-sync"]:
            out.put(8, f" out-of-sync:{device['out-of-sync']}")
        if verbose:
            out.put(8, f" pending:{device['pending']}")
            out.put(8, f" unacked:{device['unacked']}")
    out.end_line()
