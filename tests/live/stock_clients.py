"""One small face for three stock clients: create a topic, write records, read them back.

Each does all of it with its own library, so that its own requests are what is tested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 30

Header = tuple[str, bytes]


@dataclass(frozen=True)
class Sent:
    """A record as it goes in and as it must come out."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp: int


def some_records(count: int = 60) -> list[Sent]:
    """Keys and values of many sizes: null (never both), compressible, not text."""
    return [
        Sent(
            None if i % 5 == 0 else b"key-%d" % (i % 7),
            None if i % 10 == 6 else bytes(range(256)) * (i % 4) + b"%d" % i,
            (("trace", b"%d" % i), ("empty", b"")) if i % 3 == 0 else (),
            1_700_000_000_000 + i * 1000,
        )
        for i in range(count)
    ]


class ConfluentKafka:
    name = "confluent-kafka"

    def create(self, bootstrap: str, topic: str, partitions: int) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": bootstrap})
        futures = admin.create_topics([NewTopic(topic, partitions)], operation_timeout=TIMEOUT_S)
        futures[topic].result(TIMEOUT_S)

    def write(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        codec: str,
        is_idempotent: bool,
    ) -> None:
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "enable.idempotence": is_idempotent,
                "acks": "all",
                "linger.ms": 5,
            }
        )
        errors: list[Any] = []
        for record in records:
            producer.produce(
                topic,
                record.value,
                record.key,
                partition=0,
                timestamp=record.timestamp,
                headers=list(record.headers),
                on_delivery=lambda error, _: errors.append(error),
            )
        assert producer.flush(TIMEOUT_S) == 0
        assert errors == [None] * len(records)

    def read(self, bootstrap: str, topic: str, count: int, offset: int = 0) -> list[Sent]:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
        )
        try:
            consumer.assign([TopicPartition(topic, 0, offset)])
            out: list[Sent] = []
            while len(out) < count:
                messages = consumer.consume(count - len(out), TIMEOUT_S)
                assert messages, f"{len(out)} of {count} records came"
                for message in messages:
                    assert message.error() is None, message.error()
                    out.append(
                        Sent(
                            message.key(),
                            message.value(),
                            tuple(message.headers() or ()),
                            message.timestamp()[1],
                        )
                    )
            return out
        finally:
            consumer.close()


class KafkaPython:
    name = "kafka-python"

    def create(self, bootstrap: str, topic: str, partitions: int) -> None:
        from kafka import KafkaAdminClient
        from kafka.admin import NewTopic

        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            admin.create_topics([NewTopic(topic, partitions, -1)], timeout_ms=TIMEOUT_S * 1000)
        finally:
            admin.close()

    def write(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        codec: str,
        is_idempotent: bool,
    ) -> None:
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=is_idempotent,
            acks="all",
            linger_ms=5,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=0,
                    timestamp_ms=record.timestamp,
                )
                for record in records
            ]
            for future in futures:
                future.get(TIMEOUT_S)
        finally:
            producer.close()

    def read(self, bootstrap: str, topic: str, count: int, offset: int = 0) -> list[Sent]:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, consumer_timeout_ms=30_000
        )
        try:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), offset)
            out: list[Sent] = []
            for record in consumer:
                headers = tuple((name, value) for name, value in record.headers)
                out.append(Sent(record.key, record.value, headers, record.timestamp))
                if len(out) == count:
                    break
            return out
        finally:
            consumer.close()


class AioKafka:
    name = "aiokafka"

    def create(self, bootstrap: str, topic: str, partitions: int) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        async def create() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            try:
                answer = await admin.create_topics([NewTopic(topic, partitions, 3)])
                assert [error[1] for error in answer.topic_errors] == [0], answer
            finally:
                await admin.close()

        asyncio.run(create())

    def write(
        self,
        bootstrap: str,
        topic: str,
        records: Sequence[Sent],
        *,
        codec: str,
        is_idempotent: bool,
    ) -> None:
        from aiokafka import AIOKafkaProducer

        async def write() -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=is_idempotent,
                acks="all",
                linger_ms=5,
            )
            await producer.start()
            try:
                futures = [
                    await producer.send(
                        topic,
                        record.value,
                        record.key,
                        partition=0,
                        timestamp_ms=record.timestamp,
                        headers=list(record.headers),
                    )
                    for record in records
                ]
                await asyncio.wait_for(asyncio.gather(*futures), TIMEOUT_S)
            finally:
                await producer.stop()

        asyncio.run(write())

    def read(self, bootstrap: str, topic: str, count: int, offset: int = 0) -> list[Sent]:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def read() -> list[Sent]:
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
            await consumer.start()
            try:
                consumer.assign([TopicPartition(topic, 0)])
                consumer.seek(TopicPartition(topic, 0), offset)
                out: list[Sent] = []
                while len(out) < count:
                    record = await asyncio.wait_for(consumer.getone(), TIMEOUT_S)
                    out.append(
                        Sent(record.key, record.value, tuple(record.headers), record.timestamp)
                    )
                return out
            finally:
                await consumer.stop()

        return asyncio.run(read())


StockClient = ConfluentKafka | KafkaPython | AioKafka
ALL: list[StockClient] = [ConfluentKafka(), KafkaPython(), AioKafka()]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
