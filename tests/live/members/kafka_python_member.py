"""A member by kafka-python."""

from __future__ import annotations

import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from tests.live.members.lines import (
    COMMIT_MS,
    RECORDS_MAX,
    Member,
    options,
    say,
    until_told,
)

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

POLL_MS = 2_000
"""Longer than a rebalance takes. A leader of kafka-python 3.0.12 that joins again because it has
heard of partitions forgets, once it has assigned them, that it is joining: if poll() times out
before the answer to its SyncGroup comes, none looks at that answer (`need_rejoin` is False with
`_join_task` in flight), it owns nothing, sends no heartbeat, and its session runs out."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: KafkaConsumer, member: Member) -> None:
        self.consumer = consumer
        self.member = member

    def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        generation = self.consumer.group_metadata().generation_id
        self.member.assigned((each.partition for each in assigned), generation)

    def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        self.member.revoked(each.partition for each in revoked)

    def on_partitions_lost(self, lost: list[TopicPartition]) -> None:
        self.member.revoked((each.partition for each in lost), "lost")


def main() -> None:
    given = options()
    told = until_told()
    member = Member()
    consumer = KafkaConsumer(
        bootstrap_servers=given.bootstrap.split(","),
        group_id=given.group,
        group_instance_id=given.instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[STRATEGIES[given.strategy]],
        max_poll_records=RECORDS_MAX,
        **given.times("session_timeout_ms", "heartbeat_interval_ms"),
    )
    say("started")
    consumer.subscribe([given.topic], listener=Listener(consumer, member))
    while not told.is_set():
        try:
            polled = consumer.poll(timeout_ms=POLL_MS)
        except KafkaError as error:
            say("error", error=repr(error)[:200])
            continue
        member.records([(r.partition, r.offset) for records in polled.values() for r in records])
        if member.due:
            commit(consumer, member, given.topic)
    say("leaving")
    consumer.close()
    say("stopped")


def commit(consumer: KafkaConsumer, member: Member, topic: str) -> None:
    offsets = dict(member.due)
    began_ns = time.monotonic_ns()
    try:
        consumer.commit(
            {TopicPartition(topic, p): OffsetAndMetadata(at, "", -1) for p, at in offsets.items()},
            timeout_ms=COMMIT_MS,
        )
    except KafkaError as error:
        member.commit_failed(offsets, error)
    else:
        member.committed(offsets, began_ns)


if __name__ == "__main__":
    main()
