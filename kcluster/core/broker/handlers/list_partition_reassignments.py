"""ListPartitionReassignments (key 46): which partitions are being moved, from where and to where.

Version 0. Null means all topics. What is not being moved is left out, and so is what does not
exist. It is answered from this broker's image, which knows of a reassignment once the request for
it was answered.

Source: KIP-455.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.metadata.image import TopicImage
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: ListPartitionReassignmentsRequest, turn: Turn
) -> ListPartitionReassignmentsResponse:
    topics = broker.image.topics
    asked: dict[str, Collection[int]] = {name: image.partitions for name, image in topics.items()}
    if request.topics is not None:
        asked = {topic.name: topic.partition_indexes for topic in request.topics}
    found = []
    for name, indexes in sorted(asked.items()):
        if name in topics:
            partitions = _ongoing(topics[name], indexes)
            if partitions:
                found.append(OngoingTopicReassignment(name=name, partitions=partitions))
    return ListPartitionReassignmentsResponse(error_message=None, topics=found)


def _ongoing(topic: TopicImage, indexes: Iterable[int]) -> list[OngoingPartitionReassignment]:
    states = [topic.partitions[index] for index in sorted({*indexes} & {*topic.partitions})]
    return [
        OngoingPartitionReassignment(
            partition_index=state.partition,
            replicas=state.replicas,
            adding_replicas=state.adding,
            removing_replicas=state.removing,
        )
        for state in states
        if state.is_reassigning
    ]
