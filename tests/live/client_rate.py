"""Records per second of our client beside confluent-kafka and kafka-python.

    python -m tests.live.client_rate                       a cluster of its own, over ZeroMQ and TCP
    python -m tests.live.client_rate --bootstrap HOST:PORT any Kafka, over TCP

In turns, after a warm-up of each: so many rounds, of which the median and the spread are told. A
round writes records of one size, keyed, and waits until all are acknowledged by all in sync; then
it reads them back and counts. One process, one client, the same batch and linger for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from kcluster.client import Admin, ApiError, Consumer, Producer
from tests.live.conftest import LiveCluster

BATCH_BYTES = 64 << 10
LINGER_MS = 5
TIMEOUT_S = 120


@dataclass(frozen=True)
class Plan:
    records: int
    size: int
    keys: int
    partitions: int
    codec: str

    def key(self, number: int) -> bytes:
        return b"user-%d" % (number % self.keys)


@dataclass
class Contender:
    name: str
    write: Callable[[str, Plan, bytes], None]
    read: Callable[[str, Plan], int]
    wrote: list[float] = field(default_factory=list)
    """Records/s of each round."""
    took: list[float] = field(default_factory=list)


def ours(name: str, where: dict[str, Any]) -> Contender:
    def write(topic: str, plan: Plan, value: bytes) -> None:
        with Producer(
            **where, batch_bytes=BATCH_BYTES, linger_ms=LINGER_MS, compression=plan.codec
        ) as producer:
            for number in range(plan.records):
                producer.send(topic, value, plan.key(number))

    def read(topic: str, plan: Plan) -> int:
        count = 0
        with Consumer(topics=topic, **where) as consumer:
            while count < plan.records:
                count += len(consumer.poll())
        return count

    return Contender(name, write, read)


def confluent(bootstrap: str) -> Contender:
    import confluent_kafka

    def write(topic: str, plan: Plan, value: bytes) -> None:
        producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "batch.size": BATCH_BYTES,
                "linger.ms": LINGER_MS,
                "compression.type": plan.codec,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        for number in range(plan.records):
            while True:
                try:
                    producer.produce(topic, value, plan.key(number))
                    break
                except BufferError:
                    producer.poll(0.01)
            if not number % 500:
                producer.poll(0)
        assert producer.flush(TIMEOUT_S) == 0

    def read(topic: str, plan: Plan) -> int:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        )
        partitions = [
            confluent_kafka.TopicPartition(topic, index, 0) for index in range(plan.partitions)
        ]
        consumer.assign(partitions)
        count = 0
        while count < plan.records:
            for message in consumer.consume(10_000, 0.2):
                assert message.error() is None
                message.value()
                count += 1
        consumer.close()
        return count

    return Contender("confluent-kafka", write, read)


def kafka_python(bootstrap: str) -> Contender:
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    def write(topic: str, plan: Plan, value: bytes) -> None:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            batch_size=BATCH_BYTES,
            linger_ms=LINGER_MS,
            compression_type=None if plan.codec == "none" else plan.codec,
        )
        for number in range(plan.records):
            producer.send(topic, value, plan.key(number))
        producer.flush(TIMEOUT_S)
        producer.close()

    def read(topic: str, plan: Plan) -> int:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        partitions = [TopicPartition(topic, index) for index in range(plan.partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        count = 0
        while count < plan.records:
            found = consumer.poll(500, max_records=10_000)
            count += sum(map(len, found.values()))
        consumer.close()
        return count

    return Contender("kafka-python", write, read)


@contextmanager
def cluster(bootstrap: str | None) -> Iterator[tuple[str, list[Contender]]]:
    if bootstrap is not None:
        yield bootstrap, [ours("kcluster, TCP", {"where": bootstrap})]
        return
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KCLUSTER_HOME", home)
        made = LiveCluster("rate")
        try:
            yield (
                made.bootstrap,
                [
                    ours("kcluster, ZeroMQ", {"cluster": made.name}),
                    ours("kcluster, TCP", {"where": made.bootstrap}),
                ],
            )
        finally:
            made.close()


def has_leaders(admin: Admin, topic: str) -> bool:
    """Other brokers than the one that made it may not have heard of it yet."""
    try:
        return all(each.leader >= 0 for each in admin.topics([topic])[0].partitions)
    except ApiError:
        return False


def one_round(admin: Admin, contender: Contender, plan: Plan, topic: str) -> tuple[float, float]:
    """(records/s written, records/s read)."""
    value = bytes(range(256)) * (plan.size // 256 + 1)
    value = value[: plan.size]
    admin.create_topic(topic, plan.partitions)
    deadline = time.monotonic() + TIMEOUT_S
    while not has_leaders(admin, topic):
        assert time.monotonic() < deadline
    try:
        begin = time.perf_counter()
        contender.write(topic, plan, value)
        written = time.perf_counter()
        count = contender.read(topic, plan)
        end = time.perf_counter()
        assert count == plan.records, f"{contender.name} read {count} of {plan.records}"
    finally:
        admin.delete_topics(topic)
    return plan.records / (written - begin), plan.records / (end - written)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", help="any Kafka instead of a cluster of its own")
    parser.add_argument("--records", type=int, default=100_000, help="of a round")
    parser.add_argument("--size", type=int, default=100, help="bytes of a value")
    parser.add_argument("--keys", type=int, default=1_000, help="different ones")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--codec", default="none")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    plan = Plan(options.records, options.size, options.keys, options.partitions, options.codec)
    with cluster(options.bootstrap) as (bootstrap, contenders), Admin(bootstrap) as admin:
        contenders += [confluent(bootstrap), kafka_python(bootstrap)]
        for turn in range(-1, options.rounds):
            for number, contender in enumerate(contenders):
                topic = f"rate-{time.time_ns() % 10**9}-{number}"
                wrote, took = one_round(admin, contender, plan, topic)
                if turn >= 0:  # else it was the warm-up
                    contender.wrote.append(wrote)
                    contender.took.append(took)
                print(f"{contender.name:18} {wrote:10,.0f} {took:10,.0f}", file=sys.stderr)
    rows = [
        {
            "client": each.name,
            "written_per_s": round(statistics.median(each.wrote)),
            "written_from_to": [round(min(each.wrote)), round(max(each.wrote))],
            "read_per_s": round(statistics.median(each.took)),
            "read_from_to": [round(min(each.took)), round(max(each.took))],
        }
        for each in contenders
    ]
    print(json.dumps({"plan": vars(options), "clients": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
