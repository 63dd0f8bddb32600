"""Members of groups: the same over ZeroMQ, over TCP, and with Apache Kafka."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kcluster.client import (
    ApiError,
    Consumed,
    Consumer,
    ErrorCode,
    From,
    MembershipSettings,
    Place,
    Producer,
    TopicPartition,
)
from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from tests.live.client_suite.conftest import Way, wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def fill(way: Way, topic: str, count: int) -> None:
    partitions = len(way.admin.topics([topic])[0].partitions)
    with Producer(**way.where) as producer:
        for number in range(count):
            producer.send(topic, b"%d" % number, partition=number % partitions)


def read(consumer: Consumer, count: int) -> list[Consumed]:
    found: list[Consumed] = []

    def has_all() -> bool:
        found.extend(consumer.poll(100, limit=count - len(found)))
        return len(found) >= count

    wait_until(has_all, f"{count} records")
    return found


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_goes_on_where_it_was(way: Way, protocol: str) -> None:
    if protocol == "consumer":
        way.wants(68)
    topic = way.topic()
    group = f"goes-on-{topic}"
    fill(way, topic, 30)
    with Consumer(topics=topic, group=group, group_protocol=protocol, **way.where) as consumer:
        assert [each.offset for each in read(consumer, 10)] == list(range(10))
    # What was polled last counts as done when it is closed.
    with Consumer(topics=topic, group=group, group_protocol=protocol, **way.where) as consumer:
        assert [each.offset for each in read(consumer, 20)] == list(range(10, 30))
        consumer.commit()
        assert consumer.committed() == {TopicPartition(topic, 0): 30}
    assert way.admin.committed(group) == {TopicPartition(topic, 0): 30}
    way.admin.delete_group(group)


def test_without_auto_commit_only_what_is_done_counts(way: Way) -> None:
    topic = way.topic()
    group, tp = f"done-{topic}", TopicPartition(topic, 0)
    fill(way, topic, 30)
    with Consumer(topics=topic, group=group, auto_commit=False, **way.where) as consumer:
        taken = read(consumer, 20)
        consumer.done(taken[:5])
    assert way.admin.committed(group) == {tp: 5}
    with Consumer(topics=topic, group=group, auto_commit=False, **way.where) as consumer:
        assert read(consumer, 10)[0].offset == 5
        consumer.commit({tp: 3})
        assert consumer.committed([tp]) == {tp: 3}
        consumer.commit()
        assert consumer.committed([tp]) == {tp: 15}
        consumer.seek(tp, From(Place.OFFSET, 1))
        assert [each.offset for each in read(consumer, 3)] == [1, 2, 3]
        consumer.commit()
        assert consumer.committed([tp]) == {tp: 4}
        with pytest.raises(ApiError) as refused:
            consumer.commit({TopicPartition(topic, 7): 1})
        assert refused.value.code is ErrorCode.ILLEGAL_GENERATION
    way.admin.delete_group(group)


KINDS = [
    ("classic", MembershipSettings(assignor=RANGE)),
    ("classic", MembershipSettings(assignor=COOPERATIVE_STICKY)),
    ("consumer", MembershipSettings(server_assignor="uniform")),
    ("consumer", MembershipSettings(server_assignor="range")),
]


@pytest.mark.parametrize(
    ("protocol", "membership"), KINDS, ids=["range", "cooperative", "uniform", "server-range"]
)
def test_members_share_what_there_is_and_hear_of_it(
    way: Way, protocol: str, membership: MembershipSettings
) -> None:
    if protocol == "consumer":
        way.wants(68)
    topic = way.topic(partitions=4)
    group = f"share-{topic}"
    fill(way, topic, 400)
    held: dict[str, set[TopicPartition]] = {"a": set(), "b": set()}
    seen: list[tuple[int, int]] = []

    def member(name: str) -> Consumer:
        consumer: Consumer

        def revoked(partitions: list[TopicPartition]) -> None:
            held[name].difference_update(partitions)
            consumer.commit()  # what was polled can still be committed

        consumer = Consumer(
            topics=[topic],
            group=group,
            auto_commit=False,
            on_assigned=held[name].update,
            on_revoked=revoked,
            group_protocol=protocol,
            membership=membership,
            **way.where,
        )
        return consumer

    members = [member("a")]

    def poll_until(is_so: Callable[[], bool], what: str) -> None:
        def look() -> bool:
            for each in members:
                seen.extend((r.partition, r.offset) for r in each.poll(20, limit=10))
            return is_so()

        wait_until(look, what)

    try:
        poll_until(lambda: len(held["a"]) == 4, "one has all")
        members.append(member("b"))
        poll_until(lambda: [len(held["a"]), len(held["b"])] == [2, 2], "they share")
        assert not held["a"] & held["b"]
        [listed] = [each for each in way.admin.groups() if each.group == group]
        assert listed.type in ("", protocol)
        if protocol == "classic":
            found = way.admin.describe_group(group)
            assert (found.state, len(found.members)) == ("Stable", 2)
            assert sorted(tp for each in found.members for tp in each.partitions) == sorted(
                held["a"] | held["b"]
            )
        with pytest.raises(ApiError) as refused:
            way.admin.delete_group(group)
        assert refused.value.code is ErrorCode.NON_EMPTY_GROUP
        members.pop().close()
        poll_until(lambda: len(held["a"]) == 4, "the rest has all again")
        poll_until(lambda: len(set(seen)) == 400, "everything is read")
    finally:
        for each in members:
            each.close()
    # What was revoked had been committed: nothing came again.
    assert len(seen) == 400
    way.admin.delete_group(group)


def test_groups_are_listed_described_moved_and_deleted(way: Way) -> None:
    topic = way.topic(partitions=2)
    group = f"listed-{topic}"
    tps = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    way.admin.commit(group, {tps[0]: 3, tps[1]: 4})
    [listed] = [each for each in way.admin.groups() if each.group == group]
    assert (listed.state, listed.coordinator) == ("Empty", way.admin.coordinator(group))
    assert way.admin.committed(group) == {tps[0]: 3, tps[1]: 4}
    assert way.admin.committed(group, [tps[1]]) == {tps[1]: 4}
    way.admin.delete_offsets(group, [tps[0]])
    assert way.admin.committed(group) == {tps[1]: 4}
    way.admin.delete_group(group)
    assert group not in [each.group for each in way.admin.groups()]
    with pytest.raises(ApiError) as gone:
        way.admin.delete_group(group)
    assert gone.value.code is ErrorCode.GROUP_ID_NOT_FOUND
    assert way.admin.describe_group(group).state == "Dead"


def test_stock_members_and_ours_are_one_group(way: Way) -> None:
    import confluent_kafka

    topic = way.topic(partitions=4)
    group = f"mixed-{topic}"
    stock = confluent_kafka.Consumer(
        {
            "bootstrap.servers": way.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": RANGE,
        }
    )
    stock.subscribe([topic])
    ours = Consumer(topics=topic, group=group, **way.where)
    try:

        def share() -> bool:
            stock.poll(0.02)
            ours.poll(20)
            return [len(stock.assignment()), len(ours.assignment)] == [2, 2]

        wait_until(share, "they share")
    finally:
        stock.close()
        ours.close()
    way.admin.delete_group(group)
