"""AlterPartitionReassignments (45), versions 0-1: other replicas for partitions, each on its own.

A list is what a partition shall have in the end, in that order; null cancels. What may be asked
for is what a new topic may be asked for, but brokers need not run: it is complete when they do.
Version 1 may forbid a replication factor other than the one that there is (KIP-860). When and
how it is complete, and where ours is more careful than Kafka: `controller/reassignment.py`.

    UNKNOWN_TOPIC_OR_PARTITION    there is none
    INVALID_REPLICA_ASSIGNMENT    no replica, one named twice or not registered; or what is to be
                                  cancelled holds what is committed
    INVALID_REPLICATION_FACTOR    another one, where that is forbidden
    NO_REASSIGNMENT_IN_PROGRESS   nothing to cancel

Source: KIP-455; Kafka's ReplicationControlManager.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcluster.core.controller import reassignment
from kcluster.core.controller.placement import check_replicas
from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata.image import TopicImage
from kcluster.core.metadata.records import PartitionChanged
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)


def decide(
    deciding: Deciding, request: AlterPartitionReassignmentsRequest, version: int
) -> AlterPartitionReassignmentsResponse:
    may_change_factor = request.allow_replication_factor_change
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=may_change_factor,
        error_message=None,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[
                    _alter(deciding, topic.name, partition, may_change_factor)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )


def _alter(
    deciding: Deciding, name: str, wanted: ReassignablePartition, may_change_factor: bool
) -> ReassignablePartitionResponse:
    result = ReassignablePartitionResponse(
        partition_index=wanted.partition_index, error_message=None
    )
    try:
        topic, state = _find(deciding, name, wanted.partition_index)
        if wanted.replicas is None:
            _cancel(deciding, topic, state)
        else:
            _reassign(deciding, topic, state, wanted.replicas, may_change_factor)
    except ApiError as error:
        result.error_code, result.error_message = error.code, error.message
    return result


def _find(deciding: Deciding, name: str, partition: int) -> tuple[TopicImage, PartitionChanged]:
    topic = deciding.image.topics.get(name)
    state = topic.partitions.get(partition) if topic is not None else None
    if topic is None or state is None:
        raise ApiError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            f"There is no partition {TopicPartition(name, partition)}.",
        )
    return topic, state


def _reassign(
    deciding: Deciding,
    topic: TopicImage,
    state: PartitionChanged,
    replicas: Sequence[int],
    may_change_factor: bool,
) -> None:
    check_replicas(deciding.image, replicas)
    factor = len(reassignment.of(state).target)
    if len(replicas) != factor and not may_change_factor:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The replication factor would change from {factor} to {len(replicas)}.",
        )
    assignment = reassignment.towards(state, replicas)
    deciding.partitions.reassign(deciding.decision, topic, state, assignment)


def _cancel(deciding: Deciding, topic: TopicImage, state: PartitionChanged) -> None:
    if not state.is_reassigning:
        raise ApiError(
            ErrorCode.NO_REASSIGNMENT_IN_PROGRESS, "No reassignment of it is in progress."
        )
    partitions = deciding.partitions
    min_isr = partitions.min_isr(topic)
    if reassignment.is_needed(state, min_isr) and not partitions.allows_unclean(topic):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            f"Of the replicas that it had before, fewer than min.insync.replicas are in sync: "
            f"without {state.adding}, what is committed might be lost.",
        )
    back = reassignment.Assignment(reassignment.of(state).original, [], [])
    partitions.reassign(deciding.decision, topic, state, back)
