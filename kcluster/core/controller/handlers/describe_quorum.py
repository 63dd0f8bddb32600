"""DescribeQuorum (55), versions 0-2: the cluster's metadata and who holds it (KIP-595).

The coordinator is a quorum of one: it leads `__cluster_metadata-0` and is its only voter, as
node 0; its leader epoch is its incarnation. Brokers are observers: their log end is what they
have applied, by their last heartbeat, which is also their last fetch. Any other partition is
UNKNOWN_TOPIC_OR_PARTITION.

Version 1 adds times (KIP-836), 2 directory ids, which we have none of, and the listeners of the
voters (KIP-853): the coordinator has no Kafka listener.
"""

from __future__ import annotations

from kcluster.core.controller.brokers import Session
from kcluster.core.controller.topics import METADATA_TOPIC, Deciding
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR
from kcluster.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    Node,
    PartitionData,
    ReplicaState,
    TopicData,
)

_UNKNOWN_TIME = -1


def decide(
    deciding: Deciding, request: DescribeQuorumRequest, version: int
) -> DescribeQuorumResponse:
    return DescribeQuorumResponse(
        error_message=None,
        topics=[
            TopicData(
                topic_name=topic.topic_name,
                partitions=[
                    _partition(deciding, topic.topic_name, wanted.partition_index)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ],
        nodes=[Node(node_id=COORDINATOR, listeners=[])],
    )


def _partition(deciding: Deciding, topic: str, partition: int) -> PartitionData:
    if (topic, partition) != (METADATA_TOPIC, 0):
        return PartitionData(
            partition_index=partition,
            error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            error_message=f"only {METADATA_TOPIC}-0 has a quorum",
        )
    log, wall_ms = deciding.log, deciding.decision.wall_ms
    return PartitionData(
        partition_index=partition,
        error_message=None,
        leader_id=COORDINATOR,
        leader_epoch=log.leader_epoch,
        high_watermark=log.committed_offset,
        current_voters=[
            ReplicaState(
                replica_id=COORDINATOR,
                log_end_offset=log.end_offset,
                last_fetch_timestamp=wall_ms,
                last_caught_up_timestamp=wall_ms,
            )
        ],
        observers=[
            _observer(deciding, session)
            for id, session in sorted(deciding.brokers.sessions.items())
            if id in deciding.image.brokers and session.applied >= 0
        ],
    )


def _observer(deciding: Deciding, session: Session) -> ReplicaState:
    decision = deciding.decision
    heard_ms = decision.wall_ms - (decision.now_ms - deciding.brokers.heard_ms(session))
    is_caught_up = session.applied >= deciding.log.committed_offset
    return ReplicaState(
        replica_id=session.broker_id,
        log_end_offset=session.applied,
        last_fetch_timestamp=heard_ms,
        last_caught_up_timestamp=heard_ms if is_caught_up else _UNKNOWN_TIME,
    )
