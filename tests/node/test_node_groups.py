"""Consumer groups of Node's clients against real processes."""

from __future__ import annotations

import pytest

from tests.live.group_run import Plan, run_soundly
from tests.live.killing import Brokers

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.mark.parametrize("library", ["kafkajs", "platformatic"])
def test_a_group_skips_nothing_while_members_come_and_go_and_its_coordinator_is_killed(
    group_brokers: Brokers, library: str
) -> None:
    run_soundly(group_brokers, Plan([library], kills=2, rebalances=2))
