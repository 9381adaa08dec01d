"""Write docs/states.md from the tables of the code: ``python tools/states_page.py > docs/states.md``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from pydrbd.model.refusals import Refusal
from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.engine_settings import (
    ACCEPT_BITMAP,
    ACCEPT_OUT_OF_SYNC,
    ACCEPT_READS,
    ACCEPT_RESYNC,
    ACCEPT_VERIFY,
    ACCEPT_WRITES,
    LIMITS,
    wanted,
)
from pydrbd.state.handshake.uuid_compare import PAIRS, RULES
from pydrbd.state.node_state import Link, NodeState

HEAD = """# States

This page is written by `tools/states_page.py` from tables in the code; a test compares. Words and numbers are DRBD's.

## Disk states

In ascending order; "at least Consistent" means this order.

"""
CONNECTION = """
## The connection

```
StandAlone ──connect──► Connecting ──both sockets, handshake──► Connected
    ▲                     ▲    ▲                                   │
    │                     │    └── the peer is lost ───────────────┤
    │                     └─ TearDown ◄── the peer disconnects ────┤
    └──── Disconnecting ◄── disconnect, or a handshake refused ────┘
```

A peer that breaks the protocol is looked for again after a pause (Unconnected).

## A resync

```
source: Established ──► WFBitMapS ──bitmaps──► SyncSource ──the target says so──► Established
target: Established ──► WFBitMapT ──bitmaps──► WFSyncUUID ──SYNC_UUID──► SyncTarget ──all durable──► Established
invalidate:             StartingSyncT ──► WFSyncUUID …      its peer: StartingSyncS ──► SyncSource …
```

Either end may ask for a pause, because a person said so or because another resource of its node comes first:
PausedSyncS and PausedSyncT stand for SyncSource and SyncTarget then.

## An online verify

```
started here:  Established ──the peer consents──► VerifyS ──all is compared──► Established
on the peer:   Established ──it consents────────► VerifyT ──the source says so, or all is compared──► Established
with --repair: VerifyS ──► WFBitMapS, its peer WFBitMapT; the other way round if the peer is Primary
```

## Which disk states a replication state allows

What lies outside is drawn to the nearest bound when the state is entered.

| replication | our disk | the peer's disk |
|---|---|---|
"""
ENGINE = """
## What the engine does

For a Primary whose peer is Secondary, and for that peer; writes go to the local disk anyway.

| role | replication | our disk | the peer's disk | writes go to | reads come from | the peer may send |
|---|---|---|---|---|---|---|
"""
COMPARED = """
## Who has whose data

Identifiers are compared from top to bottom; the number is DRBD 8.4's, the mirror what the other node finds.

| rule | number | what it saw | mirror |
|---|---|---|---|
"""
REFUSED = """
## Why a command is refused

| reason | exit code | sentence |
|---|---|---|
"""
ACCEPTED = {
    ACCEPT_WRITES: "writes",
    ACCEPT_READS: "reads",
    ACCEPT_RESYNC: "resync requests",
    ACCEPT_BITMAP: "its bitmap",
    ACCEPT_OUT_OF_SYNC: "out-of-sync notes",
    ACCEPT_VERIFY: "questions for digests",
}
MEANING = {
    DiskState.DISKLESS: "there is no disk",
    DiskState.ATTACHING: "the metadata are being read",
    DiskState.FAILED: "the disk has failed and is about to be given up",
    DiskState.NEGOTIATING: "attached while connected; the peer decides what the data are worth",
    DiskState.INCONSISTENT: "a mixture of old and new blocks",
    DiskState.OUTDATED: "consistent, but known to be old",
    DiskState.UNKNOWN: "the peer's disk, while there is no connection",
    DiskState.CONSISTENT: "consistent; whether it is current only the peer knows",
    DiskState.UP_TO_DATE: "the data",
}


def span(lowest: DiskState, highest: DiskState) -> str:
    """Return a range of disk states as text."""
    return str(lowest) if lowest is highest else f"{lowest} … {highest}"


def engine_row(role: Role, replication: ReplicationState, disk: DiskState, peer_disk: DiskState) -> str:
    """Return one line about the engine."""
    connected = replication is not ReplicationState.OFF
    state = NodeState(
        role=role,
        disk=disk,
        peer_disk=peer_disk,
        replication=replication,
        connection=ConnectionState.CONNECTED if connected else ConnectionState.CONNECTING,
        link=Link(101, 0, resolve_conflicts=False, sent_bits=0, established=True) if connected else None,
        peer_role=Role.SECONDARY if role is Role.PRIMARY else Role.PRIMARY,
    )
    settings = wanted(state)
    accepted = ", ".join(text for bit, text in ACCEPTED.items() if settings.accept & bit) or "nothing"
    words = (role, replication, disk, peer_disk, settings.replication.name, settings.reads.name, accepted)
    return "| " + " | ".join(str(word) for word in words) + " |\n"


def engine_rows() -> str:
    """Return the lines about the engine."""
    rows = [engine_row(Role.PRIMARY, ReplicationState.OFF, DiskState.UP_TO_DATE, DiskState.UNKNOWN)]
    for role in (Role.PRIMARY, Role.SECONDARY):
        for replication, limits in LIMITS.items():
            disk, peer_disk = limits.disk_max, limits.peer_disk_max
            rows.append(engine_row(role, replication, disk, peer_disk))
    rows.append(engine_row(Role.PRIMARY, ReplicationState.ESTABLISHED, DiskState.DISKLESS, DiskState.UP_TO_DATE))
    rows.append(engine_row(Role.PRIMARY, ReplicationState.ESTABLISHED, DiskState.UP_TO_DATE, DiskState.DISKLESS))
    return "".join(rows)


def rule_rows() -> str:
    """Return the lines about the comparison."""
    numbers = {name: number for pair in PAIRS for name, number in pair}
    others = {a[0]: b[0] for a, b in PAIRS} | {b[0]: a[0] for a, b in PAIRS}
    return "".join(
        f"| {rule} | {numbers.get(rule, '')} | {sentence} | {others.get(rule, 'the same')} |\n"
        for rule, sentence in RULES.items()
    )


def page() -> str:
    """Return the whole page."""
    disks = "| state | number | meaning |\n|---|---|---|\n"
    disks += "".join(f"| {disk} | {int(disk)} | {MEANING[disk]} |\n" for disk in DiskState)
    limits = "".join(
        f"| {replication} | {span(each.disk_min, each.disk_max)} | {span(each.peer_disk_min, each.peer_disk_max)} |\n"
        for replication, each in LIMITS.items()
    )
    refusals = "".join(f"| {each.name} | {each.exit_code} | {each.sentence} |\n" for each in Refusal)
    return HEAD + disks + CONNECTION + limits + ENGINE + engine_rows() + COMPARED + rule_rows() + REFUSED + refusals


if __name__ == "__main__":
    sys.stdout.write(page())
