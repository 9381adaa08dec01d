"""What must be configured alike on both nodes, and the sentence that says what is not (DRBD 8.4 `receive_protocol`)."""

from __future__ import annotations

from pydrbd.model.packets import Protocol, SyncParam
from pydrbd.model.policies import AfterSplitBrain, WireProtocol
from pydrbd.state.node_state import NodeState, Options


def own_protocol(state: NodeState) -> Protocol:
    """Return what we tell the peer."""
    options = state.options
    return Protocol(
        wire_protocol=options.wire_protocol,
        after_sb_0pri=options.after_sb_0pri,
        after_sb_1pri=options.after_sb_1pri,
        after_sb_2pri=options.after_sb_2pri,
        discard_my_data=state.discard_my_data,
        dry_run=state.tentative,
        two_primaries=options.two_primaries,
        integrity_alg=options.integrity_alg,
    )


def protocol_refusal(state: NodeState, peer: Protocol) -> str:
    """Return the sentence about the first setting that differs, or an empty text."""
    options = state.options
    checks = (
        ("protocol", _letter(options.wire_protocol), _letter(peer.wire_protocol)),
        ("after-sb-0pri", options.after_sb_0pri.word, _policy(peer.after_sb_0pri)),
        ("after-sb-1pri", options.after_sb_1pri.word, _policy(peer.after_sb_1pri)),
        ("after-sb-2pri", options.after_sb_2pri.word, _policy(peer.after_sb_2pri)),
        ("allow-two-primaries", _yes(options.two_primaries), _yes(peer.two_primaries)),
        ("data-integrity-alg", options.integrity_alg or "none", peer.integrity_alg or "none"),
    )
    for name, own, peers in checks:
        if own != peers:
            return _differs(options, name, own, peers)
    if state.discard_my_data and peer.discard_my_data:
        return "incompatible discard-my-data settings: both nodes were told to discard their data"
    return ""


def sync_param_refusal(options: Options, peer: SyncParam) -> str:
    """Return the sentence about a digest that differs, or an empty text."""
    for name, own, peers in (
        ("verify-alg", options.sync.verify_alg, peer.verify_alg),
        ("csums-alg", options.sync.csums_alg, peer.csums_alg),
    ):
        if own != peers:
            return _differs(options, name, own or "none", peers or "none")
    return ""


def _differs(options: Options, name: str, own: str, peers: str) -> str:
    return f"incompatible {name} settings: {options.node_name} has {own}, {options.peer_name} has {peers}"


def _letter(number: int) -> str:
    try:
        return WireProtocol(number).name
    except ValueError:
        return str(number)


def _policy(number: int) -> str:
    """Return the peer's policy as we would name it."""
    try:
        return AfterSplitBrain(number).mirrored.word
    except ValueError:
        return str(number)


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
