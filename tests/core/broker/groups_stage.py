"""Brokers with a dictated `__consumer_offsets`, and the requests that groups are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.model import OFFSETS_TOPIC, TopicId, TopicPartition
from kcluster.wire.apis import APIS
from kcluster.wire.consumer_protocol import Subscription, encode_subscription
from kcluster.wire.message import Message
from kcluster.wire.messages.delete_groups import DeleteGroupsRequest
from kcluster.wire.messages.describe_groups import DescribeGroupsRequest
from kcluster.wire.messages.heartbeat import HeartbeatRequest
from kcluster.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kcluster.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kcluster.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kcluster.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kcluster.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from kcluster.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.core.broker.stage import TOPIC_ID, Stage

OFFSETS_ID = bytes(range(16, 32))
OFFSETS = TopicPartition(OFFSETS_TOPIC, 0)


def versions(key: int) -> list[int]:
    served = APIS[key].versions
    return list(range(served.low, served.high + 1))


class Groups:
    """Brokers with `orders` of two partitions, and one partition of `__consumer_offsets`."""

    def __init__(self, brokers: int = 1, *, leader: int = 1, **settings: str) -> None:
        self.stage = Stage(brokers, **settings)
        self.replicas = list(range(1, brokers + 1))
        self.epoch = 0
        self.partition_epoch = 0
        self.numbers = count(1)
        self.stage.dictate(
            r.TopicCreated("orders", TOPIC_ID),
            *[
                r.PartitionChanged(TOPIC_ID, index, self.replicas, self.replicas, 1, 0, 0)
                for index in range(2)
            ],
            r.TopicCreated(OFFSETS_TOPIC, OFFSETS_ID),
        )
        self.lead(leader)

    def lead(
        self, leader: int, *, isr: Sequence[int] = (), to: Sequence[int] | None = None
    ) -> Groups:
        """A new leader of the offsets, of a new epoch; all have passed on what they had to say."""
        self.state(leader, self.epoch, isr=isr, to=to)
        self.epoch += 1
        self.settle()
        return self

    def state(
        self, leader: int, epoch: int, *, isr: Sequence[int] = (), to: Sequence[int] | None = None
    ) -> None:
        self.stage.dictate(
            r.PartitionChanged(
                OFFSETS_ID,
                0,
                self.replicas,
                list(isr) or self.replicas,
                leader,
                epoch,
                self.partition_epoch,
            ),
            to=to,
        )
        self.partition_epoch += 1

    def settle(self) -> None:
        self.stage.deliver()
        self.stage.wait(1)
        self.stage.deliver()

    def say(
        self, request: Message, version: int, *, to: int = 1, connection: int | None = None
    ) -> int:
        """Without waiting; the connection."""
        number = next(self.numbers)
        connection = connection or number
        self.stage[to].asks(request, version, connection, number)
        return connection

    def ask(self, request: Message, version: int, *, to: int = 1) -> Any:
        """The answer, once what it needs has gone through all brokers."""
        assert self.stage[to].answers() == []
        self.say(request, version, to=to)
        answers = self.stage[to].answers()
        if not answers:
            self.settle()
            answers = self.stage[to].answers()
        [answer] = answers
        return answer

    def shard(self, id: int = 1) -> Any:
        coordinator = self.stage[id].core.groups.coordinator
        return coordinator.shards.get(0) if coordinator is not None else None

    def offset(self, *, to: int = 1) -> int:
        answer = self.ask(fetch(9), 9, to=to)
        [group] = answer.groups
        assert not group.error_code, ErrorCode(group.error_code)
        return int(group.topics[0].partitions[0].committed_offset)


# --- requests -----------------------------------------------------------------------------


def join(member_id: str = "", group: str = "g", **more: Any) -> JoinGroupRequest:
    metadata = encode_subscription(Subscription(["orders"], []))
    fields = {
        "group_id": group,
        "session_timeout_ms": 10_000,
        "rebalance_timeout_ms": 10_000,
        "member_id": member_id,
        "protocol_type": "consumer",
        "protocols": [JoinGroupRequestProtocol(name="range", metadata=metadata)],
        **more,
    }
    return JoinGroupRequest(**fields)


def sync(member_id: str, generation: int = 1, version: int = 5, **more: Any) -> SyncGroupRequest:
    request = SyncGroupRequest(group_id="g", generation_id=generation, member_id=member_id, **more)
    if version >= 5:
        request.protocol_type, request.protocol_name = "consumer", "range"
    return request


def commit(version: int = 9, offset: int = 5, **more: Any) -> OffsetCommitRequest:
    topic = OffsetCommitRequestTopic(
        partitions=[
            OffsetCommitRequestPartition(
                partition_index=0, committed_offset=offset, committed_metadata="note"
            )
        ]
    )
    if version >= 10:
        topic.topic_id = TopicId(TOPIC_ID)
    else:
        topic.name = "orders"
    return OffsetCommitRequest(**{"group_id": "g", "topics": [topic], **more})


def fetch(version: int, group: str = "g", indexes: Sequence[int] = (0,)) -> OffsetFetchRequest:
    if version < 8:
        old = OffsetFetchRequestTopic(name="orders", partition_indexes=list(indexes))
        return OffsetFetchRequest(group_id=group, topics=[old])
    topic = OffsetFetchRequestTopics(partition_indexes=list(indexes))
    if version >= 10:
        topic.topic_id = TopicId(TOPIC_ID)
    else:
        topic.name = "orders"
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[topic])])


def delete(name: str = "orders", *indexes: int) -> OffsetDeleteRequest:
    partitions = [OffsetDeleteRequestPartition(partition_index=each) for each in indexes or (0,)]
    topic = OffsetDeleteRequestTopic(name=name, partitions=partitions)
    return OffsetDeleteRequest(group_id="g", topics=[topic])


def member(groups: Groups, *, to: int = 1, assigned: bytes = b"mine") -> str:
    """One member of a stable group; its id."""
    joined = groups.ask(join(), 3, to=to)
    assert not joined.error_code
    given = [SyncGroupRequestAssignment(member_id=joined.member_id, assignment=assigned)]
    synced = groups.ask(sync(joined.member_id, joined.generation_id, assignments=given), 5, to=to)
    assert (synced.error_code, synced.assignment) == (0, assigned)
    return str(joined.member_id)


def everything() -> list[tuple[Message, int]]:
    """One question of each kind about the group, that names nobody else."""
    return [
        (join(), 9),
        (sync("who"), 5),
        (HeartbeatRequest(group_id="g", member_id="who"), 4),
        (LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id="who")]), 5),
        (commit(), 9),
        (fetch(9), 9),
        (fetch(2), 2),
        (fetch(1), 1),
        (delete(), 0),
        (DescribeGroupsRequest(groups=["g"]), 6),
        (DeleteGroupsRequest(groups_names=["g"]), 2),
    ]


def errors_of(answer: Any) -> set[int]:
    """All that are not 0, at whatever level."""
    found = {int(getattr(answer, "error_code", 0))} - {0}
    for name in ("groups", "topics", "partitions", "members", "results"):
        for part in getattr(answer, name, None) or ():
            found |= errors_of(part)
    return found
