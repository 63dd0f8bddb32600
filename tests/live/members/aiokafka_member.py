"""A member by aiokafka."""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from tests.live.members.lines import (
    COMMIT_MS,
    POLL_MS,
    RECORDS_MAX,
    Member,
    options,
    say,
    until_told,
)

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: AIOKafkaConsumer, member: Member) -> None:
        self.consumer = consumer
        self.member = member

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        # It has no public name for it.
        generation = self.consumer._coordinator.generation
        self.member.assigned((each.partition for each in assigned), generation)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.member.revoked(each.partition for each in revoked)


async def run() -> None:
    given = options()
    told = until_told()
    member = Member()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=given.bootstrap,
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
    await consumer.start()
    while not told.is_set():
        try:
            polled = await consumer.getmany(timeout_ms=POLL_MS)
        except KafkaError as error:
            say("error", error=repr(error)[:200])
            continue
        member.records([(r.partition, r.offset) for records in polled.values() for r in records])
        if member.due:
            await commit(consumer, member, given.topic)
    say("leaving")
    await consumer.stop()
    say("stopped")


async def commit(consumer: AIOKafkaConsumer, member: Member, topic: str) -> None:
    offsets = dict(member.due)
    began_ns = time.monotonic_ns()
    wanted = {TopicPartition(topic, partition): at for partition, at in offsets.items()}
    try:
        await asyncio.wait_for(consumer.commit(wanted), COMMIT_MS / 1000)
    except (KafkaError, TimeoutError) as error:
        member.commit_failed(offsets, error)
    else:
        member.committed(offsets, began_ns)


if __name__ == "__main__":
    asyncio.run(run())
