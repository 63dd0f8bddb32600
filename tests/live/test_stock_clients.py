"""Stock clients against real processes. `KCLUSTER_TEST_BOOTSTRAP` points them at another cluster:
what passes against Apache Kafka must pass here."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import time
from typing import Any

import pytest

from kcluster.bench.connection import Connection
from kcluster.client.connect import over_tcp, parse_bootstrap
from kcluster.client.consumer import Consumer
from kcluster.client.producer import Producer
from kcluster.core.client.consumer import From, Place
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.compression import Compression
from kcluster.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kcluster.wire.records import Record, build_batch
from tests.live import stock_clients
from tests.live.killing import await_in_sync
from tests.live.stock_clients import CODECS, ConfluentKafka, StockClient, some_records

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

_numbers = itertools.count(1)

MAX_MESSAGE_BYTES = 1_048_588
BEHIND_CRC = 17
"""A batch from its CRC on: base offset, length and leader epoch are in front of it."""


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> str:
    given = os.environ.get("KCLUSTER_TEST_BOOTSTRAP")
    return given or str(request.getfixturevalue("cluster").bootstrap)


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test."""
    return f"stock-{os.getpid()}-{next(_numbers)}"


def ids(client: StockClient) -> str:
    return client.name


each_client = pytest.mark.parametrize("client", stock_clients.ALL, ids=ids)


# --- create, write, read --------------------------------------------------------------------


@each_client
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("is_idempotent", [True, False], ids=["idempotent", "plain"])
def test_a_client_creates_a_topic_writes_and_reads_back_what_it_wrote(
    bootstrap: str, topic: str, client: StockClient, codec: str, is_idempotent: bool
) -> None:
    records = some_records()
    client.create(bootstrap, topic, 2)
    client.write(bootstrap, topic, records, codec=codec, is_idempotent=is_idempotent)
    assert client.read(bootstrap, topic, len(records)) == records


@pytest.mark.parametrize("codec", CODECS)
def test_every_client_reads_what_every_other_wrote(bootstrap: str, topic: str, codec: str) -> None:
    records = some_records(20)
    stock_clients.ALL[0].create(bootstrap, topic, 1)
    for writer in stock_clients.ALL:
        writer.write(bootstrap, topic, records, codec=codec, is_idempotent=True)
    for reader in stock_clients.ALL:
        assert reader.read(bootstrap, topic, len(records) * 3) == records * 3


@each_client
def test_reading_begins_at_any_offset_also_inside_a_batch(
    bootstrap: str, topic: str, client: StockClient
) -> None:
    records = some_records()
    client.create(bootstrap, topic, 1)
    client.write(bootstrap, topic, records, codec="lz4", is_idempotent=True)
    for offset in (59, 0, 31, 7):
        assert client.read(bootstrap, topic, 60 - offset, offset) == records[offset:]


def test_a_topic_is_there_at_once_for_who_writes_to_a_name_that_is_not(
    bootstrap: str, topic: str
) -> None:
    began = time.monotonic()
    ConfluentKafka().write(bootstrap, topic, some_records(1), codec="none", is_idempotent=True)
    assert time.monotonic() - began < 5
    assert len(ConfluentKafka().read(bootstrap, topic, 1)) == 1


@pytest.mark.parametrize("acks", [0, 1, -1])
def test_all_kinds_of_acknowledgement_write(bootstrap: str, topic: str, acks: int) -> None:
    import confluent_kafka

    ConfluentKafka().create(bootstrap, topic, 1)
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "acks": acks})
    for i in range(100):
        producer.produce(topic, b"%d" % i)
    assert producer.flush(30) == 0
    values = [record.value for record in ConfluentKafka().read(bootstrap, topic, 100)]
    assert values == [b"%d" % i for i in range(100)]


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
@pytest.mark.parametrize("codec", CODECS)
def test_kcat_writes_and_reads(bootstrap: str, topic: str, codec: str) -> None:
    ConfluentKafka().create(bootstrap, topic, 1)
    lines = b"".join(b"line %d\n" % i for i in range(50))
    # kcat's name for no compression is none as well.
    write = ["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", "0", "-z", codec]
    subprocess.run(write, input=lines, check=True, timeout=30)
    read = ["kcat", "-C", "-b", bootstrap, "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q"]
    assert subprocess.run(read, check=True, capture_output=True, timeout=30).stdout == lines


# --- reading in any order -------------------------------------------------------------------


def test_a_stock_consumer_goes_anywhere_and_back_again(bootstrap: str, topic: str) -> None:
    import confluent_kafka

    ConfluentKafka().create(bootstrap, topic, 1)
    records = some_records(100)
    ConfluentKafka().write(bootstrap, topic, records, codec="zstd", is_idempotent=True)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    )
    at = confluent_kafka.TopicPartition
    try:
        assert consumer.get_watermark_offsets(at(topic, 0), timeout=30) == (0, 100)
        [found] = consumer.offsets_for_times([at(topic, 0, records[40].timestamp - 1)], 30)
        assert found.offset == 40
        consumer.assign([at(topic, 0, 0)])
        for offset in (0, 90, 40, 99, 3):
            consumer.seek(at(topic, 0, offset))
            message = consumer.poll(30)
            assert message is not None
            assert (message.offset(), message.value()) == (offset, records[offset].value)
    finally:
        consumer.close()


def test_our_own_client_writes_and_reads_from_any_place(bootstrap: str, topic: str) -> None:
    ConfluentKafka().create(bootstrap, topic, 1)
    with Producer(over_tcp(bootstrap)) as producer:
        for i in range(200):
            producer.send(topic, b"%d" % i, b"k", timestamp_ms=1_700_000_000_000 + i)
    with Consumer(over_tcp(bootstrap)) as consumer:
        consumer.assign(topic)
        assert [c.record.offset for c in consumer.read_to_end()] == list(range(200))
        for place, first in (
            (From(Place.LAST, 10), 190),
            (From(Place.START), 0),
            (From(Place.TIME, 1_700_000_000_150), 150),
            (From(Place.OFFSET, 42), 42),
            (From(Place.END), 200),
        ):
            consumer.seek(TopicPartition(topic, 0), place)
            offsets = [c.record.offset for c in consumer.read_to_end()]
            assert offsets == list(range(first, 200))


# --- what goes through untouched, and what does not ------------------------------------------


def ask_leader(bootstrap: str, topic: str, request: Any, response: Any, version: int) -> Any:
    await_in_sync(bootstrap, topic, 1)
    with Connection(parse_bootstrap(bootstrap)[0]) as connection:
        about = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
        described = connection.ask(about, MetadataResponse)
    brokers = {broker.node_id: (broker.host, broker.port) for broker in described.brokers}
    with Connection(brokers[described.topics[0].partitions[0].leader_id]) as connection:
        return connection.ask(request, response, version)


def produce_raw(bootstrap: str, topic: str, batch: bytes | bytearray) -> int:
    """The error code of the answer."""
    request = ProduceRequest(
        acks=-1,
        timeout_ms=10_000,
        topic_data=[
            TopicProduceData(
                name=topic, partition_data=[PartitionProduceData(index=0, records=batch)]
            )
        ],
    )
    answer = ask_leader(bootstrap, topic, request, ProduceResponse, 9)
    return int(answer.responses[0].partition_responses[0].error_code)


def fetch_raw(bootstrap: str, topic: str) -> bytes:
    request = FetchRequest(
        max_wait_ms=1000,
        min_bytes=1,
        topics=[
            FetchTopic(
                topic=topic,
                partitions=[
                    FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 22)
                ],
            )
        ],
    )
    answer = ask_leader(bootstrap, topic, request, FetchResponse, 11)
    return bytes(answer.responses[0].partitions[0].records)


@pytest.mark.parametrize("codec", list(Compression), ids=lambda codec: codec.name)
def test_batches_pass_through_byte_for_byte(bootstrap: str, topic: str, codec: Compression) -> None:
    ConfluentKafka().create(bootstrap, topic, 1)
    now_ms = int(time.time() * 1000)
    records = [Record(b"value %d " % i * 50, b"k", timestamp=now_ms + i) for i in range(30)]
    batch = build_batch(records, compression=codec)
    assert produce_raw(bootstrap, topic, batch) == 0
    fetched = fetch_raw(bootstrap, topic)
    assert len(fetched) == len(batch)
    assert fetched[BEHIND_CRC:] == batch[BEHIND_CRC:]


def batch_of(size: int) -> bytearray:
    """One record, the whole batch exactly so many bytes."""
    room = size - 100
    while True:
        batch = build_batch([Record(b"x" * room, timestamp=int(time.time() * 1000))])
        if len(batch) == size:
            return batch
        room += size - len(batch)


def test_the_largest_batch_is_1048588_bytes(bootstrap: str, topic: str) -> None:
    ConfluentKafka().create(bootstrap, topic, 1)
    assert produce_raw(bootstrap, topic, batch_of(MAX_MESSAGE_BYTES)) == 0
    too_large = produce_raw(bootstrap, topic, batch_of(MAX_MESSAGE_BYTES + 1))
    assert too_large == ErrorCode.MESSAGE_TOO_LARGE


def test_a_stock_producer_is_told_that_its_record_is_too_large(bootstrap: str, topic: str) -> None:
    import confluent_kafka

    ConfluentKafka().create(bootstrap, topic, 1)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "message.max.bytes": 4_000_000}
    )
    errors: list[Any] = []
    producer.produce(topic, b"x" * 2_000_000, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert [error.code() for error in errors] == [confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE]


# --- what is not there yet -------------------------------------------------------------------


@pytest.mark.skipif("KCLUSTER_TEST_BOOTSTRAP" in os.environ, reason="others have transactions")
class TestTransactionsAreRefusedAtOnce:
    WITHIN_S = 5.0

    def test_confluent_kafka(self, bootstrap: str, topic: str) -> None:
        import confluent_kafka

        producer = confluent_kafka.Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": topic}
        )
        began = time.monotonic()
        with pytest.raises(confluent_kafka.KafkaException) as caught:
            producer.init_transactions(30)
        code = caught.value.args[0].code()
        assert code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert time.monotonic() - began < self.WITHIN_S

    def test_kafka_python(self, bootstrap: str, topic: str) -> None:
        from kafka import KafkaProducer
        from kafka.errors import TransactionalIdAuthorizationFailedError

        producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
        began = time.monotonic()
        try:
            with pytest.raises(TransactionalIdAuthorizationFailedError):
                producer.init_transactions()
        finally:
            producer.close(timeout=1)
        assert time.monotonic() - began < self.WITHIN_S

    def test_aiokafka(self, bootstrap: str, topic: str) -> None:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import TransactionalIdAuthorizationFailed

        async def start() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
            try:
                await producer.start()
            finally:
                await producer.stop()

        began = time.monotonic()
        with pytest.raises(TransactionalIdAuthorizationFailed):
            asyncio.run(start())
        assert time.monotonic() - began < self.WITHIN_S


# --- administration ----------------------------------------------------------------------------


def test_a_stock_admin_client_describes_alters_grows_and_deletes(
    bootstrap: str, topic: str
) -> None:
    from confluent_kafka.admin import (
        AdminClient,
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        NewPartitions,
    )

    ConfluentKafka().create(bootstrap, topic, 2)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    cluster = admin.describe_cluster(request_timeout=30).result(30)
    assert len(cluster.nodes) == 3

    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([change])[change].result(30)
    deadline = time.monotonic() + 10
    while True:
        configs = admin.describe_configs([resource])[resource].result(30)
        if configs["retention.ms"].value == "1000":
            break
        # Brokers hear of it a moment after the controller has decided.
        assert time.monotonic() < deadline, configs["retention.ms"].value
    assert configs["min.insync.replicas"].value

    admin.create_partitions([NewPartitions(topic, 5)], operation_timeout=15)[topic].result(30)
    assert len(admin.list_topics(topic, 30).topics[topic].partitions) == 5

    admin.delete_topics([topic], operation_timeout=15)[topic].result(30)
    assert topic not in admin.list_topics(timeout=30).topics


def test_a_deleted_and_recreated_topic_is_empty_and_has_another_id(
    bootstrap: str, topic: str
) -> None:
    from confluent_kafka.admin import AdminClient

    client = ConfluentKafka()
    admin = AdminClient({"bootstrap.servers": bootstrap})
    ids = []
    for _ in range(2):
        client.create(bootstrap, topic, 1)
        client.write(bootstrap, topic, some_records(3), codec="none", is_idempotent=True)
        assert len(client.read(bootstrap, topic, 3)) == 3
        with Connection(parse_bootstrap(bootstrap)[0]) as connection:
            about = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
            ids.append(connection.ask(about, MetadataResponse).topics[0].topic_id)
        admin.delete_topics([topic], operation_timeout=15)[topic].result(30)
    assert ids[0] != ids[1]
