"""Quotas of real clients: what they reach, and what those beside them do."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, ThrottleEvent, TopicPartition

from kcluster.client.requests import any_broker
from kcluster.wire.messages import alter_client_quotas_request as m
from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

RATE = 150_000
"""Bytes a second."""
MEASURED_S = 20
WINDOWS = 2
WITHIN = 0.1
BESIDE = 10
"""How many times the quota another client wants."""
VALUE = bytes(2_000)

_names = itertools.count(1)


@pytest.fixture(scope="module")
def limited(live_home: Any) -> Iterator[LiveCluster]:
    """Rates are taken over so few windows that a test need not wait for long."""
    cluster = LiveCluster("quotas", options={"quota.window.num": str(WINDOWS)})
    yield cluster
    cluster.close()


@pytest.fixture
def client_id() -> str:
    return f"app-{next(_names)}"


def limit(cluster: LiveCluster, client_id: str, **values: float) -> None:
    broker = any_broker(cluster.states(), cluster.servers, cluster.name)
    entry = m.EntryData(
        entity=[m.EntityData(entity_type="client-id", entity_name=client_id)],
        ops=[m.OpData(key=key, value=value) for key, value in values.items()],
    )
    response = broker.request(m.AlterClientQuotasRequest(entries=[entry]))
    assert [each.error_code for each in response.entries] == [0]


class Writer:
    """Writes as fast as it may, or a value every `pause_s`, until it is stopped."""

    def __init__(
        self, cluster: LiveCluster, topic: str, client_id: str, pause_s: float = 0
    ) -> None:
        self._pause_s = pause_s
        self.acknowledged = 0
        self.told_ms: list[int] = []
        """Throttle times that it was told."""
        self.problems: list[str] = []
        self._topic = topic
        self._stops = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "client.id": client_id,
                "linger.ms": 5,
                # One request at a time is taken of who is throttled: not to be bound by latency.
                "acks": 1,
                "batch.size": 15_000,
                "queue.buffering.max.messages": 500,
                # More of them would each have the one value that the last answer made room for.
                "max.in.flight.requests.per.connection": 2,
                "throttle_cb": self._throttled,
            }
        )
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _throttled(self, event: ThrottleEvent) -> None:
        self.told_ms.append(round(event.throttle_time * 1000))

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self.problems.append(str(error))
        else:
            self.acknowledged += len(VALUE)

    def _write(self) -> None:
        while not self._stops.is_set():
            try:
                self._producer.produce(self._topic, VALUE, on_delivery=self._delivered)
                self._producer.poll(0)
            except BufferError:
                self._producer.poll(0.02)
            if self._pause_s:
                self._stops.wait(self._pause_s)

    def wait_until_told(self) -> None:
        deadline = time.monotonic() + 30
        while not any(self.told_ms):
            assert time.monotonic() < deadline, "it is not throttled"
            time.sleep(0.01)

    def stop(self) -> None:
        self._stops.set()
        self._thread.join()
        assert self._producer.flush(60) == 0
        # It would go on asking for its topic wherever another cluster takes these ports.
        del self._producer
        assert self.problems == []


class Reader:
    """Reads a partition from its start, again and again, as fast as it may, or BESIDE times the
    quota."""

    def __init__(
        self, cluster: LiveCluster, topic: str, client_id: str, pause_s: float = 0
    ) -> None:
        self._pause_s = pause_s
        self.read = 0
        self._stops = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "client.id": client_id,
                "group.id": client_id,
                "enable.auto.commit": False,
                "max.partition.fetch.bytes": 15_000,
                "fetch.max.bytes": 15_000,
                "message.max.bytes": 15_000,
                "auto.offset.reset": "earliest",
            }
        )
        self._from_start = [TopicPartition(topic, 0, 0)]
        self._consumer.assign(self._from_start)
        self._end = self._consumer.get_watermark_offsets(self._from_start[0], timeout=10)[1]
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stops.is_set():
            if self._pause_s:
                self._stops.wait(self._pause_s)
            for message in self._consumer.consume(100, 0.05):
                assert message.error() is None, message.error()
                self.read += len(message.value() or b"")
                if message.offset() == self._end - 1:
                    self._consumer.assign(self._from_start)

    def stop(self) -> None:
        self._stops.set()
        self._thread.join()
        self._consumer.close()


def rate_of(count: Callable[[], int]) -> float:
    """Bytes a second while it is measured; from the second quiet moment on, when what may be had
    at once has been had."""
    deadline = time.monotonic() + 30
    begun = count()
    while count() - begun < RATE * WINDOWS:
        assert time.monotonic() < deadline, "it came to a stop"
        time.sleep(0.01)
    first, first_at = count(), time.monotonic()
    time.sleep(MEASURED_S)
    return (count() - first) / (time.monotonic() - first_at)


def fill(cluster: LiveCluster, topic: str, megabytes: int) -> None:
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap, "client.id": "fill", "batch.size": 10_000}
    )
    for _ in range(megabytes * 1_000_000 // len(VALUE)):
        producer.produce(topic, VALUE)
        producer.poll(0)
    assert producer.flush(60) == 0


def test_who_writes_more_than_its_quota_is_told(limited: LiveCluster, client_id: str) -> None:
    writer = Writer(limited, limited.topic(), client_id)
    try:
        limit(limited, client_id, producer_byte_rate=RATE)
        writer.wait_until_told()
    finally:
        writer.stop()


@pytest.mark.long
def test_a_producer_writes_at_its_quota_and_another_one_beside_it_as_it_likes(
    limited: LiveCluster, client_id: str
) -> None:
    topic = limited.topic()
    limit(limited, client_id, producer_byte_rate=RATE)
    throttled = Writer(limited, topic, client_id)
    beside = Writer(limited, topic, "beside", len(VALUE) / (BESIDE * RATE))
    try:
        other_before = beside.acknowledged
        rate = rate_of(lambda: throttled.acknowledged)
        other = beside.acknowledged - other_before
    finally:
        throttled.stop()
        beside.stop()
    assert rate == pytest.approx(RATE, rel=WITHIN)
    assert max(throttled.told_ms) > 0
    assert other > 0.5 * BESIDE * RATE * MEASURED_S
    assert [ms for ms in beside.told_ms if ms] == []


@pytest.mark.long
def test_a_consumer_reads_at_its_quota_and_another_one_beside_it_as_it_likes(
    limited: LiveCluster, client_id: str
) -> None:
    topic = limited.topic()
    fill(limited, topic, 20)
    limit(limited, client_id, consumer_byte_rate=RATE)
    throttled = Reader(limited, topic, client_id)
    beside = Reader(limited, topic, "beside", 100 * len(VALUE) / (BESIDE * RATE))
    try:
        other_before = beside.read
        rate = rate_of(lambda: throttled.read)
        other = beside.read - other_before
    finally:
        throttled.stop()
        beside.stop()
    assert rate == pytest.approx(RATE, rel=WITHIN)
    assert other > 0.5 * BESIDE * RATE * MEASURED_S


@pytest.mark.long
def test_request_time_slows_a_client_down_and_a_quota_taken_away_lets_it_go(
    limited: LiveCluster, client_id: str
) -> None:
    topic = limited.topic()
    writer = Writer(limited, topic, client_id)
    try:
        free = rate_of(lambda: writer.acknowledged)
        limit(limited, client_id, request_percentage=0.5)
        writer.wait_until_told()
        slow = rate_of(lambda: writer.acknowledged)
    finally:
        writer.stop()
    assert slow < free / 4
