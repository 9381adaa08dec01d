"""When a wait is over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pydrbd.model.states import ConnectionState, DiskState, ReplicationState
from pydrbd.node.admin.verbs import is_settled
from pydrbd.state.node_state import Link, NodeState

IN_SYNC = NodeState(
    connection=ConnectionState.CONNECTED,
    replication=ReplicationState.ESTABLISHED,
    link=Link(101, 9, resolve_conflicts=True, sent_bits=0, established=True),
    disk=DiskState.UP_TO_DATE,
    peer_disk=DiskState.UP_TO_DATE,
)


@pytest.mark.parametrize(
    ("changes", "settled"),
    [
        ({}, True),
        ({"disk": DiskState.INCONSISTENT, "peer_disk": DiskState.INCONSISTENT}, True),
        ({"peer_disk": DiskState.DISKLESS}, True),
        ({"peer_disk": DiskState.INCONSISTENT}, False),
        ({"disk": DiskState.INCONSISTENT}, False),
        ({"replication": ReplicationState.WF_BITMAP_S}, False),
        ({"replication": ReplicationState.SYNC_SOURCE}, False),
        ({"link": None}, False),
    ],
)
def test_a_sync_is_over_when_none_runs_and_none_is_due(changes: dict[str, object], settled: bool):
    assert is_settled(replace(IN_SYNC, **changes)) is settled  # type: ignore[arg-type]
