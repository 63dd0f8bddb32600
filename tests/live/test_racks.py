"""A stock consumer that reads from the follower in its rack, and what deaths do to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kcluster.config import RACK_AWARE_SELECTOR
from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

RACKS = ["a", "b", "c"]
"""Of brokers 1, 2 and 3."""
VALUE_BYTES = 500
PATIENCE_S = 60


@pytest.fixture(scope="module")
def shared_racked(live_home: Any) -> Iterator[LiveCluster]:
    options = {"replica.selector.class": RACK_AWARE_SELECTOR}
    cluster = LiveCluster("racked", racks=RACKS, options=options)
    yield cluster
    cluster.close()


@pytest.fixture
def racked(shared_racked: LiveCluster) -> Iterator[LiveCluster]:
    yield shared_racked
    shared_racked.heal()


class Writer:
    """Writes numbers, one after the other, until it is stopped."""

    def __init__(self, cluster: LiveCluster, topic: str) -> None:
        self.written = 0
        self._topic = topic
        self._stops = threading.Event()
        self._problems: list[str] = []
        self._producer: Producer | None = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 2,
                "reconnect.backoff.max.ms": 200,
            }
        )
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._problems.append(str(error))

    def _write(self) -> None:
        producer = self._producer
        assert producer is not None
        while not self._stops.wait(0.001):
            value = str(self.written).encode().ljust(VALUE_BYTES)
            producer.produce(self._topic, value, on_delivery=self._delivered)
            producer.poll(0)
            self.written += 1

    def stop(self) -> None:
        self._stops.set()
        self._thread.join()
        if self._producer is not None:
            assert self._producer.flush(PATIENCE_S) == 0
            # It would go on asking for its topic wherever another cluster takes these ports.
            self._producer = None
        assert self._problems == []


class Reader:
    def __init__(self, cluster: LiveCluster, topic: str, rack: str) -> None:
        self.read: list[int] = []
        self._stops = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "client.rack": rack,
                "group.id": "racked",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "reconnect.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 1_000,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stops.is_set():
            for message in self._consumer.consume(500, 0.05):
                if message.error() is None:
                    self.read.append(int(message.value() or b"-1"))

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(self.read) < count:
            assert time.monotonic() < deadline, f"{len(self.read)} of {count} were read"
            time.sleep(0.01)

    def stop(self) -> None:
        self._stops.set()
        self._thread.join()
        self._consumer.close()


def bytes_out(cluster: LiveCluster, topic: str) -> dict[int, int]:
    """What each broker has given to consumers of a topic."""
    found = {}
    for broker in cluster.status().brokers:
        traffic = broker.counters.topics.get(topic) if broker.counters is not None else None
        found[broker.id] = traffic.bytes_out if traffic is not None else 0
    return found


def wait_for_bytes(cluster: LiveCluster, topic: str, broker: int, more_than: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while bytes_out(cluster, topic)[broker] <= more_than:
        assert time.monotonic() < deadline, f"nothing comes from broker {broker}"
        time.sleep(0.05)


def roles(cluster: LiveCluster, topic: str) -> tuple[int, list[int]]:
    """(leader, followers)."""
    leader = cluster.leader(topic)
    return leader, [id for id in (1, 2, 3) if id != leader]


def test_brokers_stand_in_their_racks(racked: LiveCluster) -> None:
    assert [broker.rack for broker in racked.status().brokers] == RACKS
    admin = AdminClient({"bootstrap.servers": racked.bootstrap})
    assert sorted(node.rack for node in admin.describe_cluster().result().nodes) == RACKS


def test_bytes_come_from_the_follower_in_the_rack_and_none_from_the_leader(
    racked: LiveCluster,
) -> None:
    topic = racked.topic()
    leader, (follower, other) = roles(racked, topic)
    writer = Writer(racked, topic)
    reader = Reader(racked, topic, RACKS[follower - 1])
    reader.wait_for(1_000)
    writer.stop()
    reader.wait_for(writer.written)
    reader.stop()
    given = bytes_out(racked, topic)
    assert given[follower] > writer.written * VALUE_BYTES
    assert given[leader] == given[other] == 0
    assert reader.read == list(range(writer.written))


@pytest.mark.parametrize("victim", ["follower", "leader"])
def test_nothing_is_lost_and_all_is_in_order_when_who_is_read_from_or_leads_dies(
    racked: LiveCluster, victim: str
) -> None:
    topic = racked.topic()
    leader, (follower, _) = roles(racked, topic)
    writer = Writer(racked, topic)
    reader = Reader(racked, topic, RACKS[follower - 1])
    try:
        reader.wait_for(500)
        wait_for_bytes(racked, topic, follower, 0)
        racked.kill(follower if victim == "follower" else leader)
        reader.wait_for(len(reader.read) + 1_000)
        racked.heal()
        # Whoever has come back is read from again, or still.
        source = follower if racked.leader(topic) != follower else racked.leader(topic)
        wait_for_bytes(racked, topic, source, bytes_out(racked, topic)[source])
        writer.stop()
        reader.wait_for(writer.written)
    finally:
        writer.stop()
        reader.stop()
    assert reader.read == list(range(writer.written))
