"""ListOffsets (key 2): the offset of a timestamp, or an end of the log.

Latest is the high watermark (read_committed: the last stable offset, the same without
transactions). A new leader that has not committed its epoch's start does not know it yet and
answers OFFSET_NOT_AVAILABLE (KIP-207, invariant 5).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import leadership
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.log.partition_log import PartitionLog
    from kcluster.core.replication.leader import LeaderState
    from kcluster.core.turn import Turn

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6

_SINCE: Final = {
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
"""Lowest version that may ask for a place; earlier ones never did."""

_NOWHERE: Final = (-1, -1, -1)
"""(offset, timestamp, leader epoch) of what is not there."""


def handle(
    broker: BrokerCore, call: Call, request: ListOffsetsRequest, turn: Turn
) -> ListOffsetsResponse:
    version = call.header.api_version
    counts = Counter(
        (topic.name, wanted.partition_index)
        for topic in request.topics
        for wanted in topic.partitions
    )
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    _partition(broker, version, request.replica_id, topic.name, wanted)
                    if counts[topic.name, wanted.partition_index] == 1
                    else _asked_twice(wanted)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _asked_twice(wanted: ListOffsetsPartition) -> ListOffsetsPartitionResponse:
    """As in Kafka; a lookup by time reads from the disk, and is not to be had by the thousand."""
    return ListOffsetsPartitionResponse(
        partition_index=wanted.partition_index, error_code=ErrorCode.INVALID_REQUEST
    )


def _partition(
    broker: BrokerCore, version: int, replica_id: int, name: str, wanted: ListOffsetsPartition
) -> ListOffsetsPartitionResponse:
    part = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
    try:
        if replica_id not in leadership.CONSUMERS:
            raise ApiError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
        if wanted.timestamp < 0 and version < _SINCE.get(wanted.timestamp, 1):
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION)
        part.offset, part.timestamp, part.leader_epoch = _look_up(broker, name, wanted)
    except ApiError as error:
        part.error_code = error.code
    return part


def _look_up(broker: BrokerCore, name: str, wanted: ListOffsetsPartition) -> tuple[int, int, int]:
    """(offset, timestamp, leader epoch); a place has no timestamp."""
    replica, leader = leadership.lead(
        broker, name, wanted.partition_index, wanted.current_leader_epoch
    )
    try:
        return _find(replica.log, leader, wanted.timestamp)
    except CorruptLogError as error:
        raise broker.damaged(replica, error) from None


def _find(log: PartitionLog, leader: LeaderState, timestamp: int) -> tuple[int, int, int]:
    match timestamp:
        case value if value == LATEST:
            if not leader.is_high_watermark_known:
                raise ApiError(ErrorCode.OFFSET_NOT_AVAILABLE)
            return leader.high_watermark, -1, leader.leader_epoch
        case value if value in (EARLIEST, EARLIEST_LOCAL):
            return log.log_start_offset, -1, log.epochs.epoch_of(log.log_start_offset)
        case value if value in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
            # Nothing is ever moved to another tier.
            return _NOWHERE
        case value if value == MAX_TIMESTAMP:
            offset, timestamp = log.max_timestamp()
            found = (offset, timestamp, log.epochs.epoch_of(offset)) if offset >= 0 else None
        case value if value < 0:
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"{value} names no place")
        case value:
            found = log.offset_for_timestamp(value)
    if found is not None and found[0] < leader.high_watermark:
        return found
    if not leader.is_high_watermark_known:
        raise ApiError(ErrorCode.OFFSET_NOT_AVAILABLE)
    return _NOWHERE
