"""CreateTopics (19), versions 2-7: each topic decided on its own, in the order of the request.

Checked in Kafka's order: name, existence, configs, then assignment or counts. With
`validate_only` all is checked and placed, nothing is written. Topics that a request names twice
are refused, all of them. Partitions -1: `num.partitions`; replication factor -1: see
`default_replication_factor`.
"""

from __future__ import annotations

from collections import Counter

from kcluster.core.controller.placement import check_assignment, place
from kcluster.core.controller.topics import (
    Deciding,
    add_partitions,
    check_config,
    check_name,
    check_partition_budget,
    default_replication_factor,
    effective_configs,
    new_topic_id,
)
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import TOPIC_RESOURCE
from kcluster.core.traces import TopicCreated
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import ZERO_TOPIC_ID
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)


def decide(deciding: Deciding, request: CreateTopicsRequest, version: int) -> CreateTopicsResponse:
    times = Counter(topic.name for topic in request.topics)
    results: dict[str, CreatableTopicResult] = {}
    for topic in request.topics:
        try:
            if times[topic.name] > 1:
                raise ApiError(
                    ErrorCode.INVALID_REQUEST, f"Topic '{topic.name}' is named more than once."
                )
            result = _create(deciding, topic, validate_only=request.validate_only)
        except ApiError as error:
            result = _refused(topic, error)
        results[topic.name] = result
    return CreateTopicsResponse(topics=list(results.values()))


def _refused(topic: CreatableTopic, error: ApiError) -> CreatableTopicResult:
    return CreatableTopicResult(
        name=topic.name, error_code=error.code, error_message=error.message, configs=None
    )


def _create(
    deciding: Deciding, topic: CreatableTopic, *, validate_only: bool
) -> CreatableTopicResult:
    check_name(deciding.image, topic.name)
    configs = _configs(topic)
    assignments = _assignments(deciding, topic)
    topic_id = ZERO_TOPIC_ID
    if not validate_only:
        topic_id = new_topic_id(deciding)
        decision = deciding.decision
        decision.add(r.TopicCreated(topic.name, topic_id))
        for key, value in sorted(configs.items()):
            decision.add(r.ConfigChanged(TOPIC_RESOURCE, topic.name, key, value))
        add_partitions(deciding, topic_id, assignments)
        decision.trace(TopicCreated(topic.name, len(assignments), len(assignments[0])))
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic_id,
        error_message=None,
        num_partitions=len(assignments),
        replication_factor=len(assignments[0]),
        configs=[
            CreatableTopicConfigs(name=name, value=value, config_source=source)
            for name, value, source in effective_configs(deciding.settings, configs)
        ],
    )


def _configs(topic: CreatableTopic) -> dict[str, str]:
    configs: dict[str, str] = {}
    for entry in topic.configs:
        if entry.name in configs:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{entry.name} is given twice")
        configs[entry.name] = check_config(TOPIC_RESOURCE, topic.name, entry.name, entry.value)
    return configs


def _assignments(deciding: Deciding, topic: CreatableTopic) -> list[list[int]]:
    if topic.assignments:
        return _manual(deciding, topic)
    partitions = topic.num_partitions
    if partitions == -1:
        partitions = deciding.settings.int("num.partitions")
    if partitions < 1:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"{partitions} partitions: at least 1 is needed, -1 stands for the default.",
        )
    factor = topic.replication_factor
    if factor == -1:
        factor = default_replication_factor(deciding)
    if factor < 1:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Replication factor {factor}: at least 1 is needed, -1 stands for the default.",
        )
    check_partition_budget(deciding.image, partitions)
    return place(deciding.image, deciding.random, partitions, factor)


def _manual(deciding: Deciding, topic: CreatableTopic) -> list[list[int]]:
    if topic.num_partitions != -1 or topic.replication_factor != -1:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            "With an assignment, partitions and replication factor must be -1.",
        )
    by_index = {entry.partition_index: list(entry.broker_ids) for entry in topic.assignments}
    if sorted(by_index) != list(range(len(topic.assignments))):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "Assignments must be for partitions 0, 1, 2 and so on, each once.",
        )
    check_partition_budget(deciding.image, len(by_index))
    assignments = [by_index[index] for index in range(len(by_index))]
    for replicas in assignments:
        check_assignment(deciding.image, replicas, len(assignments[0]) or -1)
    return assignments
