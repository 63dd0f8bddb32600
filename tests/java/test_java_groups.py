"""Consumer groups of Java's client, by its VerifiableConsumer, against real processes."""

from __future__ import annotations

import pytest

from tests.live.group_members import CONSUMER
from tests.live.group_run import quick, run_soundly
from tests.live.killing import Brokers

pytestmark = [pytest.mark.java, pytest.mark.timeout(300)]


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_a_group_skips_nothing_while_members_come_and_go_and_its_coordinator_is_killed(
    group_brokers: Brokers, strategy: str
) -> None:
    run_soundly(group_brokers, quick(["java"], strategy=strategy))


def test_java_shares_a_group_with_another_library(group_brokers: Brokers) -> None:
    run_soundly(group_brokers, quick(["java", "confluent-kafka"], kills=1))


@pytest.mark.parametrize("strategy", ["uniform", "range"])
def test_a_group_of_the_consumer_protocol_skips_nothing(
    group_brokers: Brokers, strategy: str
) -> None:
    run_soundly(group_brokers, quick(["java"], kills=1, strategy=strategy, protocol=CONSUMER))


def test_java_shares_a_group_of_the_consumer_protocol(group_brokers: Brokers) -> None:
    run_soundly(group_brokers, quick(["java", "confluent-kafka"], kills=1, protocol=CONSUMER))
