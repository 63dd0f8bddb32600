"""Simulated administration: topics come, grow, change and go; records are deleted."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from kcluster.core.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE
from kcluster.core.metadata.quotas import Entity
from kcluster.errors import ErrorCode
from kcluster.model import TopicId, TopicPartition
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep, Step
from kcluster.wire.message import Message
from kcluster.wire.messages import alter_client_quotas_request as aq
from kcluster.wire.messages import alter_partition_reassignments as apr
from kcluster.wire.messages import create_partitions as cp
from kcluster.wire.messages import create_topics as ct
from kcluster.wire.messages import delete_records as dr
from kcluster.wire.messages import delete_topics as dt
from kcluster.wire.messages import incremental_alter_configs as ic


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
    request = ct.CreateTopicsRequest(topics=[creatable], timeout_ms=3000)
    yield from _until(client, request, 7, "topics", ErrorCode.TOPIC_ALREADY_EXISTS)


def delete_topic(client: SimClient, topic: str, topic_id: TopicId | None = None) -> Life:
    """By its id, when that is given: what is asked twice then takes no namesake."""
    if topic_id is None:
        state, gone = dt.DeleteTopicState(name=topic), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    else:
        state, gone = dt.DeleteTopicState(topic_id=topic_id), ErrorCode.UNKNOWN_TOPIC_ID
    request = dt.DeleteTopicsRequest(topics=[state], timeout_ms=3000)
    yield from _until(client, request, 6, "responses", gone)


def grow_topic(client: SimClient, topic: str, count: int) -> Life:
    """Again and again until it has `count` partitions."""
    wanted = cp.CreatePartitionsTopic(name=topic, count=count, assignments=None)
    request = cp.CreatePartitionsRequest(topics=[wanted], timeout_ms=3000)
    yield from _until(client, request, 3, "results", ErrorCode.INVALID_PARTITIONS)


def alter_config(client: SimClient, topic: str, name: str, value: str | None) -> Life:
    """Again and again until it is so; None: as it is by default."""
    config = ic.AlterableConfig(name=name, config_operation=int(value is None), value=value)
    resource = ic.AlterConfigsResource(
        resource_type=TOPIC_RESOURCE, resource_name=topic, configs=[config]
    )
    request = ic.IncrementalAlterConfigsRequest(resources=[resource])
    code = yield from _until(client, request, 1, "responses", ErrorCode.INVALID_CONFIG)
    if code == ErrorCode.INVALID_CONFIG:
        client.surprises.append(f"{topic}: {name}={value} was refused")


def alter_quota(client: SimClient, entity: Entity, key: str, value: float | None) -> Life:
    """Again and again until it is so; None: there is none."""
    request = aq.AlterClientQuotasRequest(
        entries=[
            aq.EntryData(
                entity=[aq.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
                ops=[aq.OpData(key=key, value=value or 0.0, remove=value is None)],
            )
        ]
    )
    code = yield from _until(client, request, 1, "entries", ErrorCode.INVALID_REQUEST)
    if code == ErrorCode.INVALID_REQUEST:
        client.surprises.append(f"{key}={value} of {entity} was refused")


def reassign(
    client: SimClient, tp: TopicPartition, replicas: list[int] | None
) -> Generator[Step, Any, ErrorCode | None]:
    """Once: the partition's error code; None when nobody answered. No `replicas`: cancel."""
    partition = apr.ReassignablePartition(partition_index=tp.partition, replicas=replicas)
    topic = apr.ReassignableTopic(name=tp.topic, partitions=[partition])
    request = apr.AlterPartitionReassignmentsRequest(timeout_ms=2000, topics=[topic])
    response = yield Call(client.some_broker(), request, 1, 3000)
    if response is None:
        return None
    if response.error_code:
        return ErrorCode(response.error_code)
    return ErrorCode(response.responses[0].partitions[0].error_code)


def throttle(client: SimClient, topics: list[str], rate: int | None) -> Generator[Step, Any, bool]:
    """Once: all replicas of `topics` that are not in sync, or (None) nobody any more. Whether that
    was answered."""
    is_gone = rate is None
    rates = {f"{side}.replication.throttled.rate": str(rate) for side in ("leader", "follower")}
    replicas = {f"{side}.replication.throttled.replicas": "*" for side in ("leader", "follower")}
    wanted = [(TOPIC_RESOURCE, topic, replicas) for topic in topics] + [
        (BROKER_RESOURCE, "", rates)
    ]
    resources = [
        ic.AlterConfigsResource(
            resource_type=resource,
            resource_name=name,
            configs=[
                ic.AlterableConfig(
                    name=key, config_operation=int(is_gone), value=None if is_gone else value
                )
                for key, value in sorted(pairs.items())
            ],
        )
        for resource, name, pairs in wanted
    ]
    request = ic.IncrementalAlterConfigsRequest(resources=resources)
    response = yield Call(client.some_broker(), request, 1, 3000)
    if response is not None:
        codes = {each.error_code for each in response.responses}
        client.surprises += [f"throttle: {code}" for code in codes & {ErrorCode.INVALID_CONFIG}]
    return response is not None


def _until(
    client: SimClient, request: Message, version: int, results: str, final: ErrorCode
) -> Generator[Step, Any, int]:
    """Ask one broker after the other until the only result, in the field `results` of the answer,
    is without error or `final`; its error code."""
    while True:
        response = yield Call(client.some_broker(), request, version)
        if response is not None:
            code: int = getattr(response, results)[0].error_code
            if code in (ErrorCode.NONE, final):
                return code
        yield Sleep(RETRY_BACKOFF_MS)


def delete_records(
    client: SimClient, leader: int, tp: TopicPartition, offset: int
) -> Generator[Step, Any, int]:
    """Once: where the log begins on every live replica, or -1."""
    wanted = dr.DeleteRecordsPartition(partition_index=tp.partition, offset=offset)
    topic = dr.DeleteRecordsTopic(name=tp.topic, partitions=[wanted])
    request = dr.DeleteRecordsRequest(topics=[topic], timeout_ms=2000)
    response = yield Call(leader, request, 2, 3000)
    if response is None:
        return -1
    told = response.topics[0].partitions[0]
    return told.low_watermark if told.error_code == ErrorCode.NONE else -1
