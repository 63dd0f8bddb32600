"""OffsetForLeaderEpoch (key 23): where an epoch ends, for consumers that look for truncation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.broker.handlers import leadership
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: OffsetForLeaderEpochRequest, turn: Turn
) -> OffsetForLeaderEpochResponse:
    # Before version 3 there is no replica id, and it reads as its default, a consumer.
    is_broker = request.replica_id not in leadership.CONSUMERS
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[
                    _partition(broker, topic.topic, wanted, is_broker)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _partition(
    broker: BrokerCore, name: str, wanted: OffsetForLeaderPartition, is_broker: bool
) -> EpochEndOffset:
    part = EpochEndOffset(partition=wanted.partition)
    try:
        if is_broker:
            raise ApiError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        replica, _ = leadership.lead(broker, name, wanted.partition, wanted.current_leader_epoch)
        part.leader_epoch, part.end_offset = replica.log.end_offset_for_epoch(wanted.leader_epoch)
    except ApiError as error:
        part.error_code = error.code
    return part
