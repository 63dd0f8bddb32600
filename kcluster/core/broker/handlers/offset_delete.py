"""OffsetDelete (key 47): forget offsets of partitions that no member of the group subscribes to.

Version 0. GROUP_SUBSCRIBED_TO_TOPIC for the others, NON_EMPTY_GROUP for a group whose members do
not tell what they subscribe to (KIP-496); answered when the deletions are committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import commits
from kcluster.errors import ErrorCode
from kcluster.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.offsets import Place
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn


def handle(broker: BrokerCore, call: Call, request: OffsetDeleteRequest, turn: Turn) -> None:
    image = broker.image
    places = [
        (topic.name, part.partition_index) for topic in request.topics for part in topic.partitions
    ]
    outcomes: dict[Place, ErrorCode] = {}
    for name, index in places:
        topic = image.topics.get(name)
        if topic is None or index not in topic.partitions:
            outcomes[name, index] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def refuse(later: Turn, error: ErrorCode) -> None:
        call.answer(later, OffsetDeleteResponse(error_code=error))

    def done(later: Turn, error: ErrorCode) -> None:
        if error:
            refuse(later, error)
            return
        topics = [
            OffsetDeleteResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetDeleteResponsePartition(
                        partition_index=part.partition_index,
                        error_code=outcomes.get((topic.name, part.partition_index), ErrorCode.NONE),
                    )
                    for part in topic.partitions
                ],
            )
            for topic in request.topics
        ]
        call.answer(later, OffsetDeleteResponse(topics=topics))

    def delete(later: Turn, shard: Shard) -> None:
        wanted = [place for place in places if place not in outcomes]
        outcomes.update(commits.refused_deletions(shard, request.group_id, wanted))
        wanted = [place for place in wanted if place not in outcomes]
        commits.delete(shard, request.group_id, wanted, later, done)

    broker.groups.serve(turn, request.group_id, delete, refuse)
