"""A producer without a socket: batching, sequences, retries.

    send(record) -> open batch -> closed when full or lingered -> in flight -> Delivered | Failed

One batch of a partition is in flight at a time, so that order is kept without more ado, and
what is refused is sent again as it was: the same bytes, the same sequence, which the broker
recognises (KIP-98). A batch whose fate stays unknown, or that is given up, leaves a hole in the
sequence; the producer then takes a new producer id and starts over at 0.

Bounds: `buffer_bytes` of records not delivered yet (`is_full` asks the caller to wait), a
deadline for each record (`delivery_ms`), batches of at most `batch_bytes` unless one record is
larger.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from kcluster.core.client.exchange import ASK_AGAIN, NOT_THE_LEADER, Exchange, TopicView
from kcluster.core.client.partitioner import StickyPartitions, partition_of_key
from kcluster.errors import ErrorCode
from kcluster.model import NO_LEADER, TopicPartition
from kcluster.wire.compression import Compression
from kcluster.wire.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kcluster.wire.records import Record, build_batch

PRODUCE_VERSION: Final = 10
INIT_PRODUCER_ID_VERSION: Final = 4

RECORD_OVERHEAD_BYTES: Final = 20
"""Estimate of what a record takes beside its key, value and headers."""

UNTOLD_MS: Final = 500
"""With acks=0, how long a record may go to a broker that leads its partition no more."""

NO_PRODUCER: Final = -1


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    acks: int = -1
    compression: Compression = Compression.NONE
    is_idempotent: bool = True
    """Only with acks=all."""
    linger_ms: int = 5
    batch_bytes: int = 65_536
    buffer_bytes: int = 32 << 20
    delivery_ms: int = 60_000
    request_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """Acknowledged. Offsets are base_offset and up; -1 when the broker did not say (acks=0, or
    a duplicate that it no longer knows the place of)."""

    tp: TopicPartition
    base_offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Given up. Whether it was written is certain only if the code says so."""

    topic: str
    partition: int
    count: int
    code: ErrorCode
    message: str


@dataclass(slots=True)
class _Entry:
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp_ms: int
    deadline_ms: int
    size: int


@dataclass(slots=True)
class _Batch:
    entries: list[_Entry] = field(default_factory=list)
    size: int = 0
    closes_at_ms: int = 0
    payload: bytearray | None = None
    """The bytes as sent: once made they never change."""
    producer: int = NO_PRODUCER

    @property
    def deadline_ms(self) -> int:
        return self.entries[0].deadline_ms


@dataclass(slots=True)
class _Partition:
    tp: TopicPartition
    batches: deque[_Batch] = field(default_factory=deque)
    """Oldest first; the last may still be open."""
    in_flight: bool = False
    waits_until_ms: int = 0
    producer: int = NO_PRODUCER
    """The producer id that `next_sequence` belongs to."""
    next_sequence: int = 0


class ProducerCore:
    def __init__(self, exchange: Exchange, settings: ProducerSettings | None = None) -> None:
        self.settings = settings or ProducerSettings()
        self.exchange = exchange
        self.events: list[Delivered | Failed] = []
        self.buffered_bytes = 0
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._unplaced: dict[str, list[tuple[int | None, _Entry]]] = {}
        """(partition or None, entry) of topics whose partitions are not known yet."""
        self._sticky: dict[str, StickyPartitions] = {}
        self._is_idempotent = self.settings.is_idempotent and self.settings.acks == -1
        self._producer_id = NO_PRODUCER
        self._producer_epoch = -1
        self._asking_producer_id = False
        self._producer_id_at_ms = 0
        self._looked_at_ms = 0
        """When Metadata was last asked for because of acks=0."""
        exchange.on_metadata = self.pump

    @property
    def is_full(self) -> bool:
        return self.buffered_bytes >= self.settings.buffer_bytes

    @property
    def is_idle(self) -> bool:
        """Everything that was sent is delivered or has failed."""
        return self.buffered_bytes == 0

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes | None]] | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int,
        now_ms: int,
    ) -> None:
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        size += sum(len(name) + len(text or b"") + 4 for name, text in headers or ())
        entry = _Entry(
            key, value, headers or [], timestamp_ms, now_ms + self.settings.delivery_ms, size
        )
        self.buffered_bytes += size
        view = self.exchange.follow(topic, now_ms)
        if view.leaders:
            self._place(topic, view, partition, entry, now_ms)
        else:
            self._unplaced.setdefault(topic, []).append((partition, entry))

    def flush(self, now_ms: int) -> None:
        """Let nothing linger."""
        for state in self._partitions.values():
            if state.batches:
                state.batches[-1].closes_at_ms = min(state.batches[-1].closes_at_ms, now_ms)
        self.pump(now_ms)

    def next_deadline(self) -> int | None:
        deadlines = [
            max(state.batches[0].closes_at_ms, state.waits_until_ms)
            for state in self._partitions.values()
            if state.batches and not state.in_flight
        ]
        deadlines += [
            state.batches[0].deadline_ms
            for state in self._partitions.values()
            if state.batches and not state.in_flight
        ]
        deadlines += [waiting[0][1].deadline_ms for waiting in self._unplaced.values()]
        exchange = self.exchange.next_deadline()
        if exchange is not None:
            deadlines.append(exchange)
        return min(deadlines, default=None)

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)
        self.pump(now_ms)

    def pump(self, now_ms: int) -> None:
        """Send what may be sent, give up what is too old."""
        self._place_waiting(now_ms)
        for state in self._partitions.values():
            if state.batches and not state.in_flight:
                self._advance(state, now_ms)

    # --- into batches

    def _place_waiting(self, now_ms: int) -> None:
        for topic in list(self._unplaced):
            view = self.exchange.topics[topic]
            waiting = self._unplaced[topic]
            if view.leaders:
                del self._unplaced[topic]
                for partition, entry in waiting:
                    self._place(topic, view, partition, entry, now_ms)
                continue
            is_hopeless = view.error and view.error not in ASK_AGAIN
            is_missing = now_ms - view.missing_since_ms >= self.exchange.patience.topic_ms
            if is_hopeless or is_missing or waiting[0][1].deadline_ms <= now_ms:
                del self._unplaced[topic]
                self.buffered_bytes -= sum(entry.size for _, entry in waiting)
                self.events.append(
                    Failed(topic, -1, len(waiting), view.error, _why_no_topic(topic, view.error))
                )

    def _place(
        self, topic: str, view: TopicView, partition: int | None, entry: _Entry, now_ms: int
    ) -> None:
        count = len(view.leaders)
        sticky = self._sticky.setdefault(topic, StickyPartitions())
        if partition is None:
            if entry.key is not None:
                partition = partition_of_key(entry.key, count)
            else:
                partition = sticky.choose(count)
        elif partition not in view.leaders:
            self.buffered_bytes -= entry.size
            message = f"topic {topic} has partitions 0 to {count - 1}"
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            self.events.append(Failed(topic, partition, 1, code, message))
            return
        tp = TopicPartition(topic, partition)
        state = self._partitions.get(tp)
        if state is None:
            state = self._partitions[tp] = _Partition(tp)
        last = state.batches[-1] if state.batches else None
        limit = self.settings.batch_bytes
        if last is None or last.payload is not None or last.size + entry.size > limit:
            if last is not None:
                last.closes_at_ms = min(last.closes_at_ms, now_ms)
                sticky.move_on(partition, count)
            last = _Batch(closes_at_ms=now_ms + self.settings.linger_ms)
            state.batches.append(last)
        last.entries.append(entry)
        last.size += entry.size
        if last.size >= limit:
            last.closes_at_ms = now_ms

    # --- out to the leader

    def _advance(self, state: _Partition, now_ms: int) -> None:
        batch = state.batches[0]
        while batch.deadline_ms <= now_ms:
            self._give_up(state, ErrorCode.REQUEST_TIMED_OUT, "not delivered in time")
            if not state.batches:
                return
            batch = state.batches[0]
        if now_ms < batch.closes_at_ms or now_ms < state.waits_until_ms:
            return
        if self._is_idempotent and self._producer_id == NO_PRODUCER:
            self._ask_producer_id(now_ms)
            state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            return
        leader = self.exchange.leader(state.tp)
        if leader == NO_LEADER:
            self.exchange.refresh_soon(now_ms)
            state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            return
        if batch.payload is None:
            self._seal(state, batch)
            view = self.exchange.topics[state.tp.topic]
            self._sticky[state.tp.topic].move_on(state.tp.partition, len(view.leaders))
        request = ProduceRequest(
            acks=self.settings.acks,
            timeout_ms=self.settings.request_ms,
            topic_data=[
                TopicProduceData(
                    name=state.tp.topic,
                    partition_data=[
                        PartitionProduceData(index=state.tp.partition, records=batch.payload)
                    ],
                )
            ],
        )
        if self.settings.acks == 0:
            self.exchange.tell(leader, request, PRODUCE_VERSION)
            self._delivered(state, -1)
            if now_ms - self._looked_at_ms >= UNTOLD_MS:
                # Whoever is no leader any more does not say so: it answers nothing.
                self._looked_at_ms = now_ms
                self.exchange.refresh(now_ms)
            return
        state.in_flight = True
        self.exchange.ask(
            leader,
            request,
            PRODUCE_VERSION,
            ProduceResponse,
            lambda response, now_ms: self._answered(state, response, now_ms),
            now_ms=now_ms,
            # The broker gives up first, so that its answer says what became of the batch.
            timeout_ms=self.settings.request_ms + 1000,
        )

    def _seal(self, state: _Partition, batch: _Batch) -> None:
        sequence = -1
        if self._is_idempotent:
            if state.producer != self._producer_id:
                state.producer, state.next_sequence = self._producer_id, 0
            sequence = state.next_sequence
            # Sequences wrap at 2^31.
            state.next_sequence = (sequence + len(batch.entries)) & 0x7FFFFFFF
            batch.producer = self._producer_id
        batch.payload = build_batch(
            [
                Record(entry.value, entry.key, entry.headers, entry.timestamp_ms)
                for entry in batch.entries
            ],
            compression=self.settings.compression,
            producer_id=self._producer_id if self._is_idempotent else -1,
            producer_epoch=self._producer_epoch if self._is_idempotent else -1,
            base_sequence=sequence,
        )

    def _answered(self, state: _Partition, response: ProduceResponse | None, now_ms: int) -> None:
        state.in_flight = False
        if response is None:
            self.exchange.try_another()
            self.exchange.refresh(now_ms)
            state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            self.pump(now_ms)
            return
        answer = response.responses[0].partition_responses[0]
        code = ErrorCode(answer.error_code)
        if code == ErrorCode.NONE:
            self._delivered(state, answer.base_offset)
        elif code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            self._delivered(state, -1)
        elif code in ASK_AGAIN:
            self._put_off(state, answer, code, now_ms)
        else:
            self._give_up(state, code, answer.error_message or code.name)
        self.pump(now_ms)

    def _put_off(
        self, state: _Partition, answer: PartitionProduceResponse, code: ErrorCode, now_ms: int
    ) -> None:
        leader = answer.current_leader
        if code in NOT_THE_LEADER and self.exchange.heard(
            state.tp, leader.leader_id, leader.leader_epoch
        ):
            return
        state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
        if code in NOT_THE_LEADER:
            self.exchange.refresh(now_ms)

    def _delivered(self, state: _Partition, base_offset: int) -> None:
        batch = state.batches.popleft()
        self.buffered_bytes -= batch.size
        self.events.append(Delivered(state.tp, base_offset, len(batch.entries)))

    def _give_up(self, state: _Partition, code: ErrorCode, message: str) -> None:
        batch = state.batches.popleft()
        self.buffered_bytes -= batch.size
        self.events.append(
            Failed(state.tp.topic, state.tp.partition, len(batch.entries), code, message)
        )
        if batch.producer == self._producer_id and batch.payload is not None:
            # Its sequences may or may not be taken: nothing can follow them.
            self._producer_id = NO_PRODUCER

    # --- producer id

    def _ask_producer_id(self, now_ms: int) -> None:
        if self._asking_producer_id:
            return
        if now_ms < self._producer_id_at_ms:
            return
        self._asking_producer_id = True
        self.exchange.ask(
            self.exchange.any_broker(),
            InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0x7FFFFFFF),
            INIT_PRODUCER_ID_VERSION,
            InitProducerIdResponse,
            self._got_producer_id,
            now_ms=now_ms,
        )

    def _got_producer_id(self, response: InitProducerIdResponse | None, now_ms: int) -> None:
        self._asking_producer_id = False
        if response is None or response.error_code:
            self.exchange.try_another()
            self._producer_id_at_ms = now_ms + self.exchange.patience.backoff_ms
            self.exchange.later(self._producer_id_at_ms, self.pump)
            return
        self._producer_id, self._producer_epoch = response.producer_id, response.producer_epoch
        for state in self._partitions.values():
            state.waits_until_ms = now_ms
        self.pump(now_ms)


def _why_no_topic(topic: str, code: ErrorCode) -> str:
    match code:
        case ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return f"there is no topic {topic}"
        case ErrorCode.INVALID_TOPIC_EXCEPTION:
            return f"{topic!r} cannot be the name of a topic"
    return f"topic {topic} is not there: {code.name}"
