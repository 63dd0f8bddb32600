"""Who watches a broker is told all of it once, and then what has changed."""

from __future__ import annotations

from kcluster.core.metadata import records as r
from kcluster.core.watchers import WATCHERS_MAX
from kcluster.wire import telling
from tests.core.broker.stage import TOPIC_ID, TP, Member, Stage, batch, fetch, produce

WATCHER = -3


def watched() -> tuple[Stage, Member]:
    stage = Stage(1)
    stage.create([1])
    stage[1].hears(WATCHER, telling.Watch(7))
    return stage, stage[1]


def told(member: Member) -> list[telling.Replicas]:
    return member.heard(telling.Replicas)


def test_all_is_told_at_once_and_then_only_what_changed() -> None:
    stage, broker = watched()
    (first,) = told(broker)
    assert (first.request, first.told) == (7, 0)
    assert [(own.topic, own.partition, own.log_end_offset) for own in first.replicas] == [(*TP, 0)]
    stage.wait(260)
    told(broker)  # what it knew before anybody watched
    stage.wait(1000)
    assert told(broker) == []
    broker.asks(produce(b"a", b"b", acks=1), 9)
    stage.wait(260)
    (second,) = told(broker)
    assert second.told == 2
    assert [own.log_end_offset for own in second.replicas] == [2]


def test_traffic_is_counted_by_topic_and_outlives_it() -> None:
    stage, broker = watched()
    size = len(batch(b"a", b"b"))
    broker.asks(produce(b"a", b"b", acks=1), 9)
    broker.asks(fetch(0), 12)
    stage.wait(260)
    counters = told(broker)[-1].counters
    assert counters is not None
    assert counters.topics == {"orders": telling.Traffic(size, size, 2)}
    stage.dictate(r.TopicDeleted(TOPIC_ID))
    stage.wait(260)
    after = told(broker)[-1]
    assert after.gone == [TP]
    assert after.counters == telling.Counters(telling.Traffic(size, size, 2))


def test_a_lease_ends_unless_it_is_asked_for_again_under_the_same_number() -> None:
    stage, broker = watched()
    stage.wait(8_000)
    broker.hears(WATCHER, telling.Watch(7))
    stage.wait(8_000)
    told(broker)
    broker.asks(produce(b"a", acks=1), 9)
    stage.wait(260)
    assert len(told(broker)) == 1
    stage.wait(10_000)
    broker.asks(produce(b"a", acks=1), 9)
    stage.wait(1_000)
    assert told(broker) == []


def test_who_asks_under_a_new_number_begins_anew() -> None:
    stage, broker = watched()
    stage.wait(260)
    told(broker)
    broker.hears(WATCHER, telling.Watch(8))
    (again,) = told(broker)
    assert (again.request, again.told, len(again.replicas)) == (8, 0, 1)


def test_no_more_than_a_bounded_number_watch() -> None:
    _, broker = watched()
    for source in range(WATCHER - WATCHERS_MAX + 1, WATCHER):
        broker.hears(source, telling.Watch(1))
    assert len(told(broker)) == WATCHERS_MAX
    broker.hears(WATCHER - WATCHERS_MAX, telling.Watch(1))
    assert told(broker) == []
