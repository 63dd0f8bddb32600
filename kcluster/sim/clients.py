"""Simulated clients: they speak real Kafka frames, retry as real clients do, and keep a history.

A client's life is a generator that yields what it waits for and is sent the outcome:

    response = yield Call(broker, request, version)     the response, or None: nobody knows
    responses = yield [Call, Call, ...]                 pipelined on one connection
    yield Sleep(100)

A call that is not answered in time ends its connection, as in Kafka's own clients: a reply that
comes after that is for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from kcluster.check.history import FAIL, OK, History, Sent
from kcluster.core.client.exchange import broker_of_lane
from kcluster.errors import ErrorCode
from kcluster.model import ZERO_TOPIC_ID, TopicId, TopicPartition
from kcluster.sim.cluster import SimCluster
from kcluster.sim.process import Asked
from kcluster.sim.scheduler import MS
from kcluster.sim.world import WALL_START_MS
from kcluster.wire import frame as framing
from kcluster.wire.apis import APIS
from kcluster.wire.message import Message, decode
from kcluster.wire.messages import init_producer_id as ipi
from kcluster.wire.messages import metadata as m
from kcluster.wire.messages import produce as p
from kcluster.wire.records import Record, build_batch

TOMBSTONES = 0.15
"""Part of the keyed records that delete their key."""
REQUEST_TIMEOUT_MS = 5_000
RETRY_BACKOFF_MS = 50


@dataclass(slots=True)
class Call:
    broker: int
    request: Message
    version: int
    timeout_ms: int = REQUEST_TIMEOUT_MS
    is_answered: bool = True
    """False for Produce with acks=0."""


@dataclass(slots=True)
class Sleep:
    ms: int


Step = Call | Sleep | list[Call]
Life = Generator[Step, Any, Any]


@dataclass(slots=True)
class _Waiting:
    call: Call
    done: Callable[[Any], None]
    decoded: tuple[bytes, Any] = b"", None
    """A frame that was seen leaving, and what it says."""


class SimClient:
    """Connections, correlation ids, timeouts, and a metadata cache."""

    def __init__(self, cluster: SimCluster, name: str, history: History) -> None:
        self.cluster = cluster
        self.name = name
        self.history = history
        self.random = cluster.random(f"client {name}")
        self.leaders: dict[TopicPartition, int] = {}
        self.leader_epochs: dict[TopicPartition, int] = {}
        """The highest that it was told of."""
        self.topic_ids: dict[str, TopicId] = {}
        self.is_stopped = False
        self.running = 0
        """Lives that have not ended."""
        self.leaving: Callable[[Message, Message, Asked], None] | None = None
        """Told (request, response, which) of each reply as it leaves the broker."""
        self.surprises: list[str] = []
        """Errors that must not happen within the fault contract."""
        self.buried: frozenset[TopicId] = frozenset()
        """Topics that it knows to be deleted, whatever a broker that is cut off tells."""
        self._connections: dict[int, int] = {}
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._correlation = 0

    # --- the trampoline -------------------------------------------------------------------

    def live(self, life: Life) -> None:
        self.running += 1
        self._go(life, None)

    def _go(self, life: Life, outcome: Any) -> None:
        try:
            step = life.send(outcome)
        except StopIteration:
            self.running -= 1
            return
        if isinstance(step, Sleep):
            self.cluster.scheduler.after(step.ms * MS, lambda: self._go(life, None))
        elif isinstance(step, Call):
            self.call(step, lambda response: self._go(life, response))
        else:
            self._call_all(step, life)

    def _call_all(self, calls: list[Call], life: Life) -> None:
        outcomes: list[Any] = [None] * len(calls)
        left = len(calls)

        def done(index: int, outcome: Any) -> None:
            nonlocal left
            outcomes[index] = outcome
            left -= 1
            if left == 0:
                self._go(life, outcomes)

        for index, call in enumerate(calls):
            self.call(call, lambda outcome, index=index: done(index, outcome))  # type: ignore[misc]

    def call(self, call: Call, done: Callable[[Any], None]) -> None:
        connection = self._connections.get(call.broker)
        if connection is None:
            connection = self.cluster.connections.connect(broker_of_lane(call.broker), self)
            if connection is None:
                self.cluster.scheduler.after(MS, lambda: done(None))
                return
            self._connections[call.broker] = connection
        self._correlation += 1
        correlation = self._correlation
        if call.is_answered:
            self._waiting[connection, correlation] = _Waiting(call, done)
        else:
            self.cluster.scheduler.after(MS, lambda: done(None))
        parts = framing.request_frame(call.request, call.version, correlation, self.name)
        data = b"".join(parts)
        self.cluster.connections.request(connection, data[4:])
        self.cluster.scheduler.after(
            call.timeout_ms * MS, lambda: self._timed_out(connection, correlation)
        )

    def _timed_out(self, connection: int, correlation: int) -> None:
        if (connection, correlation) in self._waiting:
            self._close(connection)

    def _close(self, connection: int) -> None:
        self.cluster.connections.hang_up(connection)
        self.closed(connection)

    def drop(self, broker: int) -> None:
        """Close the connection to this one; the next call opens another."""
        connection = self._connections.get(broker)
        if connection is not None:
            self._close(connection)

    def hang_up(self) -> None:
        """As a process that was killed: its connections close, nobody hears an answer."""
        for connection in list(self._connections.values()):
            self.cluster.connections.hang_up(connection)
        self._connections.clear()
        self._waiting.clear()

    # --- ClientEnd ------------------------------------------------------------------------

    def replied(self, connection: int, frame: bytes) -> None:
        waiting, response = self._decode(connection, frame)
        if waiting is not None:
            del self._waiting[connection, int.from_bytes(frame[:4], "big")]
            waiting.done(response)

    def sees_leaving(self, connection: int, frame: bytes) -> None:
        if self.leaving is not None:
            waiting, response = self._decode(connection, frame)
            if waiting is not None:
                which = connection, int.from_bytes(frame[:4], "big")
                self.leaving(waiting.call.request, response, which)

    def _decode(self, connection: int, frame: bytes) -> tuple[_Waiting | None, Any]:
        waiting = self._waiting.get((connection, int.from_bytes(frame[:4], "big")))
        if waiting is None:
            return None, None
        if waiting.decoded[0] is not frame:
            key, version = waiting.call.request.KEY, waiting.call.version
            _, position = framing.parse_response_header(frame, key, version)
            waiting.decoded = frame, decode(APIS[key].response, frame, version, position)
        return waiting, waiting.decoded[1]

    def closed(self, connection: int) -> None:
        for broker, open in list(self._connections.items()):
            if open == connection:
                del self._connections[broker]
        for key in [key for key in self._waiting if key[0] == connection]:
            self._waiting.pop(key).done(None)

    # --- metadata -------------------------------------------------------------------------

    def some_broker(self) -> int:
        return self.random.choice(self.cluster.broker_ids)

    def refresh(self, topic: str) -> Generator[Step, Any, None]:
        """Ask any broker; what nobody answers changes nothing."""
        response = yield Call(self.some_broker(), metadata_request(topic), 12, 1000)
        if response is None:
            return
        for told in response.topics:
            if told.error_code or told.name is None or told.topic_id in self.buried:
                continue
            if self.topic_ids.get(told.name) != told.topic_id:
                self.topic_ids[told.name] = told.topic_id
                for tp in [tp for tp in self.leader_epochs if tp.topic == told.name]:
                    del self.leader_epochs[tp]
            for partition in told.partitions:
                tp = TopicPartition(told.name, partition.partition_index)
                if partition.leader_epoch < self.leader_epochs.get(tp, -1):
                    # KIP-320: a broker that is cut off tells what was long ago. A producer that
                    # went back to a leader of then would be told OUT_OF_ORDER_SEQUENCE_NUMBER.
                    continue
                self.leader_epochs[tp] = partition.leader_epoch
                if partition.leader_id >= 0:
                    self.leaders[tp] = partition.leader_id
                else:
                    self.leaders.pop(tp, None)

    def find_leader(self, tp: TopicPartition) -> Generator[Step, Any, int]:
        while tp not in self.leaders:
            yield from self.refresh(tp.topic)
            if tp not in self.leaders:
                yield Sleep(RETRY_BACKOFF_MS)
                if self.is_stopped:
                    return -1
        return self.leaders[tp]

    def forget_leader(self, tp: TopicPartition) -> None:
        self.leaders.pop(tp, None)


def metadata_request(topic: str) -> m.MetadataRequest:
    return m.MetadataRequest(
        topics=[m.MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
    )


# --- producers ------------------------------------------------------------------------------

RETRIABLE = frozenset(
    {
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.CORRUPT_MESSAGE,
    }
)
REFUSED = frozenset({ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.MESSAGE_TOO_LARGE})
"""Certainly not written, whoever sends it."""


@dataclass(slots=True)
class _Batch:
    sends: list[Sent]
    base_sequence: int


@dataclass(slots=True)
class Producer:
    """Sends to one partition; one life each. Idempotent ones pipeline and retry for ever (within
    `delivery_ms`), plain ones send once."""

    client: SimClient
    tp: TopicPartition
    acks: int = -1
    is_idempotent: bool = True
    in_flight: int = 3
    records_max: int = 3
    pause_ms: tuple[int, int] = (0, 30)
    delivery_ms: int = 120_000
    version: int = 9
    timeout_ms: int = 1500
    limit: int = 1_000_000
    keys: int = 0
    """How many keys there are to choose from; 0: records have none, and none deletes."""
    label: TopicPartition | None = None
    """What the history calls the partition, when that is not its name."""
    values: list[bytes] = field(default_factory=list)
    """What to send; drawn when empty."""
    producer_id: int = -1
    producer_epoch: int = -1
    next_sequence: int = 0
    sent: int = 0

    def life(self) -> Life:
        given = bool(self.values)
        while not self.client.is_stopped and self.sent < self.limit:
            if given and not self.values:
                return
            if self.is_idempotent and self.producer_id < 0:
                yield from self._init()
                continue
            count = self.client.random.randint(1, self.in_flight if self.is_idempotent else 1)
            window = [self._batch() for _ in range(count)]
            yield from self._deliver([batch for batch in window if batch.sends])
            yield Sleep(self.client.random.randint(*self.pause_ms))

    def _init(self) -> Generator[Step, Any, None]:
        request = ipi.InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        response = yield Call(self.client.some_broker(), request, 4)
        if response is not None and response.error_code == 0:
            self.producer_id = response.producer_id
            self.producer_epoch = response.producer_epoch
            self.next_sequence = 0
        else:
            yield Sleep(RETRY_BACKOFF_MS)

    def _batch(self) -> _Batch:
        client = self.client
        batch = _Batch([], self.next_sequence)
        for _ in range(client.random.randint(1, self.records_max)):
            if self.values:
                value = self.values.pop(0)
            elif self.limit <= self.sent:
                break
            else:
                value = f"{client.name}/{self.tp.partition}/{self.sent}".encode()
            self.sent += 1
            key = b"%d" % client.random.randrange(self.keys) if self.keys else None
            batch.sends.append(
                client.history.send(
                    client.name,
                    self.label or self.tp,
                    value,
                    self.acks,
                    is_idempotent=self.is_idempotent,
                    key=key,
                    is_tombstone=key is not None and client.random.random() < TOMBSTONES,
                )
            )
            if not self.values and self.records_max >= 1_000:
                break
        self.next_sequence += len(batch.sends)
        return batch

    def _deliver(self, window: list[_Batch]) -> Generator[Step, Any, None]:
        client = self.client
        deadline_ms = client.cluster.now_ms + self.delivery_ms
        while window:
            leader = yield from client.find_leader(self.tp)
            if leader < 0:
                return
            calls = [
                Call(leader, self._request(batch), self.version, 4000, self.acks != 0)
                for batch in window
            ]
            responses = yield calls
            kept: list[_Batch] = []
            for batch, response in zip(window, responses, strict=True):
                if not self._outcome(batch, response, is_first=not kept):
                    kept.append(batch)
            window = kept
            if not window or not self.is_idempotent:
                return
            client.forget_leader(self.tp)
            if client.cluster.now_ms > deadline_ms or client.is_stopped:
                # Nobody knows what became of them: a new producer id starts afresh.
                self.producer_id = -1
                return
            yield Sleep(RETRY_BACKOFF_MS)

    def _request(self, batch: _Batch) -> p.ProduceRequest:
        wall_ms = WALL_START_MS + self.client.cluster.now_ms
        records = build_batch(
            [
                Record(None if sent.is_tombstone else sent.value, sent.key, timestamp=wall_ms)
                for sent in batch.sends
            ],
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            base_sequence=batch.base_sequence if self.is_idempotent else -1,
        )
        topic = p.TopicProduceData(
            name=self.tp.topic,
            topic_id=self.client.topic_ids.get(self.tp.topic, ZERO_TOPIC_ID),
            partition_data=[p.PartitionProduceData(index=self.tp.partition, records=records)],
        )
        return p.ProduceRequest(acks=self.acks, timeout_ms=self.timeout_ms, topic_data=[topic])

    def _outcome(self, batch: _Batch, response: Any, *, is_first: bool) -> bool:
        """Whether nothing more is to be done about this batch."""
        if response is None:
            return False
        told = response.responses[0].partition_responses[0]
        code = told.error_code
        for sent in batch.sends:
            sent.error = ErrorCode(code).name if code else ""
        if code == ErrorCode.NONE:
            for index, sent in enumerate(batch.sends):
                sent.outcome = OK
                sent.offset = told.base_offset + index if told.base_offset >= 0 else -1
            return True
        if code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER and self.is_idempotent:
            for sent in batch.sends:
                sent.outcome = OK
            return True
        if self.is_idempotent:
            if code in RETRIABLE:
                return False
            if code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and not is_first:
                return False
            self.client.surprises.append(
                f"{self.tp}: sequence {batch.base_sequence} of producer {self.producer_id} "
                f"was answered with {ErrorCode(code).name}"
            )
            return False
        if code in REFUSED:
            for sent in batch.sends:
                sent.outcome = FAIL
        return True
