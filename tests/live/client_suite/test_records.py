"""Records in and out, alone: the same over ZeroMQ, over TCP, and with Apache Kafka."""

from __future__ import annotations

import time

import pytest

from kcluster.client import (
    ApiError,
    Consumed,
    Consumer,
    Delivery,
    ErrorCode,
    From,
    Place,
    Producer,
    TopicPartition,
)
from kcluster.client.find import EXIT_NOT_RUNNING
from kcluster.core.client.exchange import Patience
from kcluster.core.client.partitioner import partition_of_key
from kcluster.errors import UsageError
from tests.live.client_suite.conftest import Way, wait_until
from tests.live.stock_clients import ConfluentKafka, KafkaPython, Sent, some_records

NOW_MS = int(time.time() * 1000)
"""Retention lets records of this time alone."""

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def write(way: Way, topic: str, records: list[Sent], **settings: object) -> None:
    with Producer(**way.where, **settings) as producer:
        for record in records:
            producer.send(
                topic, record.value, record.key, record.headers,
                partition=0, timestamp_ms=record.timestamp,
            )  # fmt: skip


def read(way: Way, topic: str) -> list[Consumed]:
    with Consumer(topics=topic, **way.where) as consumer:
        return list(consumer.read_to_end())


def as_sent(consumed: Consumed) -> Sent:
    return Sent(consumed.key, consumed.value, tuple(consumed.headers), consumed.timestamp)


@pytest.mark.parametrize("codec", CODECS)
def test_everything_of_a_record_comes_back_and_others_read_it(way: Way, codec: str) -> None:
    topic, records = way.topic(), some_records(100)
    write(way, topic, records, compression=codec)
    assert [as_sent(each) for each in read(way, topic)] == records
    assert ConfluentKafka().read(way.bootstrap, topic, 100) == records


@pytest.mark.parametrize("codec", CODECS)
def test_what_others_write_is_read(way: Way, codec: str) -> None:
    topic, records = way.topic(), some_records(60)
    ConfluentKafka().write(way.bootstrap, topic, records, codec=codec, is_idempotent=True)
    KafkaPython().write(way.bootstrap, topic, records, codec=codec, is_idempotent=True)
    assert [as_sent(each) for each in read(way, topic)] == records * 2


@pytest.mark.parametrize("acks", ["0", "1", "all"])
@pytest.mark.parametrize("is_idempotent", [True, False])
def test_records_arrive_in_order_whoever_has_to_have_them(
    way: Way, acks: str, is_idempotent: bool
) -> None:
    topic = way.topic(partitions=3)
    with Producer(**way.where) as producer:  # so that its leaders take records, acks=0 or not
        for number in range(3):
            producer.wait(producer.send(topic, b"%d" % number, partition=number))
    with Producer(
        **way.where, acks=acks, is_idempotent=is_idempotent, batch_bytes=2_000
    ) as producer:
        for number in range(3, 3_000):
            producer.send(topic, b"%d" % number, partition=number % 3)
    found: list[Consumed] = []
    with Consumer(topics=topic, **way.where) as consumer:

        def has_all() -> bool:  # with acks=0 the end may come after its reading began
            found.extend(consumer.poll())
            return len(found) >= 3_000

        wait_until(has_all, "all have come")
    for partition in range(3):
        values = [int(each.value or b"") for each in found if each.partition == partition]
        assert values == list(range(partition, 3_000, 3))
        assert [each.offset for each in found if each.partition == partition] == list(range(1_000))


def test_who_sends_is_told_what_became_of_each_record(way: Way) -> None:
    topic, told = way.topic(), []
    with Producer(**way.where, batch_bytes=500) as producer:
        deliveries = [
            producer.send(topic, b"%d" % number, on_delivery=told.append) for number in range(100)
        ]
        last = producer.wait(deliveries[-1])
        assert (last.tp, last.offset) == (TopicPartition(topic, 0), 99)
        producer.flush()
    assert told == deliveries
    assert [each.offset for each in told] == list(range(100))


def test_a_failure_that_nobody_looks_at_is_raised_at_the_end(way: Way) -> None:
    topic = way.topic(**{"max.message.bytes": "1000"})
    with pytest.raises(ApiError) as raised, Producer(**way.where) as producer:
        producer.send(topic, b"x" * 10_000)
    assert raised.value.code is ErrorCode.MESSAGE_TOO_LARGE

    def look(delivery: Delivery) -> None:
        assert delivery.error is not None

    with Producer(**way.where) as producer:  # and not when somebody has looked
        producer.send(topic, b"x" * 10_000, on_delivery=look)
        producer.flush()
        with pytest.raises(ApiError, match="has partitions 0 to 0"):
            producer.wait(producer.send(topic, b"", partition=7))
        producer.send(topic, b"small")
    assert [each.value for each in read(way, topic)] == [b"small"]


def test_keys_land_where_other_clients_put_them(way: Way) -> None:
    import confluent_kafka

    topic = way.topic(partitions=7)
    keys = [b"", b"\xff", *(b"key-%d" % n for n in range(200)), *(b"\x80" * n for n in range(1, 9))]
    stock = confluent_kafka.Producer(
        {"bootstrap.servers": way.bootstrap, "partitioner": "murmur2_random"}
    )
    theirs: dict[bytes, int] = {}

    def note(error: object, message: confluent_kafka.Message) -> None:
        assert error is None
        theirs[message.key() or b""] = message.partition()

    for key in keys:
        stock.produce(topic, b"", key, on_delivery=note)
    assert stock.flush(60) == 0
    # librdkafka takes an empty key for none.
    keys.remove(b"")
    assert {key: theirs[key] for key in keys} == {key: partition_of_key(key, 7) for key in keys}
    with Producer(**way.where) as producer:
        ours = {key: producer.send(topic, b"", key) for key in keys}
        producer.flush()
        assert {key: each.tp.partition for key, each in ours.items() if each.tp} == {
            key: theirs[key] for key in keys
        }


def test_a_consumer_goes_anywhere_and_back_again(way: Way) -> None:
    topic = way.topic()
    tp = TopicPartition(topic, 0)
    with Producer(**way.where, batch_bytes=300) as producer:
        for number in range(200):
            producer.send(topic, b"%d" % number, timestamp_ms=NOW_MS + number)
    with Consumer(topics=topic, **way.where) as consumer:
        assert len(list(consumer.read_to_end())) == 200
        assert consumer.positions() == {tp: 200}
        assert consumer.assignment == [tp]
        assert (consumer.beginnings(), consumer.ends()) == ({tp: 0}, {tp: 200})
        assert consumer.offsets_for_time(NOW_MS + 150) == {tp: 150}
        assert consumer.offsets_for_time(NOW_MS + 1_000_000) == {tp: -1}
        for place, first in (
            (From(Place.LAST, 10), 190),
            (From(Place.START), 0),
            (From(Place.TIME, NOW_MS + 150), 150),
            (From(Place.OFFSET, 42), 42),
            (From(Place.END), 200),
        ):
            consumer.seek(tp, place)
            assert [each.offset for each in consumer.read_to_end()] == list(range(first, 200))
        consumer.seek(tp, From(Place.OFFSET, 1_000))
        with pytest.raises(ApiError, match="it holds 0 to 199"):
            list(consumer.read_to_end())


def test_nothing_comes_of_a_paused_partition_until_it_is_resumed(way: Way) -> None:
    topic = way.topic(partitions=2)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    with Consumer(topics=topic, **way.where) as consumer, Producer(**way.where) as producer:
        wait_until(lambda: not consumer.poll(20) and -1 not in consumer.positions().values()
                   and len(consumer.positions()) == 2, "it stands")  # fmt: skip
        consumer.pause(first)
        assert consumer.paused == {first}
        for number in range(20):
            producer.send(topic, b"%d" % number, partition=number % 2)
        producer.flush()
        found: list[Consumed] = []

        def has(count: int) -> bool:
            found.extend(consumer.poll(100, limit=3))
            return len(found) >= count

        wait_until(lambda: has(10), "those of the other")
        assert {each.tp for each in found} == {second}
        assert not consumer.poll(100)
        consumer.resume(first)
        wait_until(lambda: has(20), "those that waited")
        assert [each.offset for each in found if each.tp == first] == list(range(10))


def test_a_consumer_without_membership_commits_for_a_group(way: Way) -> None:
    topic = way.topic()
    tp = TopicPartition(topic, 0)
    with Producer(**way.where) as producer:
        for number in range(10):
            producer.send(topic, b"%d" % number)
    group = f"alone-{topic}"
    with Consumer(group=group, **way.where) as consumer:
        consumer.assign(topic, [0])
        taken = []
        while len(taken) < 4:
            taken += consumer.poll(limit=4 - len(taken))
        consumer.commit()
        assert consumer.committed() == {tp: 4}
        consumer.commit({tp: 2})
        assert consumer.committed([tp]) == {tp: 2}
    way.admin.delete_group(group)


def test_wrong_use_is_told(way: Way) -> None:
    soon = Patience(topic_ms=500)
    with (
        pytest.raises(ApiError) as missing,
        Consumer(topics="no-such", patience=soon, **way.where) as consumer,
    ):
        consumer.poll(30_000)
    assert missing.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(UsageError, match="acks cannot be"):
        Producer(**way.where, acks="some")
    with pytest.raises(UsageError, match="compression cannot be"):
        Producer(**way.where, compression="best")
    with pytest.raises(UsageError, match="either addresses or the name"):
        Producer()
    with pytest.raises(UsageError) as nobody:
        Producer("127.0.0.1:1")
    assert nobody.value.exit_code == EXIT_NOT_RUNNING
    with Consumer(**way.where) as consumer:
        with pytest.raises(UsageError, match="belongs to no group"):
            consumer.commit()
        with pytest.raises(UsageError, match="is not read by this consumer"):
            consumer.seek(TopicPartition("orders", 0), From())
