"""A producer without a socket: batching, sequences, retries.

    send(record) -> open batch -> closed when full or lingered -> in flight -> Delivered | Failed

One request carries a batch of each partition that a broker leads and that has one to send. One
batch of a partition is in flight at a time, so that order is kept without more ado, and
what is refused is sent again as it was: the same bytes, the same sequence, which the broker
recognises (KIP-98). A batch whose fate stays unknown, or that is given up, leaves a hole in the
sequence; the producer then takes a new producer id and starts over at 0.

Bounds: `buffer_bytes` of records not delivered yet (`is_full` asks the caller to wait), a
deadline for each record (`delivery_ms`), batches of at most `batch_bytes` unless one record is
larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kcluster.core.client.deliveries import (
    NO_PRODUCER,
    Batch,
    Delivered,
    Delivery,
    Failed,
    PartitionState,
    TopicState,
    Waiting,
    why_no_topic,
)
from kcluster.core.client.exchange import ASK_AGAIN, METADATA_VERSION, NOT_THE_LEADER, Exchange
from kcluster.core.client.partitioner import partition_of_key
from kcluster.errors import ErrorCode, RemoteProtocolError
from kcluster.model import NO_LEADER, TopicPartition
from kcluster.wire.compression import Compression
from kcluster.wire.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kcluster.wire.records import Header

__all__ = ["Delivered", "Delivery", "Failed", "ProducerCore", "ProducerSettings"]

PRODUCE_VERSION: Final = 10
INIT_PRODUCER_ID_VERSION: Final = 4

RECORD_OVERHEAD_BYTES: Final = 20
"""Estimate of what a record takes beside its key, value and headers."""

EVENTS_MAX: Final = 10_000
"""Batches whose fate is kept for a caller that does not ask for it."""

UNTOLD_MS: Final = 500
"""With acks=0, how long a record may go to a broker that leads its partition no more."""


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    acks: int = -1
    compression: Compression = Compression.NONE
    is_idempotent: bool = True
    """Only with acks=all."""
    linger_ms: int = 5
    batch_bytes: int = 65_536
    request_bytes: int = 1 << 20
    """Of one request, unless a single batch is larger."""
    buffer_bytes: int = 32 << 20
    delivery_ms: int = 60_000
    request_ms: int = 10_000


class ProducerCore:
    def __init__(self, exchange: Exchange, settings: ProducerSettings | None = None) -> None:
        self.settings = settings or ProducerSettings()
        self.exchange = exchange
        self.events: list[Delivered | Failed] = []
        """What became of records since the caller looked, batch by batch. Beyond EVENTS_MAX the
        oldest that were delivered are forgotten."""
        self.callbacks: list[tuple[Callable[[Delivery], None], Delivery]] = []
        """To be called by whoever drives this."""
        self.buffered_bytes = 0
        self._topics: dict[str, TopicState] = {}
        self._partitions: list[PartitionState] = []
        self._unplaced: set[str] = set()
        self._is_idempotent = self.settings.is_idempotent and self.settings.acks == -1
        self._producer_id = NO_PRODUCER
        self._producer_epoch = -1
        self._asking_producer_id = False
        self._producer_id_at_ms = 0
        self._looked_at_ms = 0
        """When Metadata was last asked for because of acks=0."""
        self._told: set[int] = set()
        """Brokers that were sent records with acks=0, and no question since."""
        self._wants_barriers = False
        self._barriers = 0
        """Such questions that are not answered yet."""
        exchange.on_metadata = self.pump

    @property
    def is_full(self) -> bool:
        return self.buffered_bytes >= self.settings.buffer_bytes

    @property
    def is_idle(self) -> bool:
        """Everything that was sent is delivered or has failed; with acks=0, once `flush` has been
        called, it has also reached the brokers."""
        return not (self.buffered_bytes or self._barriers or (self._wants_barriers and self._told))

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[Header] = (),
        *,
        partition: int | None = None,
        timestamp_ms: int,
        now_ms: int,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> Delivery:
        """Into the batch of its partition. The caller looks at `is_full` first."""
        known = self._topics.get(topic)
        if known is None:
            known = self._topics[topic] = TopicState(self.exchange.follow(topic, now_ms))
        delivery = Delivery(None, -1)
        if known.view.leaders and not known.waiting:
            self._place(
                known, topic, partition, key, value, headers, timestamp_ms, now_ms,
                now_ms + self.settings.delivery_ms, delivery, on_delivery,
            )  # fmt: skip
            return delivery
        size = RECORD_OVERHEAD_BYTES + len(key or b"") + len(value or b"")
        size += sum(len(name) + len(text or b"") for name, text in headers)
        waiting = Waiting(
            partition, key, value, headers, timestamp_ms, now_ms + self.settings.delivery_ms,
            size, delivery, on_delivery,
        )  # fmt: skip
        self.buffered_bytes += size
        known.waiting.append(waiting)
        self._unplaced.add(topic)
        return delivery

    def flush(self, now_ms: int) -> None:
        """Let nothing linger."""
        self._wants_barriers = True
        for state in self._partitions:
            if state.batches:
                state.batches[-1].closes_at_ms = min(state.batches[-1].closes_at_ms, now_ms)
        self.pump(now_ms)

    def next_deadline(self) -> int | None:
        deadlines = []
        for state in self._partitions:
            if state.batches and not state.in_flight:
                batch = state.batches[0]
                deadlines.append(
                    min(max(batch.closes_at_ms, state.waits_until_ms), batch.deadline_ms)
                )
        deadlines += [self._topics[topic].waiting[0].deadline_ms for topic in self._unplaced]
        exchange = self.exchange.next_deadline()
        if exchange is not None:
            deadlines.append(exchange)
        return min(deadlines, default=None)

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)
        self.pump(now_ms)

    def pump(self, now_ms: int) -> None:
        """Send what may be sent, give up what is too old."""
        if self._unplaced:
            self._place_waiting(now_ms)
        ready: dict[int, list[PartitionState]] = {}
        for state in self._partitions:
            if state.batches and not state.in_flight:
                leader = self._ready(state, now_ms)
                if leader is not None:
                    ready.setdefault(leader, []).append(state)
        for leader, states in ready.items():
            self._produce(leader, states, now_ms)
        if self._told and self._wants_barriers and not self.buffered_bytes:
            self._raise_barriers(now_ms)

    def _raise_barriers(self, now_ms: int) -> None:
        """With acks=0 nobody answers: a question behind the records shows that they have come,
        since a broker takes what comes over a connection in its order."""

        def passed(response: MetadataResponse | None, now_ms: int) -> None:
            self._barriers -= 1

        for leader in sorted(self._told):
            self._barriers += 1
            self.exchange.ask(
                leader, MetadataRequest(topics=[]), METADATA_VERSION, MetadataResponse, passed,
                now_ms=now_ms,
            )  # fmt: skip
        self._told.clear()
        self._wants_barriers = False

    # --- into batches

    def _place_waiting(self, now_ms: int) -> None:
        for topic in sorted(self._unplaced):
            known = self._topics[topic]
            view, waiting = known.view, known.waiting
            if view.leaders:
                self._unplaced.discard(topic)
                known.waiting = []
                for each in waiting:
                    self.buffered_bytes -= each.size
                    self._place(
                        known, topic, each.partition, each.key, each.value, each.headers,
                        each.timestamp_ms, now_ms, each.deadline_ms, each.delivery,
                        each.on_delivery,
                    )  # fmt: skip
                continue
            is_hopeless = view.error and view.error not in ASK_AGAIN
            is_missing = now_ms - view.missing_since_ms >= self.exchange.patience.topic_ms
            if is_hopeless or is_missing or waiting[0].deadline_ms <= now_ms:
                self._unplaced.discard(topic)
                known.waiting = []
                self.buffered_bytes -= sum(each.size for each in waiting)
                failed = Batch(TopicPartition(topic, -1), 0, 0)
                failed.count = len(waiting)
                for each in waiting:
                    each.delivery.placed(failed, 0)
                    if each.on_delivery is not None:
                        failed.callbacks.append((each.on_delivery, each.delivery))
                message = why_no_topic(topic, view.error)
                self._ended(failed, Failed(topic, -1, len(waiting), view.error, message))

    def _place(
        self,
        known: TopicState,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int,
        now_ms: int,
        deadline_ms: int,
        delivery: Delivery,
        on_delivery: Callable[[Delivery], None] | None,
    ) -> None:
        """For every record: no object but its bytes and its delivery is made here."""
        count = len(known.view.leaders)
        if partition is None:
            if key is not None:
                partition = partition_of_key(key, count)
            else:
                partition = known.sticky.choose(count)
        state = known.partitions.get(partition)
        if state is None:
            tp = TopicPartition(topic, partition)
            if partition not in known.view.leaders:
                message = f"topic {topic} has partitions 0 to {count - 1}"
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                refused = Batch(tp, 0, 0)
                delivery.placed(refused, 0)
                if on_delivery is not None:
                    refused.callbacks.append((on_delivery, delivery))
                self._ended(refused, Failed(topic, partition, 1, code, message))
                return
            state = known.partitions[partition] = PartitionState(tp)
            self._partitions.append(state)
        batches, limit = state.batches, self.settings.batch_bytes
        batch = batches[-1] if batches else None
        builder = batch.builder if batch is not None else None
        if builder is not None:
            size = RECORD_OVERHEAD_BYTES + len(value or b"") + len(key or b"")
            if headers:
                size += sum(len(name) + len(text or b"") for name, text in headers)
            if builder.size + size > limit:
                builder = None
        if batch is None or builder is None:
            if batch is not None:
                batch.closes_at_ms = min(batch.closes_at_ms, now_ms)
                known.sticky.move_on(partition, count)
            batch = Batch(state.tp, now_ms + self.settings.linger_ms, deadline_ms)
            batches.append(batch)
            builder = batch.builder
            assert builder is not None
        before = builder.size
        builder.append(timestamp_ms, key, value, headers)
        added = builder.size - before
        batch.buffered += added
        self.buffered_bytes += added
        delivery._batch = batch
        delivery._index = batch.count
        batch.count += 1
        if on_delivery is not None:
            batch.callbacks.append((on_delivery, delivery))
        if builder.size >= limit:
            batch.closes_at_ms = now_ms

    # --- out to the leader

    def _ready(self, state: PartitionState, now_ms: int) -> int | None:
        """Whom to send its first batch to, sealed; None when it has to wait."""
        batch = state.batches[0]
        while batch.deadline_ms <= now_ms:
            self._give_up(state, ErrorCode.REQUEST_TIMED_OUT, "not delivered in time")
            if not state.batches:
                return None
            batch = state.batches[0]
        if now_ms < batch.closes_at_ms or now_ms < state.waits_until_ms:
            return None
        if self._is_idempotent and self._producer_id == NO_PRODUCER:
            self._ask_producer_id(now_ms)
            state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            return None
        leader = self.exchange.leader(state.tp)
        if leader == NO_LEADER:
            self.exchange.refresh_soon(now_ms)
            state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            return None
        if batch.payload is None:
            self._seal(state, batch)
            known = self._topics[state.tp.topic]
            known.sticky.move_on(state.tp.partition, len(known.view.leaders))
        return leader

    def _produce(self, leader: int, states: list[PartitionState], now_ms: int) -> None:
        """One batch of each, in as few requests as their size allows."""
        while states:
            chosen: list[PartitionState] = []
            size = 0
            for state in states:
                payload = state.batches[0].payload
                assert payload is not None
                if chosen and size + len(payload) > self.settings.request_bytes:
                    break
                size += len(payload)
                chosen.append(state)
            states = states[len(chosen) :]
            self._ask_to_append(leader, chosen, now_ms)

    def _ask_to_append(self, leader: int, states: list[PartitionState], now_ms: int) -> None:
        topics: dict[str, TopicProduceData] = {}
        for state in states:
            name = state.tp.topic
            data = topics.get(name)
            if data is None:
                data = topics[name] = TopicProduceData(name=name, partition_data=[])
            data.partition_data.append(
                PartitionProduceData(index=state.tp.partition, records=state.batches[0].payload)
            )
        request = ProduceRequest(
            acks=self.settings.acks,
            timeout_ms=self.settings.request_ms,
            topic_data=list(topics.values()),
        )
        if self.settings.acks == 0:
            self.exchange.tell(leader, request, PRODUCE_VERSION)
            self._told.add(leader)
            for state in states:
                self._delivered(state, -1)
            if now_ms - self._looked_at_ms >= UNTOLD_MS:
                # Whoever is no leader any more does not say so: it answers nothing.
                self._looked_at_ms = now_ms
                self.exchange.refresh(now_ms)
            return
        for state in states:
            state.in_flight = True
        self.exchange.ask(
            leader,
            request,
            PRODUCE_VERSION,
            ProduceResponse,
            lambda response, now_ms: self._answered(states, response, now_ms),
            now_ms=now_ms,
            # The broker gives up first, so that its answer says what became of the batch.
            timeout_ms=self.settings.request_ms + 1000,
        )

    def _seal(self, state: PartitionState, batch: Batch) -> None:
        sequence = -1
        if self._is_idempotent:
            if state.producer != self._producer_id:
                state.producer, state.next_sequence = self._producer_id, 0
            sequence = state.next_sequence
            # Sequences wrap at 2^31.
            state.next_sequence = (sequence + batch.count) & 0x7FFFFFFF
            batch.producer = self._producer_id
        assert batch.builder is not None
        batch.payload = batch.builder.build(
            compression=self.settings.compression,
            producer_id=self._producer_id if self._is_idempotent else -1,
            producer_epoch=self._producer_epoch if self._is_idempotent else -1,
            base_sequence=sequence,
        )
        batch.builder = None

    def _answered(
        self, states: list[PartitionState], response: ProduceResponse | None, now_ms: int
    ) -> None:
        for state in states:
            state.in_flight = False
        if response is None:
            self.exchange.try_another()
            self.exchange.refresh(now_ms)
            for state in states:
                state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
            self.pump(now_ms)
            return
        answers = {
            (topic.name, answer.index): answer
            for topic in response.responses
            for answer in topic.partition_responses
        }
        for state in states:
            answer = answers.get(state.tp)
            if answer is None:
                raise RemoteProtocolError(f"an answer to Produce without {state.tp}")
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
        self, state: PartitionState, answer: PartitionProduceResponse, code: ErrorCode, now_ms: int
    ) -> None:
        leader = answer.current_leader
        if code in NOT_THE_LEADER and self.exchange.heard(
            state.tp, leader.leader_id, leader.leader_epoch
        ):
            return
        state.waits_until_ms = now_ms + self.exchange.patience.backoff_ms
        if code in NOT_THE_LEADER:
            self.exchange.refresh(now_ms)

    def _delivered(self, state: PartitionState, base_offset: int) -> None:
        batch = state.batches.popleft()
        self._ended(batch, Delivered(state.tp, base_offset, batch.count))

    def _give_up(self, state: PartitionState, code: ErrorCode, message: str) -> None:
        batch = state.batches.popleft()
        is_sealed = batch.payload is not None
        self._ended(batch, Failed(*state.tp, batch.count, code, message))
        if batch.producer == self._producer_id and is_sealed:
            # Its sequences may or may not be taken: nothing can follow them.
            self._producer_id = NO_PRODUCER

    def _ended(self, batch: Batch, outcome: Delivered | Failed) -> None:
        self.buffered_bytes -= batch.buffered
        batch.end(outcome)
        self.callbacks += batch.callbacks
        batch.callbacks = []
        self.events.append(outcome)
        if len(self.events) > EVENTS_MAX:
            older, newer = self.events[: EVENTS_MAX // 2], self.events[EVENTS_MAX // 2 :]
            failed: list[Delivered | Failed] = [each for each in older if isinstance(each, Failed)]
            self.events = failed[-EVENTS_MAX // 4 :] + newer

    # --- producer id

    def _ask_producer_id(self, now_ms: int) -> None:
        if self._asking_producer_id or now_ms < self._producer_id_at_ms:
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
        for state in self._partitions:
            state.waits_until_ms = now_ms
        self.pump(now_ms)
