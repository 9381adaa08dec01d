"""`pydrbd why`: any state in a few sentences, from what the node is and what it decided last; and what to type.

Pure. A sentence says what is so, why, and, where only a person can go on, which command does it on which node.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydrbd.model.states import ConnectionState, DiskState, ReplicationState, Role
from pydrbd.state.engine_settings import SOURCE_STATES, TARGET_STATES, VERIFY_STATES
from pydrbd.state.node_state import NodeState, Options

BLOCK_KIB = 4
"""One bit of the bitmap stands for this much."""
RULES_OF_LOSS = frozenset({"peer-lost", "reconnect-delayed", "peer-disconnects"})
RULES_OF_DISK = frozenset({"io-error", "metadata-failed", "implicit-shrink", "crashed-primary"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What the node said when it decided something; `when` is the time for people."""

    when: str
    sentence: str
    rule: str


@dataclass(frozen=True, slots=True)
class Cure:
    """One of the two ways out of a split brain: whose data stay, and what to type where, in order."""

    keeps: str
    discards: str
    commands: tuple[tuple[str, str], ...]
    """(node, command)."""


def cures(options: Options) -> tuple[Cure, Cure]:
    """Return both ways out of a split brain, ours first."""
    own, peer = options.node_name, options.peer_name
    return _cure(options.resource, own, peer), _cure(options.resource, peer, own)


def _cure(resource: str, keeps: str, discards: str) -> Cure:
    on_victim = f"pydrbd secondary {resource} && pydrbd connect --discard-my-data {resource}"
    return Cure(keeps, discards, ((discards, on_victim), (keeps, f"pydrbd connect {resource}")))


def why(state: NodeState, out_of_sync_bits: int, decisions: tuple[Decision, ...]) -> tuple[str, ...]:
    """Return the sentences. `decisions` are the latest, the newest last."""
    sentences = [_role(state), _disk(state, decisions), *_connection(state, decisions)]
    sentences += _resync(state, out_of_sync_bits)
    if state.discard_my_data:
        sentences.append("The next handshake may throw this node's own changes away: --discard-my-data was given.")
    return tuple(sentence for sentence in sentences if sentence)


def blocks(count: int) -> str:
    """Return a number of 4 KiB blocks for people."""
    return f"{count} block{'' if count == 1 else 's'} ({count * BLOCK_KIB} KiB)"


def _latest(decisions: tuple[Decision, ...], rules: frozenset[str]) -> Decision | None:
    return next((each for each in reversed(decisions) if each.rule in rules), None)


def _role(state: NodeState) -> str:
    name, peer = state.options.node_name, state.options.peer_name
    if state.role is Role.PRIMARY:
        held = "held open by an application" if state.clients else "not held open by anybody"
        return f"{name} is Primary: applications use the device here; it is {held} now."
    if state.peer_role is Role.PRIMARY:
        return f"{name} is Secondary: it keeps a copy of what is written on {peer}, which is Primary."
    return f"{name} is Secondary: nobody uses the device here; `pydrbd primary {state.options.resource}` changes that."


def _disk(state: NodeState, decisions: tuple[Decision, ...]) -> str:
    resource, peer = state.options.resource, state.options.peer_name
    match state.disk:
        case DiskState.UP_TO_DATE:
            return "Its disk is UpToDate: as far as this node knows, nobody has newer data."
        case DiskState.INCONSISTENT if state.replication in TARGET_STATES:
            return (
                "Its disk is Inconsistent: the resync under way makes it good; until then it cannot be promoted alone."
            )
        case DiskState.INCONSISTENT:
            return (
                f"Its disk is Inconsistent: it has never been synced, or a resync towards it was cut short."
                f" A connection to {peer} with good data mends it; if this data is the good one,"
                f" `pydrbd primary --force {resource}`."
            )
        case DiskState.OUTDATED:
            return f"Its disk is Outdated: a consistent state of the past; {peer} is known to have newer data."
        case DiskState.CONSISTENT:
            return f"Its disk is Consistent: whether {peer} has newer data is not known before they have met."
        case DiskState.DISKLESS | DiskState.FAILED:
            failed = _latest(decisions, RULES_OF_DISK)
            because = f" ({failed.when}: {failed.sentence})" if failed else ""
            served = f", {peer} serves reads and writes" if _peer_serves(state) else ""
            return (
                f"It has no usable disk{because}{served}."
                f" When the disk is mended or replaced: `pydrbd restart {resource}`."
            )
        case _:
            return f"Its disk is {state.disk}."


def _peer_serves(state: NodeState) -> bool:
    return state.established and state.peer_disk is DiskState.UP_TO_DATE


def _connection(state: NodeState, decisions: tuple[Decision, ...]) -> list[str]:
    resource, peer = state.options.resource, state.options.peer_name
    match state.connection:
        case ConnectionState.CONNECTED if state.established:
            return [f"It is connected to {peer}, whose disk is {state.peer_disk}."]
        case ConnectionState.STANDALONE if state.because is not None:
            return _given_up(state, decisions)
        case ConnectionState.STANDALONE:
            sentence = f"It is StandAlone because a person said so: it does not look for {peer}."
            return [f"{sentence} `pydrbd connect {resource}` ends that."]
        case _:
            lost = _latest(decisions, RULES_OF_LOSS)
            since = f" {lost.when}: {lost.sentence}." if lost else ""
            return [f"It looks for {peer} ({state.connection}) and will go on as soon as {peer} answers.{since}"]


def _given_up(state: NodeState, decisions: tuple[Decision, ...]) -> list[str]:
    because = state.because
    if because is None:
        return []
    resource, peer = state.options.resource, state.options.peer_name
    decision = _latest(decisions, frozenset({because.rule}))
    since = f" since {decision.when}" if decision else ""
    sentences = [f"It is StandAlone{since}: {because.sentence} (rule: {because.rule})."]
    split = because.split_brain
    if split is None:
        sentences.append(f"When that is mended: `pydrbd connect {resource}` on the node that is StandAlone.")
        return sentences
    sentences.append(
        f"Both nodes have written since they last agreed: this node {blocks(split.own_bits)},"
        f" {peer} {blocks(split.peer_bits)}. A person has to say whose changes are thrown away."
    )
    sentences += [spoken(cure) for cure in cures(state.options)]
    return sentences


def spoken(cure: Cure) -> str:
    """Return a cure as one sentence."""
    commands = "; ".join(f"on {node} `{command}`" for node, command in cure.commands)
    return f"To keep {cure.keeps}'s data: {commands}."


def _resync(state: NodeState, bits: int) -> list[str]:
    peer, resource = state.options.peer_name, state.options.resource
    sentences = []
    match state.replication:
        case replication if replication in SOURCE_STATES:
            sentences.append(f"A resync copies what {peer} lacks to it: {blocks(bits)} to go.")
        case replication if replication in TARGET_STATES:
            sentences.append(f"A resync fetches what this disk lacks from {peer}: {blocks(bits)} to go.")
        case ReplicationState.WF_BITMAP_S | ReplicationState.WF_BITMAP_T | ReplicationState.WF_SYNC_UUID:
            sentences.append("A resync is about to begin: the bitmaps are being exchanged.")
        case replication if replication in VERIFY_STATES:
            sentences.append(f"An online verify compares this disk with {peer}'s.")
        case ReplicationState.ESTABLISHED if bits and state.disk is state.peer_disk is DiskState.UP_TO_DATE:
            sentences.append(
                f"{blocks(bits)} differ from what {peer} has, as a verify has found: they are copied when the two"
                f" connect anew, or by `pydrbd verify --repair {resource}`, which looks at the whole device again."
            )
        case ReplicationState.OFF if bits and state.has_disk and state.because is None:
            sentences.append(f"{blocks(bits)} differ from what {peer} has, and are copied when it comes back.")
        case _:
            pass
    if state.user_paused or state.peer_paused:
        who = [name for name, paused in (("here", state.user_paused), (f"on {peer}", state.peer_paused)) if paused]
        sentences.append(f"Resync is paused {' and '.join(who)}: `pydrbd resume-sync {resource}` there lets it go on.")
    if state.replication in SOURCE_STATES | TARGET_STATES:
        sentences += _order(state)
    return sentences


def _order(state: NodeState) -> list[str]:
    """Say for whom a resync waits."""
    sentences = []
    if state.waits_for:
        names = ", ".join(state.waits_for)
        sentences.append(f"Until the resync of {names} is over, which comes first (resync-after), this one waits.")
    if state.peer_waits:
        sentences.append(f"It waits because of an order on {state.options.peer_name}: `pydrbd why` says more there.")
    return sentences
