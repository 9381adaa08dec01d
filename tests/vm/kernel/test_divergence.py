"""Goal: split brain between pydrbd and the kernel's DRBD. PASS: nobody's data is overwritten unless somebody said
so."""

import pytest

from vm.kernel_pair import KernelPair

BOTH = pytest.mark.parametrize("victim", ["pydrbd", "kernel"])
POLICIES = "after-sb-0pri discard-zero-changes; after-sb-1pri discard-secondary;"


def diverge(pair: KernelPair, *, ours_writes: bool = True, kernel_writes: bool = True) -> None:
    """Let both write without the other; both Secondary and disconnected at the end."""
    for node in (pair.ours, pair.kernel):
        node.ask("disconnect")
    for seed, (node, writes) in enumerate([(pair.ours, ours_writes), (pair.kernel, kernel_writes)], start=41):
        node.tell("primary")
        if writes:
            pair.write(node, seed)
        node.tell("secondary")


@BOTH
def test_a_split_brain_is_found_and_cured_by_hand(pair: KernelPair, victim: str) -> None:
    pair.begin_in_sync()
    diverge(pair)
    pair.ours.tell("connect")
    pair.kernel.tell("connect")
    pair.wait_seen(pair.ours, connection="StandAlone")
    pair.wait(lambda: pair.kernel.seen().connection in {"StandAlone", "WFConnection"}, "the kernel's side dropped")
    survivor = pair.both(victim)[1]
    for node in (pair.ours, pair.kernel):
        node.ask("disconnect")
    if victim == "pydrbd":
        pair.ours.tell("connect --discard-my-data")
    else:
        pair.kernel.tell("-- --discard-my-data connect")
    survivor.tell("connect")
    pair.wait_connected()
    pair.wait_in_sync()
    survivor.tell("primary")
    pair.verify(survivor, 42 if victim == "pydrbd" else 41)


@BOTH
def test_a_split_brain_with_one_side_unchanged_is_solved_by_policy(pair: KernelPair, victim: str) -> None:
    pair.begin_in_sync(net=POLICIES)
    diverge(pair, ours_writes=victim == "kernel", kernel_writes=victim == "pydrbd")
    pair.kernel.tell("connect")
    pair.ours.tell("connect")
    pair.wait_connected()
    pair.wait_in_sync()
    survivor = pair.both(victim)[1]
    survivor.tell("primary")
    pair.verify(survivor, 42 if victim == "pydrbd" else 41)


@BOTH
def test_a_secondary_that_diverged_loses_by_policy(pair: KernelPair, victim: str) -> None:
    pair.begin_in_sync(net=POLICIES)
    diverge(pair)
    survivor = pair.both(victim)[1]
    survivor.tell("primary")
    pair.kernel.tell("connect")
    pair.ours.tell("connect")
    pair.wait_connected()
    pair.wait_in_sync()
    pair.verify(survivor, 42 if victim == "pydrbd" else 41)


@pytest.mark.parametrize("option", ["protocol B;", "after-sb-0pri discard-zero-changes;", "data-integrity-alg md5;"])
def test_different_settings_are_refused(pair: KernelPair, option: str) -> None:
    pair.begin_in_sync()
    pair.kernel.tell("down")
    text = pair.kernel.machine.get("/etc/drbd.conf").decode()
    pair.kernel.configure(text.replace("protocol C;", option if "protocol" in option else f"protocol C; {option}"))
    pair.kernel.tell("up")
    pair.wait(
        lambda: "StandAlone" in {pair.ours.seen().connection, pair.kernel.seen().connection}, "one side to give up"
    )
    pair.kernel.tell("down")
    pair.kernel.configure(text)
    pair.kernel.tell("up")
    pair.ours.ask("disconnect")
    pair.ours.ask("connect")
    pair.wait_connected()


def solved(pair: KernelPair, victim: str) -> None:
    """Connect again; what the victim wrote is gone, what the other one wrote is there."""
    pair.kernel.tell("connect")
    pair.ours.tell("connect")
    pair.wait_connected()
    pair.wait_in_sync()
    survivor = pair.both(victim)[1]
    survivor.ask("primary")
    pair.verify(survivor, 44 if victim == "pydrbd" else 43)


@BOTH
def test_the_fewest_changes_lose_by_policy(pair: KernelPair, victim: str) -> None:
    pair.begin_in_sync(net="after-sb-0pri discard-least-changes;")
    survivor = pair.both(victim)[1]
    for node in (pair.ours, pair.kernel):
        node.ask("disconnect")
    for seed, node in enumerate((pair.ours, pair.kernel), start=43):
        node.tell("primary")
        pair.write(node, seed, "" if node is survivor else "--waves 2")
        node.tell("secondary")
    solved(pair, victim)


@BOTH
@pytest.mark.parametrize("policy", ["younger", "older"])
def test_who_was_primary_first_or_last_loses_by_policy(pair: KernelPair, victim: str, policy: str) -> None:
    pair.begin_in_sync(net=f"after-sb-0pri discard-{policy}-primary;")
    older = victim if policy == "older" else {"pydrbd": "kernel", "kernel": "pydrbd"}[victim]
    first, second = pair.both(older)
    first.tell("primary")
    first.ask("disconnect")
    pair.wait_seen(second, peer_role="Unknown")
    second.ask("disconnect")
    pair.write(first, 43 if older == "pydrbd" else 44)
    first.tell("secondary")
    second.tell("primary")
    pair.write(second, 44 if older == "pydrbd" else 43)
    second.tell("secondary")
    solved(pair, victim)


@BOTH
def test_a_policy_that_would_cost_the_primary_its_data_needs_consent(pair: KernelPair, victim: str) -> None:
    pair.begin_in_sync(net="after-sb-0pri discard-least-changes; after-sb-1pri consensus;")
    survivor = pair.both(victim)[1]
    for node in (pair.ours, pair.kernel):
        node.ask("disconnect")
    for seed, node in enumerate((pair.ours, pair.kernel), start=43):
        node.tell("primary")
        pair.write(node, seed, "" if node is survivor else "--waves 2")
        if node is not survivor:
            node.tell("secondary")
    solved(pair, victim)
