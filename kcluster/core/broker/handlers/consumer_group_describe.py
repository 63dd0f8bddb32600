"""ConsumerGroupDescribe (key 69): state, epochs and members of groups of the consumer protocol.

Versions 0-1: 1 tells which protocol a member speaks (KIP-1099). A classic group is
GROUP_ID_NOT_FOUND here, as in Kafka: DescribeGroups tells of it. Answered when what it tells is
committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kcluster.core.broker.handlers import operations
from kcluster.core.broker.handlers.gathering import Gathering
from kcluster.core.groups.consumer.records import by_topic
from kcluster.errors import ErrorCode
from kcluster.wire.messages.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.consumer.group import ConsumerGroup
    from kcluster.core.groups.consumer.member import Part
    from kcluster.core.groups.shard import Shard
    from kcluster.core.metadata.image import ClusterImage
    from kcluster.core.turn import Turn

CLASSIC_MEMBER = 0
CONSUMER_MEMBER = 1


def handle(
    broker: BrokerCore, call: Call, request: ConsumerGroupDescribeRequest, turn: Turn
) -> None:
    def respond(later: Turn, described: list[DescribedGroup]) -> None:
        call.answer(later, ConsumerGroupDescribeResponse(groups=described))

    gathering = Gathering(turn, len(request.group_ids), respond)
    for index, group_id in enumerate(request.group_ids):
        _find(broker, group_id, request.include_authorized_operations, turn, gathering.part(index))


def _find(
    broker: BrokerCore,
    group_id: str,
    wants_operations: bool,
    turn: Turn,
    answer: Callable[[Turn, DescribedGroup], None],
) -> None:
    def refuse(later: Turn, error: ErrorCode) -> None:
        answer(later, DescribedGroup(group_id=group_id, error_code=error))

    def describe(later: Turn, shard: Shard) -> None:
        group = shard.find_consumer(group_id)
        if group is None:
            what = "not found" if shard.find(group_id) is None else "not a consumer group"
            answer(
                later,
                DescribedGroup(
                    group_id=group_id,
                    error_code=ErrorCode.GROUP_ID_NOT_FOUND,
                    error_message=f"Group {group_id} is {what}.",
                ),
            )
            return
        assignor = group.preferred_assignor(shard.settings.consumer_assignors)
        described = _describe(group, assignor, broker.image)
        described.authorized_operations = operations.group_operations(wants_operations)

        def committed(when: Turn, error: ErrorCode) -> None:
            if error:
                refuse(when, error)
            else:
                answer(when, described)

        shard.when_written(later, group.written_end, committed)

    broker.groups.serve(turn, group_id, describe, refuse)


def _describe(group: ConsumerGroup, assignor: str, image: ClusterImage) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=assignor,
        members=[
            Member(
                member_id=member.id,
                instance_id=member.instance_id,
                rack_id=member.rack_id,
                member_epoch=member.epoch,
                client_id=member.client_id,
                client_host=member.client_host,
                subscribed_topic_names=list(member.topics),
                subscribed_topic_regex=member.pattern,
                assignment=_assignment(member.assigned, image),
                target_assignment=_assignment(group.facts.target.get(member.id, ()), image),
                member_type=CONSUMER_MEMBER if member.classic is None else CLASSIC_MEMBER,
            )
            for member in group.members.values()
        ],
    )


def _assignment(parts: Iterable[Part], image: ClusterImage) -> Assignment:
    """Of topics that there are."""
    return Assignment(
        [
            TopicPartitions(topic, image.topic_names[topic], indexes)
            for topic, indexes in by_topic(parts)
            if topic in image.topic_names
        ]
    )
