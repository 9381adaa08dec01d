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
