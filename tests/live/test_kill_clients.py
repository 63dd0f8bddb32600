"""Brokers die under stock clients: what was acknowledged is there, once and in order.

Twenty kills in a row, and the same against other clusters: `python -m tests.live.kill_leader`.
"""

from __future__ import annotations

import statistics

import pytest
from confluent_kafka import KafkaError, Producer

from tests.live import killing
from tests.live.conftest import LiveCluster
from tests.live.killing import KclusterBrokers, Writer

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

GAP_MS = 1000
"""Loud, not a target: machines of continuous integration are slow. The target is 200."""


def brokers_of(cluster: LiveCluster) -> KclusterBrokers:
    return KclusterBrokers(cluster.bootstrap, cluster.control)


def assert_clean(cluster: LiveCluster, writer: Writer) -> None:
    found = killing.audit(cluster.bootstrap, writer)
    assert found.is_clean, found
    assert writer.failures == []
    assert found.read >= len(writer.acknowledged) > 0


def test_nothing_acknowledged_is_lost_while_leaders_are_killed(
    cluster: LiveCluster, topic: str
) -> None:
    brokers = brokers_of(cluster)
    gaps = []
    with Writer(cluster.bootstrap, topic) as writer:
        for _ in range(3):
            writer.await_acknowledgements(500)
            leader = killing.leader_of(cluster.bootstrap, topic)
            killed_ns = brokers.kill([leader])
            writer.await_acknowledgements(200)
            brokers.start([leader])
            killing.await_in_sync(cluster.bootstrap, topic, 3)
            writer.await_acknowledgements(100)
            gaps.append(writer.gap_ms(killed_ns))
    assert_clean(cluster, writer)
    assert statistics.median(gaps) < GAP_MS, gaps


def test_a_writer_goes_on_when_two_of_three_brokers_are_killed_at_one_moment(
    cluster: LiveCluster, topic: str
) -> None:
    brokers = brokers_of(cluster)
    with Writer(cluster.bootstrap, topic) as writer:
        writer.await_acknowledgements(500)
        leader = killing.leader_of(cluster.bootstrap, topic)
        victims = [leader, leader % 3 + 1]
        brokers.kill(victims)
        writer.await_acknowledgements(500)
        brokers.start(victims)
        killing.await_in_sync(cluster.bootstrap, topic, 3)
        writer.await_acknowledgements(100)
    assert_clean(cluster, writer)


def test_with_too_few_in_sync_writes_are_refused_and_reads_go_on(cluster: LiveCluster) -> None:
    brokers = brokers_of(cluster)
    name = "too-few-in-sync"
    killing.create_topic(cluster.bootstrap, name, 1, 3, min_insync_replicas="2")
    killing.await_in_sync(cluster.bootstrap, name, 3)
    with Writer(cluster.bootstrap, name) as writer:
        writer.await_acknowledgements(300)
    leader = killing.leader_of(cluster.bootstrap, name)
    victims = [id for id in (1, 2, 3) if id != leader]
    brokers.kill(victims)
    try:
        # Until the leader has heard of it, it takes the record, and its fate is not known.
        killing.await_isr(cluster.bootstrap, name, {leader})
        outcomes: list[KafkaError | None] = []
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "retries": 0})
        producer.produce(name, b"one too many", on_delivery=lambda error, _: outcomes.append(error))
        producer.flush(30)
        [refused] = outcomes
        assert refused is not None
        assert refused.code() == KafkaError.NOT_ENOUGH_REPLICAS
        assert_clean(cluster, writer)
    finally:
        brokers.start(victims)
    killing.await_in_sync(cluster.bootstrap, name, 3)
    assert_clean(cluster, writer)


def test_everything_is_there_after_all_brokers_and_the_coordinator_were_killed(
    cluster: LiveCluster, topic: str
) -> None:
    brokers = brokers_of(cluster)
    with Writer(cluster.bootstrap, topic) as writer:
        writer.await_acknowledgements(500)
        brokers.kill([0, 1, 2, 3])
        brokers.start([0, 1, 2, 3])
        writer.await_acknowledgements(500, 90)
    killing.await_in_sync(cluster.bootstrap, topic, 3)
    assert_clean(cluster, writer)


def test_a_leader_that_is_only_stopped_is_replaced_within_its_session(
    cluster: LiveCluster, topic: str
) -> None:
    """A producer that had requests in flight waits for its own timeout, here 2 s."""
    brokers = brokers_of(cluster)
    with Writer(cluster.bootstrap, topic, **{"socket.timeout.ms": 2000}) as writer:
        writer.await_acknowledgements(500)
        leader = killing.leader_of(cluster.bootstrap, topic)
        stopped_ns = brokers.pause([leader])
        try:
            # Its port still takes connections and never answers: who begins there, or is told of
            # it before it is fenced, waits 10 s for ApiVersions, whatever the cluster does.
            addresses = cluster.bootstrap.split(",")
            survivors = ",".join(a for id, a in enumerate(addresses, 1) if id != leader)
            killing.await_leader(survivors, topic, lambda found: found not in (-1, leader))
            with Writer(survivors, topic, keys=1) as fresh:
                fresh.await_acknowledgements(1, 20)
                # The session is 3 s; then comes the election.
                assert (fresh.times_ns[0] - stopped_ns) / 1e6 < 3000 + 500 + GAP_MS
            writer.await_acknowledgements(100)
        finally:
            brokers.resume([leader])
        killing.await_in_sync(cluster.bootstrap, topic, 3)
    numbers = [int(m.value()) for m in killing.read_all(cluster.bootstrap, topic)]
    assert set(writer.acknowledged) <= set(numbers)
    assert len(numbers) == writer.sent + fresh.sent
