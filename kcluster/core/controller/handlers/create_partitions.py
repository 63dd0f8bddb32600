"""CreatePartitions (37), versions 0-3: more partitions for topics that are there.

`count` is how many there are to be afterwards. New partitions get as many replicas as the
first one has. A topic that a request names twice is refused.
"""

from __future__ import annotations

from collections import Counter

from kcluster.core.controller.placement import check_assignment, place
from kcluster.core.controller.topics import Deciding, add_partitions, check_partition_budget
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


def decide(
    deciding: Deciding, request: CreatePartitionsRequest, version: int
) -> CreatePartitionsResponse:
    times = Counter(topic.name for topic in request.topics)
    results: dict[str, CreatePartitionsTopicResult] = {}
    for topic in request.topics:
        result = CreatePartitionsTopicResult(name=topic.name)
        try:
            if times[topic.name] > 1:
                raise ApiError(
                    ErrorCode.INVALID_REQUEST, f"Topic '{topic.name}' is named more than once."
                )
            _grow(deciding, topic, validate_only=request.validate_only)
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        results[topic.name] = result
    return CreatePartitionsResponse(results=list(results.values()))


def _grow(deciding: Deciding, wanted: CreatePartitionsTopic, *, validate_only: bool) -> None:
    topic = deciding.image.topics.get(wanted.name)
    if topic is None:
        raise ApiError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Topic '{wanted.name}' does not exist."
        )
    present = len(topic.partitions)
    if wanted.count <= present:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"Topic '{wanted.name}' has {present} partition(s); {wanted.count} is not more.",
        )
    added = wanted.count - present
    check_partition_budget(deciding.image, added)
    factor = len(topic.partitions[0].target)
    if wanted.assignments is None:
        assignments = place(deciding.image, deciding.random, added, factor, present)
    else:
        assignments = [list(entry.broker_ids) for entry in wanted.assignments]
        if len(assignments) != added:
            raise ApiError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                f"{added} partition(s) are to be added, {len(assignments)} are assigned.",
            )
        for replicas in assignments:
            check_assignment(deciding.image, replicas, factor)
    if not validate_only:
        add_partitions(deciding, topic.id, assignments, present)
