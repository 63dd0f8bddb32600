"""A member by kcluster's own client, over TCP. It does not tell generations."""

from __future__ import annotations

import time

from kcluster.client import ApiError, Consumer, MembershipSettings, TopicPartition
from tests.live.members.lines import (
    COMMIT_MS,
    POLL_MS,
    RECORDS_MAX,
    Member,
    Options,
    options,
    say,
    until_told,
)


def main() -> None:
    given = options()
    told = until_told()
    member = Member()

    def revoked(partitions: list[TopicPartition], event: str = "revoked") -> None:
        member.revoked((each.partition for each in partitions), event)

    consumer = Consumer(
        given.bootstrap,
        given.topic,
        group=given.group,
        group_protocol=given.protocol,
        auto_commit=False,
        membership=membership(given),
        on_assigned=lambda partitions: member.assigned(each.partition for each in partitions),
        on_revoked=revoked,
        on_lost=lambda partitions: revoked(partitions, "lost"),
    )
    say("started")
    while not told.is_set():
        try:
            polled = consumer.poll(POLL_MS, RECORDS_MAX)
        except ApiError as error:
            say("error", error=str(error)[:200])
            continue
        member.records([(record.tp.partition, record.offset) for record in polled])
        if member.due:
            commit(consumer, member, given.topic)
    say("leaving")
    consumer.close()
    say("stopped")


def membership(given: Options) -> MembershipSettings:
    own = {} if given.instance is None else {"instance_id": given.instance}
    if given.protocol == "consumer":
        # Sessions and heartbeats are what the broker says.
        return MembershipSettings(server_assignor=given.strategy, **own)
    return MembershipSettings(
        assignor=given.strategy, **own, **given.times("session_ms", "heartbeat_ms")
    )


def commit(consumer: Consumer, member: Member, topic: str) -> None:
    offsets = dict(member.due)
    began_ns = time.monotonic_ns()
    wanted = {TopicPartition(topic, partition): at for partition, at in offsets.items()}
    try:
        consumer.commit(wanted, COMMIT_MS / 1000)
    except ApiError as error:
        member.commit_failed(offsets, error)
    else:
        member.committed(offsets, began_ns)


if __name__ == "__main__":
    main()
