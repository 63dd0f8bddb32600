"""DeleteRecords (key 21): the records of a partition below an offset are gone, for good (KIP-107).

    leader: log start moves --> checkpoint --> marks pushed --> followers: log start moves
       answer <-- low watermark reached <--------- acknowledgements ----------'

Versions 0-2: 1 is as 0, 2 is flexible. Asked of the leader. Offset -1 stands for the high
watermark; above it, or negative otherwise: OFFSET_OUT_OF_RANGE. A topic that is compacted and
nothing else: POLICY_VIOLATION, its readers count on the last value of each key. Internal topics:
INVALID_TOPIC_EXCEPTION.

Answered when every live replica's log start has moved and is on its disk, so that neither a
restart nor another leader brings the records back; REQUEST_TIMED_OUT after the request's timeout
says only that some replica has not told yet. Whole segments go at once, the rest of the first
with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import leadership
from kcluster.core.metadata.image import TOPIC_RESOURCE
from kcluster.core.metadata.topic_names import INTERNAL_TOPICS
from kcluster.core.purgatory import Waiter
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import NO_EPOCH
from kcluster.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.replication.replica import Replica
    from kcluster.core.turn import Turn

HIGH_WATERMARK: Final = -1
UNKNOWN: Final = -1
"""The low watermark of what was not deleted."""


class DelayedDeletion(Waiter):
    """A request whose log starts have moved here, until each partition is decided."""

    __slots__ = ("broker", "call", "open", "response")

    def __init__(self, broker: BrokerCore, call: Call, response: DeleteRecordsResponse) -> None:
        self.due_ms = 0
        self.broker = broker
        self.call = call
        self.response = response
        self.open: dict[int, tuple[DeleteRecordsPartitionResult, Replica]] = {}
        """By index, those that wait."""

    def reached(self, turn: Turn, index: int, error: ErrorCode) -> None:
        waiting = self.open.pop(index, None)
        if waiting is None:
            # It gave up; its places in the queues are only now reached.
            return
        part, replica = waiting
        part.error_code = error
        if replica.leader is not None and not error:
            part.low_watermark = replica.leader.low_watermark(
                replica.log.log_start_offset, self.broker.image.is_alive
            )
        if not self.open:
            self.broker.deadlines.remove(self)
            self.call.answer(turn, self.response)

    def expire(self, turn: Turn) -> None:
        for part, _ in self.open.values():
            part.error_code = ErrorCode.REQUEST_TIMED_OUT
        self.open.clear()
        self.call.answer(turn, self.response)


def handle(
    broker: BrokerCore, call: Call, request: DeleteRecordsRequest, turn: Turn
) -> DeleteRecordsResponse | None:
    response = DeleteRecordsResponse(topics=[])
    delayed = DelayedDeletion(broker, call, response)
    count = 0
    for topic in request.topics:
        result = DeleteRecordsTopicResult(name=topic.name, partitions=[])
        response.topics.append(result)
        for wanted in topic.partitions:
            part = DeleteRecordsPartitionResult(
                partition_index=wanted.partition_index, low_watermark=UNKNOWN
            )
            result.partitions.append(part)
            try:
                _delete(broker, topic.name, wanted, part, delayed, count, turn)
                count += 1
            except ApiError as error:
                part.error_code = error.code
    if not delayed.open:
        return response
    if broker.deadlines.is_full:
        delayed.expire(turn)
    else:
        broker.deadlines.add(turn, max(request.timeout_ms, 0), delayed)
    return None


def _delete(
    broker: BrokerCore,
    topic: str,
    wanted: DeleteRecordsPartition,
    part: DeleteRecordsPartitionResult,
    delayed: DelayedDeletion,
    index: int,
    turn: Turn,
) -> None:
    """Move the log start, and wait in the partition's queue for the others to follow."""
    if topic in INTERNAL_TOPICS:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION)
    replica, leader = leadership.lead(broker, topic, wanted.partition_index, NO_EPOCH)
    policy = broker.settings.topic_text(
        "cleanup.policy", broker.image.overrides(TOPIC_RESOURCE, topic)
    )
    if "delete" not in policy and "compact" in policy:
        raise ApiError(ErrorCode.POLICY_VIOLATION)
    offset = leader.high_watermark if wanted.offset == HIGH_WATERMARK else wanted.offset
    if offset < 0:
        raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE)
    if offset > leader.high_watermark and not leader.is_high_watermark_known:
        # A new leader may be behind what was committed under the last one (invariant 5).
        raise ApiError(ErrorCode.OFFSET_NOT_AVAILABLE)
    replica.log.advance_log_start(turn, offset)
    delayed.open[index] = part, replica
    leader.deletions.add(offset, delayed, index)
    # Answered in `settle`, in this turn already when nobody else has to follow.
    broker.mark(replica)
