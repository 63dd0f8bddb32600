"""The topic that a benchmark writes to: made for it, found, and deleted again."""

from __future__ import annotations

import time
from typing import Final

from kcluster.bench.connection import Address, Connection
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.delete_topics import (
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

LEADERS_S: Final = 15.0
"""How long a new topic may take to have a leader for each partition."""

POLL_S: Final = 0.02


def create(
    connection: Connection,
    topic: str,
    partitions: int,
    replication_factor: int,
    configs: dict[str, str],
) -> None:
    answer = connection.ask(
        CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=topic,
                    num_partitions=partitions,
                    replication_factor=replication_factor,
                    assignments=[],
                    configs=[
                        CreatableTopicConfig(name=name, value=value)
                        for name, value in configs.items()
                    ],
                )
            ],
            timeout_ms=15_000,
        ),
        CreateTopicsResponse,
    )
    [created] = answer.topics
    if created.error_code:
        code = ErrorCode(created.error_code)
        raise UsageError(
            f"topic {topic} cannot be created: {code.name}", created.error_message or "", ""
        )


def delete(connection: Connection, topic: str) -> None:
    connection.ask(
        DeleteTopicsRequest(
            topics=[DeleteTopicState(name=topic)], topic_names=[topic], timeout_ms=15_000
        ),
        DeleteTopicsResponse,
    )


def leaders(connection: Connection, topic: str, partitions: int) -> dict[int, Address]:
    """Where each partition is led, once all are and every leader has all its in-sync replicas.

    Raises ApiError when that takes longer than `LEADERS_S`.
    """
    deadline = time.monotonic() + LEADERS_S
    while True:
        answer = connection.ask(
            MetadataRequest(
                topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
            ),
            MetadataResponse,
        )
        brokers = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        found = {
            partition.partition_index: brokers[partition.leader_id]
            for described in answer.topics
            for partition in described.partitions
            if partition.leader_id in brokers
            and len(partition.isr_nodes) == len(partition.replica_nodes)
        }
        if len(found) == partitions:
            return found
        if time.monotonic() > deadline:
            raise ApiError(
                ErrorCode.LEADER_NOT_AVAILABLE,
                f"{len(found)} of {partitions} partitions of {topic} are led and fully in sync",
            )
        time.sleep(POLL_S)
