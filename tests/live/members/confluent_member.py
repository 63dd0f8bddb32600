"""A member by confluent-kafka (librdkafka). It does not tell generations."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.live.members.lines import POLL_MS, RECORDS_MAX, Member, options, say, until_told


def main() -> None:
    given = options()
    told = until_told()
    member = Member()
    config = {
        "bootstrap.servers": given.bootstrap,
        "group.id": given.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "error_cb": lambda error: say("error", error=str(error)),
        "log_level": 0,
    }
    if given.protocol == "consumer":
        # Sessions and heartbeats are what the broker says.
        config |= {"group.protocol": "consumer", "group.remote.assignor": given.strategy}
    else:
        config |= {
            "partition.assignment.strategy": given.strategy,
            **given.times("session.timeout.ms", "heartbeat.interval.ms"),
        }
    if given.instance:
        config["group.instance.id"] = given.instance
    consumer = Consumer(config)
    batch: list[Message] = []

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        member.assigned(each.partition for each in partitions)

    def gone(partitions: list[TopicPartition], event: str) -> None:
        # A batch is gathered in two calls: what was taken before its partition went is not ours.
        went = {each.partition for each in partitions}
        batch[:] = [message for message in batch if message.partition() not in went]
        member.revoked(went, event)

    say("started")
    consumer.subscribe(
        [given.topic],
        on_assign=assigned,
        on_revoke=lambda _, partitions: gone(partitions, "revoked"),
        on_lost=lambda _, partitions: gone(partitions, "lost"),
    )
    while not told.is_set():
        batch.clear()
        # `consume` alone would wait for a full batch.
        first = consumer.poll(POLL_MS / 1000)
        if first is not None:
            batch.append(first)
            batch.extend(consumer.consume(RECORDS_MAX - 1, 0))
        for message in batch:
            if (error := message.error()) and error.code() != KafkaError._PARTITION_EOF:
                say("error", error=str(error))
        member.records([(m.partition(), m.offset()) for m in batch if m.error() is None])
        if member.due:
            commit(consumer, member, given.topic)
    say("leaving")
    consumer.close()
    say("stopped")


def commit(consumer: Consumer, member: Member, topic: str) -> None:
    offsets = dict(member.due)
    began_ns = time.monotonic_ns()
    wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    try:
        done = consumer.commit(offsets=wanted, asynchronous=False)
    except KafkaException as error:
        member.commit_failed(offsets, error)
        return
    refused = {each.partition: each.error for each in done if each.error is not None}
    if refused:
        member.commit_failed(
            {partition: offsets[partition] for partition in refused},
            KafkaException(next(iter(refused.values()))),
        )
    accepted = {partition: at for partition, at in offsets.items() if partition not in refused}
    if accepted:
        member.committed(accepted, began_ns)


if __name__ == "__main__":
    main()
