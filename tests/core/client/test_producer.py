from __future__ import annotations

import random

import pytest

from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.partitioner import murmur2, partition_of_key
from kcluster.core.client.producer import Delivered, Failed, ProducerCore, ProducerSettings
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.compression import Compression
from tests.core.client.cluster_of_lists import ClusterOfLists


def producer(cluster: ClusterOfLists, **settings: object) -> ProducerCore:
    patience = Patience(topic_ms=500)
    return ProducerCore(Exchange([1, 2, 3], patience), ProducerSettings(**settings))


def finish(cluster: ClusterOfLists, core: ProducerCore, steps: int = 20_000) -> None:
    core.flush(cluster.now_ms)
    for _ in range(steps):
        if core.is_idle:
            return
        cluster.step(core)
    raise AssertionError("the producer never came to an end")


def send(cluster: ClusterOfLists, core: ProducerCore, value: bytes, **more: object) -> None:
    core.send("orders", value, timestamp_ms=1_000, now_ms=cluster.now_ms, **more)


def test_murmur2_is_javas() -> None:
    # From Kafka's own test, UtilsTest.testMurmur2.
    for data, signed in (
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ):
        assert murmur2(data) == signed & 0xFFFFFFFF


def test_records_of_one_key_share_a_partition_and_keep_their_order() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 3)
    core = producer(cluster)
    for i in range(300):
        send(cluster, core, b"%d" % i, key=b"user-%d" % (i % 7))
    finish(cluster, core)
    for key in (b"user-%d" % i for i in range(7)):
        log = cluster.logs[TopicPartition("orders", partition_of_key(key, 3))]
        values = [int(r.value) for r in log.records() if r.key == key]
        assert values == sorted(values)
        assert len(values) in (42, 43)


def test_records_without_key_go_round_all_partitions() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 3)
    core = producer(cluster, batch_bytes=400)
    for i in range(200):
        send(cluster, core, b"%d" % i)
    finish(cluster, core)
    counts = [len(log.records()) for log in cluster.logs.values()]
    assert sum(counts) == 200
    assert min(counts) > 30


@pytest.mark.parametrize("compression", list(Compression))
def test_everything_of_a_record_arrives(compression: Compression) -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster, compression=compression)
    send(cluster, core, b"v" * 500, key=b"k", headers=[("h", b"1"), ("n", None)], partition=0)
    finish(cluster, core)
    [record] = cluster.logs[TopicPartition("orders", 0)].records()
    assert (record.key, record.value, record.timestamp) == (b"k", b"v" * 500, 1000)
    assert list(record.headers) == [("h", b"1"), ("n", None)]
    assert core.events == [Delivered(TopicPartition("orders", 0), 0, 1)]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_lost_doubled_or_reordered_while_leaders_move_and_answers_are_lost(
    seed: int,
) -> None:
    cluster = ClusterOfLists(seed)
    cluster.create("orders", 2)
    cluster.loss = 0.15
    cluster.tells_leader = bool(seed % 2)
    core = producer(cluster, batch_bytes=300, linger_ms=1, delivery_ms=10_000_000)
    chance = random.Random(seed)
    for i in range(400):
        send(cluster, core, b"%d" % i, partition=i % 2)
        if chance.random() < 0.3:
            cluster.step(core)
        if chance.random() < 0.05:
            cluster.move_leaders()
    finish(cluster, core)
    assert not [event for event in core.events if isinstance(event, Failed)]
    for tp, log in cluster.logs.items():
        values = [int(record.value) for record in log.records()]
        assert values == list(range(tp.partition, 400, 2))


def test_a_killed_leader_is_followed_to_its_successor() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster)
    send(cluster, core, b"before")
    finish(cluster, core)
    cluster.kill(1)
    send(cluster, core, b"after")
    finish(cluster, core)
    assert [r.value for r in cluster.logs[TopicPartition("orders", 0)].records()] == [
        b"before",
        b"after",
    ]


def test_a_refusal_that_names_the_leader_is_followed_without_asking_for_metadata() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster)
    send(cluster, core, b"1")
    finish(cluster, core)
    cluster.move_leaders()
    cluster.asked.clear()
    send(cluster, core, b"2")
    finish(cluster, core)
    assert [type(each.request).__name__ for each in cluster.asked] == ["ProduceRequest"] * 2


def test_too_few_replicas_are_waited_for() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    cluster.refusals = [ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT] * 3
    core = producer(cluster)
    send(cluster, core, b"1")
    finish(cluster, core)
    assert isinstance(core.events[0], Delivered)


def test_after_a_final_refusal_the_next_batch_comes_from_a_new_producer() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    cluster.refusals = [ErrorCode.MESSAGE_TOO_LARGE]
    core = producer(cluster)
    send(cluster, core, b"large")
    finish(cluster, core)
    [failed] = core.events
    assert isinstance(failed, Failed)
    assert failed.code == ErrorCode.MESSAGE_TOO_LARGE
    send(cluster, core, b"small")
    finish(cluster, core)
    assert [r.value for r in cluster.logs[TopicPartition("orders", 0)].records()] == [b"small"]


def test_what_cannot_be_delivered_in_time_fails() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    cluster.refusals = [ErrorCode.NOT_ENOUGH_REPLICAS] * 100_000
    core = producer(cluster, delivery_ms=1000)
    send(cluster, core, b"1")
    finish(cluster, core)
    assert [event.code for event in core.events if isinstance(event, Failed)] == [
        ErrorCode.REQUEST_TIMED_OUT
    ]
    assert cluster.now_ms < 2000


def test_a_topic_that_is_not_there_is_reported() -> None:
    cluster = ClusterOfLists()
    core = producer(cluster)
    send(cluster, core, b"1")
    finish(cluster, core)
    [failed] = core.events
    assert isinstance(failed, Failed)
    assert failed.code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_partition_that_is_not_there_is_reported() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 2)
    core = producer(cluster)
    send(cluster, core, b"1", partition=5)
    finish(cluster, core)
    assert core.events == [
        Failed(
            "orders",
            5,
            1,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            "topic orders has partitions 0 to 1",
        )
    ]


def test_without_acknowledgement_nothing_is_waited_for() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster, acks=0)
    send(cluster, core, b"1")
    finish(cluster, core)
    assert core.events == [Delivered(TopicPartition("orders", 0), -1, 1)]


def test_without_acknowledgement_a_flush_ends_when_the_broker_has_read_what_was_sent() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 2)
    core = producer(cluster, acks=0)
    for partition in (0, 1):
        send(cluster, core, b"1", partition=partition)
    core.flush(0)
    while core.buffered_bytes:
        cluster.step(core)
    assert not core.is_idle  # nothing has left yet
    finish(cluster, core)
    assert [len(log.records()) for log in cluster.logs.values()] == [1, 1]


@pytest.mark.parametrize("is_dead", [False, True], ids=["moved", "dead"])
def test_without_acknowledgement_a_new_leader_is_found_all_the_same(is_dead: bool) -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster, acks=0)
    send(cluster, core, b"before")
    finish(cluster, core)
    cluster.carry(core.exchange)
    cluster.kill(1) if is_dead else cluster.move_leaders()
    for _ in range(200):
        cluster.now_ms += 10
        send(cluster, core, b"after")
        finish(cluster, core)
        core.tick(cluster.now_ms)
        while core.exchange.outgoing:
            cluster.carry(core.exchange)
    [log] = cluster.logs.values()
    assert len(log.records()) > 100


def test_the_buffer_says_when_it_is_full() -> None:
    cluster = ClusterOfLists()
    cluster.create("orders", 1)
    core = producer(cluster, buffer_bytes=1000)
    while not core.is_full:
        send(cluster, core, b"x" * 100)
    assert 1000 <= core.buffered_bytes < 1200
    finish(cluster, core)
    assert not core.is_full
