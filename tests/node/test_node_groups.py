"""Consumer groups of Node's clients against real processes."""

from __future__ import annotations

import pytest

from tests.live.group_members import CLASSIC, CONSUMER
from tests.live.group_run import quick, run_soundly
from tests.live.killing import Brokers

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])
def test_a_group_of_platformatic_skips_nothing_while_its_coordinator_is_killed(
    group_brokers: Brokers, protocol: str
) -> None:
    run_soundly(group_brokers, quick(["platformatic"], protocol=protocol))


def test_a_group_of_kafkajs_skips_nothing_while_its_coordinator_is_killed(
    group_brokers: Brokers,
) -> None:
    # One kill: it asks the dead coordinator for up to 45 s before it looks for another.
    run_soundly(group_brokers, quick(["kafkajs"], kills=1))
