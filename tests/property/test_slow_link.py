"""Two nodes as in test_two_nodes, over a link that is too slow now and then: nobody stays Ahead or Behind."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from property.test_two_nodes import BLOCKS, TwoNodes, nodes
from pydrbd.model.events import Congested
from pydrbd.model.policies import OnCongestion
from pydrbd.model.states import ReplicationState
from pydrbd.state.faults.congestion import TIMER

LOOKS = 3


class SlowLink(TwoNodes):
    """What can happen to them, and congestion at any moment."""

    on_congestion = OnCongestion.PULL_AHEAD

    @rule(name=nodes, blocks=st.lists(st.integers(0, BLOCKS - 1), max_size=4))
    def congestion(self, name: str, blocks: list[int]) -> None:
        """Say that the link is congested, whatever goes on, and write on."""
        node = self.node(name)
        node.post(Congested(9000, next(node.uuids)))
        for block in blocks:
            node.write(block, next(self.values))

    @rule()
    def settle(self) -> None:
        """Let everything arrive; some seconds pass."""
        self.pair.run()
        for _ in range(LOOKS):
            for node in self.pair.nodes:
                node.barrier()
                if TIMER in node.timers:
                    node.timer(TIMER)
            self.pair.run()
        for node in self.pair.nodes:
            assert node.state.replication not in {ReplicationState.AHEAD, ReplicationState.BEHIND}
        self.check_at_rest()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
class TestSlowLink(SlowLink.TestCase):
    settings = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
