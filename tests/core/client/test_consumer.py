from __future__ import annotations

import pytest

from kcluster.core.client.consumer import ConsumerCore, ConsumerSettings, From, Place
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.records import Record
from tests.core.client.cluster_of_lists import ClusterOfLists

TP = TopicPartition("orders", 0)


def filled(partitions: int = 1, batches: int = 10, seed: int = 0) -> ClusterOfLists:
    """Each batch holds three records; timestamps are 100 for each offset."""
    cluster = ClusterOfLists(seed)
    cluster.create("orders", partitions)
    for log in cluster.logs.values():
        for _ in range(batches):
            first = log.end_offset
            log.add(*(Record(b"%d" % i, timestamp=i * 100) for i in range(first, first + 3)))
    return cluster


def consumer(**settings: int) -> ConsumerCore:
    return ConsumerCore(Exchange([1, 2, 3], Patience(topic_ms=500)), ConsumerSettings(**settings))


def read(cluster: ClusterOfLists, core: ConsumerCore, steps: int = 2000) -> list[int]:
    """Offsets in the order of reading, up to the end of what is there."""
    out: list[int] = []
    for _ in range(steps):
        cluster.step(core)
        out += [consumed.record.offset for consumed in core.take()]
        if core.problems or core.is_at_end():
            return out + [consumed.record.offset for consumed in core.take()]
    raise AssertionError("the consumer never came to the end")


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (From(), 0),
        (From(Place.END), 30),
        (From(Place.OFFSET, 7), 7),
        (From(Place.OFFSET, 30), 30),
        (From(Place.LAST, 4), 26),
        (From(Place.LAST, 100), 0),
        (From(Place.TIME, 1450), 15),
        (From(Place.TIME, 99_999), 30),
    ],
)
def test_reading_begins_where_it_is_told(start: From, first: int) -> None:
    cluster = filled()
    core = consumer()
    core.assign("orders", None, start, 0)
    assert read(cluster, core) == list(range(first, 30))


def test_reading_goes_anywhere_and_back_again() -> None:
    cluster = filled()
    core = consumer()
    core.assign("orders", None, From(Place.END), 0)
    assert read(cluster, core) == []
    for start, first in (
        (From(Place.START), 0),
        (From(Place.TIME, 2000), 20),
        (From(Place.OFFSET, 3), 3),
        (From(Place.LAST, 1), 29),
        (From(Place.OFFSET, 12), 12),
    ):
        core.seek(TP, start, cluster.now_ms)
        assert read(cluster, core) == list(range(first, 30))


def test_what_was_read_before_a_seek_is_dropped() -> None:
    cluster = filled()
    core = consumer()
    core.assign("orders", None, From(), 0)
    for _ in range(5):
        cluster.step(core)
    core.seek(TP, From(Place.OFFSET, 28), cluster.now_ms)
    assert core.take() == []
    assert read(cluster, core) == [28, 29]


@pytest.mark.parametrize("seed", range(10))
def test_every_record_comes_once_and_in_order_while_leaders_move(seed: int) -> None:
    cluster = filled(partitions=3, batches=40, seed=seed)
    cluster.loss = 0.1
    core = consumer()
    core.assign("orders", None, From(), 0)
    got: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(5000):
        if step % 17 == 0:
            cluster.move_leaders()
        cluster.step(core)
        for consumed in core.take():
            got[consumed.tp.partition].append(consumed.record.offset)
        if core.is_at_end():
            break
    assert got == {partition: list(range(120)) for partition in range(3)}


def test_only_the_partitions_asked_for_are_read() -> None:
    cluster = filled(partitions=3)
    core = consumer()
    core.assign("orders", [2], From(), 0)
    assert read(cluster, core) == list(range(30))
    assert set(core.positions()) == {TopicPartition("orders", 2)}


def test_a_full_buffer_stops_the_fetching_until_records_are_taken() -> None:
    cluster = filled(batches=100)
    core = consumer(buffer_records=10)
    core.assign("orders", None, From(), 0)
    for _ in range(50):
        cluster.step(core)
    assert core.positions()[TP] == 12
    assert len(core.take(5)) == 5
    assert read(cluster, core) == list(range(5, 300))


def test_an_offset_that_is_not_there_is_reported() -> None:
    cluster = filled()
    core = consumer()
    core.assign("orders", None, From(Place.OFFSET, 31), 0)
    read(cluster, core)
    [(tp, error)] = core.problems
    assert tp == TP
    assert error.code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert "holds 0 to 29" in str(error)


def test_reading_goes_on_at_the_new_start_when_retention_overtakes_it() -> None:
    cluster = filled()
    core = consumer(buffer_records=3)
    core.assign("orders", None, From(), 0)
    for _ in range(10):
        cluster.step(core)
    assert [consumed.record.offset for consumed in core.take()] == [0, 1, 2]
    log = cluster.logs[TP]
    log.log_start_offset = 15
    log.batches = log.batches[5:]
    assert read(cluster, core) == list(range(15, 30))


def test_damaged_bytes_are_reported_and_not_read() -> None:
    cluster = filled()
    cluster.logs[TP].batches[1][-1] ^= 1
    core = consumer()
    core.assign("orders", None, From(), 0)
    assert read(cluster, core) == [0, 1, 2]
    [(_, error)] = core.problems
    assert error.code == ErrorCode.CORRUPT_MESSAGE


def test_missing_topics_and_partitions_are_reported() -> None:
    cluster = filled()
    core = consumer()
    core.assign("nothing", None, From(), 0)
    core.assign("orders", [0, 9], From(), 0)
    for _ in range(200):
        cluster.step(core)
    problems = {tp: error.code for tp, error in core.problems}
    assert problems == {
        None: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        TopicPartition("orders", 9): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
