"""Produce (key 0): append to logs that this broker leads.

    acks=1   answered when the leader's own write is done
    acks=-1  answered when the high watermark has passed the batch: every member of the maximal
             ISR holds it
    acks=0   never answered; an error closes the connection, which is all that it can say

NOT_ENOUGH_REPLICAS is said before anything is appended; afterwards it is
NOT_ENOUGH_REPLICAS_AFTER_APPEND, which like a timeout means "unknown" (invariant 6). A duplicate
of an idempotent batch waits as its original does (rule 5). Where the leader is another broker the
answer names it (KIP-951). Internal topics are written by their coordinators, not by clients:
INVALID_TOPIC_EXCEPTION.

This is the hot path: about 25 us a batch for everything between the socket and the answer, so
the loop below keeps to locals and makes one response object for each partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import leadership
from kcluster.core.metadata.topic_names import INTERNAL_TOPICS
from kcluster.core.purgatory import Waiter
from kcluster.errors import ApiError, ErrorCode, InvalidRecords
from kcluster.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.replication.replica import Replica
    from kcluster.core.turn import Turn

ALL: Final = -1
RECORD_ERRORS_MAX: Final = 1000
"""Of one batch, in a response: the first ones."""
ADMIN_CLIENT_ID: Final = "__admin_client"
"""Who may write into Kafka's own topics, as in Kafka: a record there that nobody can read ends
the service of its partition."""
_ZSTD: Final = 4
_ATTRIBUTES_LOW_BYTE: Final = 22
"""Of a record batch, counted from its base offset."""


class DelayedProduce(Waiter):
    """A request whose batches are staged, until each partition is decided."""

    __slots__ = ("broker", "call", "is_done", "open", "parts", "response")

    def __init__(self, broker: BrokerCore, call: Call, response: ProduceResponse) -> None:
        self.due_ms = 0
        self.broker = broker
        self.call = call
        self.response = response
        self.parts: list[PartitionProduceResponse | None] = []
        """Those that wait, by index; None once decided."""
        self.open = 0
        self.is_done = False

    def reached(self, turn: Turn, index: int, error: ErrorCode) -> None:
        if self.is_done:
            # It gave up; its places in the queues are only now reached.
            return
        part = self.parts[index]
        if part is None:
            return
        self.parts[index] = None
        self.open -= 1
        if error:
            _refuse(part, error)
        if not self.open:
            self.broker.deadlines.remove(self)
            self._answer(turn)

    def expire(self, turn: Turn) -> None:
        for part in self.parts:
            if part is not None:
                _refuse(part, ErrorCode.REQUEST_TIMED_OUT)
        self._answer(turn)

    def _answer(self, turn: Turn) -> None:
        self.is_done = True
        self.parts.clear()
        _answer(self.broker, self.call, self.response, turn)


def handle(
    broker: BrokerCore, call: Call, request: ProduceRequest, turn: Turn
) -> ProduceResponse | None:
    acks = request.acks
    version = call.header.api_version
    refusal = _refusal(request)
    topics: list[TopicProduceResponse] = []
    response = ProduceResponse(responses=topics)
    delayed = DelayedProduce(broker, call, response) if acks else None
    replicas = broker.replicas
    for topic in request.topic_data:
        name = topic.name
        missing = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if version >= 13:
            name = broker.image.topic_names.get(topic.topic_id, "")
            if not name:
                missing = ErrorCode.UNKNOWN_TOPIC_ID
        refused = refusal
        if name in INTERNAL_TOPICS and call.header.client_id != ADMIN_CLIENT_ID:
            refused = ErrorCode.INVALID_TOPIC_EXCEPTION
        parts: list[PartitionProduceResponse] = []
        topics.append(
            TopicProduceResponse(
                name=topic.name, topic_id=topic.topic_id, partition_responses=parts
            )
        )
        for data in topic.partition_data:
            part = PartitionProduceResponse(index=data.index)
            parts.append(part)
            if refused:
                _refuse(part, refused)
                continue
            replica = replicas.get((name, data.index))  # type: ignore[call-overload]
            if replica is None:
                code = leadership.why_not_here(broker, name, data.index)
                _refuse(part, missing if code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION else code)
                continue
            try:
                _append(broker, replica, data, part, acks, version, delayed, turn)
            except InvalidRecords as error:
                _refuse(part, error.code, error.message)
                part.record_errors = [
                    BatchIndexAndErrorMessage(batch_index=index, batch_index_error_message=why)
                    for index, why in error.records[:RECORD_ERRORS_MAX]
                ]
            except ApiError as error:
                _refuse(part, error.code, error.message)
    if delayed is None:
        if any(part.error_code for topic in topics for part in topic.partition_responses):
            call.close(turn)
        else:
            call.forget(turn)
        return None
    if not delayed.open:
        _answer(broker, call, response, turn)
    elif acks == ALL:
        if broker.deadlines.is_full:
            delayed.expire(turn)
        else:
            broker.deadlines.add(turn, max(request.timeout_ms, 0), delayed)
    return None


def _append(
    broker: BrokerCore,
    replica: Replica,
    data: PartitionProduceData,
    part: PartitionProduceResponse,
    acks: int,
    version: int,
    delayed: DelayedProduce | None,
    turn: Turn,
) -> None:
    leader = replica.leader
    if leader is None:
        raise ApiError(
            ErrorCode.KAFKA_STORAGE_ERROR if replica.offline else ErrorCode.NOT_LEADER_OR_FOLLOWER
        )
    if acks == ALL and not leader.has_enough_replicas:
        raise ApiError(
            ErrorCode.NOT_ENOUGH_REPLICAS,
            f"the ISR has {len(leader.isr)} members, {leader.effective_min_isr} are needed",
        )
    records = data.records
    if not records:
        raise ApiError(ErrorCode.INVALID_RECORD, "exactly one record batch is needed")
    if (
        version < 7
        and len(records) > _ATTRIBUTES_LOW_BYTE
        and records[_ATTRIBUTES_LOW_BYTE] & 7 == _ZSTD
    ):
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7")
    appended = replica.log.append_as_leader(turn, records, leader.leader_epoch)
    part.base_offset = appended.base_offset
    part.log_append_time_ms = appended.log_append_time
    part.log_start_offset = appended.log_start_offset
    required = appended.last_offset + 1
    if not appended.is_duplicate:
        broker.staged(replica, appended.base_offset, required, records)
    if delayed is None:
        return
    if acks == ALL:
        if required <= leader.high_watermark:
            return
        queue = leader.produces
    else:
        if required <= leader.position:
            return
        queue = leader.writes
    queue.add(required, delayed, len(delayed.parts))
    delayed.parts.append(part)
    delayed.open += 1


def _refusal(request: ProduceRequest) -> ErrorCode:
    """Why nothing of the request is appended, or NONE."""
    if request.acks not in (0, 1, ALL):
        return ErrorCode.INVALID_REQUIRED_ACKS
    if request.transactional_id is not None:
        # There are no transactions yet, so there cannot be one that this belongs to.
        return ErrorCode.INVALID_TXN_STATE
    return ErrorCode.NONE


def _refuse(part: PartitionProduceResponse, code: ErrorCode, message: str | None = None) -> None:
    part.error_code = code
    part.base_offset = -1
    part.log_append_time_ms = -1
    part.log_start_offset = -1
    part.error_message = message if message is not None and message != code.name else None


def _answer(broker: BrokerCore, call: Call, response: ProduceResponse, turn: Turn) -> None:
    if call.header.api_version >= 10:
        _name_leaders(broker, response)
    call.answer(turn, response)


def _name_leaders(broker: BrokerCore, response: ProduceResponse) -> None:
    """KIP-951: who leads what this broker does not, and where they listen."""
    leaders: set[int] = set()
    for topic in response.responses:
        for part in topic.partition_responses:
            if part.error_code in leadership.MOVED:
                name = topic.name or broker.image.topic_names.get(topic.topic_id, "")
                leader, epoch = leadership.current(broker, name, part.index)
                if leader >= 0:
                    part.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
                    leaders.add(leader)
    response.node_endpoints = [
        NodeEndpoint(node_id=member.id, host=member.host, port=member.port, rack=member.rack)
        for member in leadership.members(broker, leaders)
    ]
