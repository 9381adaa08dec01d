"""What the rules, the link and the engine need of the configuration, in their own words."""

from __future__ import annotations

from dataclasses import fields

from pydrbd.config.description import Handlers, ResourceView
from pydrbd.model.packets import SyncParam
from pydrbd.model.policies import (
    AfterSplitBrain,
    Fencing,
    OnCongestion,
    OnIoError,
    OnNoData,
    ReadBalancing,
    RrConflict,
    WireProtocol,
)
from pydrbd.node.link.connector import Endpoint, Terms
from pydrbd.state.node_state import NodeState, Options

SECTOR_BYTES = 512


def wire_protocol(view: ResourceView) -> WireProtocol:
    """Return A, B or C."""
    return WireProtocol[view.resource.protocol]


def terms(view: ResourceView) -> Terms:
    """Return where the two nodes of a resource find each other."""
    net = view.resource.net
    return Terms(
        local=Endpoint(view.local.address, view.local.port),
        peer=Endpoint(view.peer.address, view.peer.port),
        connect_int_s=net.connect_int_ms / 1000,
        ping_timeout_s=net.ping_timeout_ms / 1000,
        socket_check_timeout_s=net.socket_check_timeout_ms / 1000,
        sndbuf_bytes=net.sndbuf_size_bytes,
        rcvbuf_bytes=net.rcvbuf_size_bytes,
        cram_hmac_alg=net.cram_hmac_alg,
        shared_secret=net.shared_secret or "",
    )


def configured(handlers: Handlers) -> frozenset[str]:
    """Return the names of the handlers that there are."""
    return frozenset(field.name.replace("_", "-") for field in fields(handlers) if getattr(handlers, field.name))


def fresh_state(view: ResourceView) -> NodeState:
    """Return the state of a node that has just started."""
    net, disk = view.resource.net, view.local.volumes[0].options
    return NodeState(
        options=Options(
            resource=view.resource.name,
            node_name=view.local.name,
            peer_name=view.peer.name,
            wire_protocol=wire_protocol(view),
            integrity_alg=net.data_integrity_alg or "",
            csums_after_crash_only=net.csums_after_crash_only,
            sync=SyncParam(
                resync_rate_kib_s=disk.resync_rate_kib_per_s,
                verify_alg=net.verify_alg or "",
                csums_alg=net.csums_alg or "",
                c_plan_ahead=disk.c_plan_ahead_ms // 100,
                c_delay_target=disk.c_delay_target_ms // 100,
                c_fill_target_sectors=disk.c_fill_target_sectors,
                c_max_rate_kib_s=disk.c_max_rate_kib_per_s,
            ),
            after_sb_0pri=AfterSplitBrain.from_word(view.after_sb_0pri),
            after_sb_1pri=AfterSplitBrain.from_word(net.after_sb_1pri),
            after_sb_2pri=AfterSplitBrain.from_word(net.after_sb_2pri),
            always_asbp=net.always_asbp,
            rr_conflict=RrConflict(net.rr_conflict),
            fencing=Fencing(net.fencing),
            read_balancing=ReadBalancing.from_word(disk.read_balancing),
            on_io_error=OnIoError(disk.on_io_error),
            on_congestion=OnCongestion(net.on_congestion),
            on_no_data=OnNoData(view.resource.options.on_no_data_accessible),
            handlers=configured(view.resource.handlers),
            user_sectors=(disk.size_bytes or 0) // SECTOR_BYTES,
        )
    )
