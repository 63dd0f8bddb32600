"""DescribeTopicPartitions (key 75): partitions with their eligible leaders, page by page (KIP-966).

Version 0. Topics come in the order of their names. No topics named: all of them. A response
holds at most `max.request.partition.size.limit` partitions, or fewer if the client says so; what
is left is reached by the cursor, the first partition of the next page. A topic that vanished
between two pages is simply passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.broker.handlers import operations
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.metadata.topic_names import INTERNAL_TOPICS, topic_name_problem
from kcluster.errors import ErrorCode
from kcluster.model import NO_LEADER, ZERO_TOPIC_ID, TopicId
from kcluster.wire.messages import describe_topic_partitions as wire

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.metadata.image import ClusterImage, TopicImage
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: wire.DescribeTopicPartitionsRequest, turn: Turn
) -> wire.DescribeTopicPartitionsResponse:
    image = broker.image
    asked = {topic.name for topic in request.topics}
    cursor = request.cursor
    if cursor is not None and cursor.partition_index < 0:
        return wire.DescribeTopicPartitionsResponse(
            topics=[_refused(name, ErrorCode.INVALID_REQUEST) for name in sorted(asked)]
        )
    names = sorted(asked or image.topics)
    first_name, first_partition = "", 0
    if cursor is not None:
        first_name, first_partition = cursor.topic_name, cursor.partition_index
        names = [name for name in names if name >= first_name]

    room = min(
        broker.settings.int("max.request.partition.size.limit"), request.response_partition_limit
    )
    room = max(room, 1)
    response = wire.DescribeTopicPartitionsResponse(topics=[])
    for name in names:
        topic = image.topics.get(name)
        if topic is None:
            response.topics.append(_refused(name, _why_unknown(name)))
            continue
        start = first_partition if name == first_name else 0
        if room == 0:
            response.next_cursor = wire.Cursor(topic_name=name, partition_index=start)
            break
        states = [
            state for _, state in sorted(topic.partitions.items()) if state.partition >= start
        ]
        response.topics.append(_described(image, topic, states[:room]))
        if len(states) > room:
            response.next_cursor = wire.Cursor(
                topic_name=name, partition_index=states[room].partition
            )
            break
        room -= len(states)
    return response


def _why_unknown(name: str) -> ErrorCode:
    if topic_name_problem(name) is not None:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _refused(name: str, code: ErrorCode) -> wire.DescribeTopicPartitionsResponseTopic:
    return wire.DescribeTopicPartitionsResponseTopic(
        error_code=code,
        name=name,
        topic_id=ZERO_TOPIC_ID,
        is_internal=name in INTERNAL_TOPICS,
        partitions=[],
    )


def _described(
    image: ClusterImage, topic: TopicImage, states: list[PartitionChanged]
) -> wire.DescribeTopicPartitionsResponseTopic:
    return wire.DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=TopicId(topic.id),
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=[_partition(image, state) for state in states],
        topic_authorized_operations=operations.topic_operations(True),
    )


def _partition(
    image: ClusterImage, state: PartitionChanged
) -> wire.DescribeTopicPartitionsResponsePartition:
    return wire.DescribeTopicPartitionsResponsePartition(
        error_code=(
            ErrorCode.LEADER_NOT_AVAILABLE if state.leader == NO_LEADER else ErrorCode.NONE
        ),
        partition_index=state.partition,
        leader_id=state.leader,
        leader_epoch=state.leader_epoch,
        replica_nodes=state.replicas,
        isr_nodes=state.isr,
        eligible_leader_replicas=state.elr,
        last_known_elr=[state.last_known_leader] if state.last_known_leader >= 0 else [],
        offline_replicas=[id for id in state.replicas if not image.is_alive(id)],
    )
