"""Simulated administration: topics come and go."""

from __future__ import annotations

from kcluster.errors import ErrorCode
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep
from kcluster.wire.messages import create_topics as ct
from kcluster.wire.messages import delete_topics as dt


def create_topic(
    client: SimClient,
    topic: str,
    partitions: int,
    replication_factor: int,
    *,
    configs: dict[str, str] | None = None,
    assignments: list[list[int]] | None = None,
) -> Life:
    """Again and again until it is there. `assignments`: replicas of each partition."""
    creatable = ct.CreatableTopic(
        name=topic,
        num_partitions=-1 if assignments else partitions,
        replication_factor=-1 if assignments else replication_factor,
        assignments=[
            ct.CreatableReplicaAssignment(partition_index=index, broker_ids=brokers)
            for index, brokers in enumerate(assignments or [])
        ],
        configs=[
            ct.CreatableTopicConfig(name=name, value=value)
            for name, value in sorted((configs or {}).items())
        ],
    )
    while True:
        request = ct.CreateTopicsRequest(topics=[creatable], timeout_ms=3000)
        response = yield Call(client.some_broker(), request, 7)
        if response is not None:
            code = response.topics[0].error_code
            if code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                return
        yield Sleep(RETRY_BACKOFF_MS)


def delete_topic(client: SimClient, topic: str) -> Life:
    while True:
        request = dt.DeleteTopicsRequest(topics=[dt.DeleteTopicState(name=topic)], timeout_ms=3000)
        response = yield Call(client.some_broker(), request, 6)
        if response is not None:
            code = response.responses[0].error_code
            if code in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
                return
        yield Sleep(RETRY_BACKOFF_MS)
