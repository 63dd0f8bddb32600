"""What becomes of produced records: batch by batch inside, record by record for who sent them.

    Delivery(batch, index)  --looks at-->  Batch.outcome: None, Delivered or Failed

A record costs one small object here; offsets are counted from the batch's first when asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kcluster.core.client.exchange import TopicView
from kcluster.core.client.partitioner import StickyPartitions
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.records import BatchBuilder, Header

NO_PRODUCER: Final = -1


@dataclass(frozen=True, slots=True)
class Delivered:
    """Acknowledged. Offsets are base_offset and up; -1 when the broker did not say (acks=0, or
    a duplicate that it no longer knows the place of)."""

    tp: TopicPartition
    base_offset: int
    count: int


@dataclass(slots=True)
class Failed:
    """Given up. Whether it was written is certain only if the code says so."""

    topic: str
    partition: int
    count: int
    code: ErrorCode
    message: str
    is_told: bool = field(default=False, compare=False)
    """Somebody has looked at it."""


class Batch:
    """Records of one partition that go out together."""

    __slots__ = (
        "buffered", "builder", "callbacks", "closes_at_ms", "count", "deadline_ms", "outcome",
        "payload", "producer", "tp",
    )  # fmt: skip

    def __init__(self, tp: TopicPartition, closes_at_ms: int, deadline_ms: int) -> None:
        self.tp = tp
        self.builder: BatchBuilder | None = BatchBuilder()
        self.buffered = 0
        self.closes_at_ms = closes_at_ms
        self.deadline_ms = deadline_ms
        """Of its first record."""
        self.count = 0
        self.payload: bytearray | None = None
        """The bytes as sent: once made they never change."""
        self.producer = NO_PRODUCER
        self.outcome: Delivered | Failed | None = None
        self.callbacks: list[tuple[Callable[[Delivery], None], Delivery]] = []

    def end(self, outcome: Delivered | Failed) -> None:
        self.outcome = outcome
        # Whoever still looks at a record's fate shall not keep its bytes.
        self.builder = self.payload = None


class Delivery:
    """What becomes of one record."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch | None, index: int) -> None:
        self._batch = batch
        """None while the partitions of the topic are not known."""
        self._index = index

    @property
    def is_done(self) -> bool:
        """Acknowledged, or given up."""
        return self._batch is not None and self._batch.outcome is not None

    @property
    def error(self) -> ApiError | None:
        """Why it was given up; None while that is not so."""
        outcome = self._batch.outcome if self._batch is not None else None
        if not isinstance(outcome, Failed):
            return None
        outcome.is_told = True
        return ApiError(outcome.code, outcome.message)

    @property
    def tp(self) -> TopicPartition | None:
        """None while it is not known."""
        return self._batch.tp if self._batch is not None and self._batch.tp.partition >= 0 else None

    @property
    def offset(self) -> int:
        """-1 while it is not known, or when the broker did not say (acks=0)."""
        outcome = self._batch.outcome if self._batch is not None else None
        if not isinstance(outcome, Delivered) or outcome.base_offset < 0:
            return -1
        return outcome.base_offset + self._index

    def placed(self, batch: Batch, index: int) -> None:
        """It is this record of this batch."""
        self._batch, self._index = batch, index


@dataclass(slots=True)
class Waiting:
    """A record of a topic whose partitions are not known yet."""

    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    timestamp_ms: int
    deadline_ms: int
    size: int
    delivery: Delivery
    on_delivery: Callable[[Delivery], None] | None


@dataclass(slots=True)
class PartitionState:
    tp: TopicPartition
    batches: deque[Batch] = field(default_factory=deque)
    """Oldest first; the last may still be open."""
    in_flight: bool = False
    waits_until_ms: int = 0
    producer: int = NO_PRODUCER
    """The producer id that `next_sequence` belongs to."""
    next_sequence: int = 0


@dataclass(slots=True)
class TopicState:
    view: TopicView
    sticky: StickyPartitions = field(default_factory=StickyPartitions)
    partitions: dict[int, PartitionState] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)


def why_no_topic(topic: str, code: ErrorCode) -> str:
    match code:
        case ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return f"there is no topic {topic}"
        case ErrorCode.INVALID_TOPIC_EXCEPTION:
            return f"{topic!r} cannot be the name of a topic"
    return f"topic {topic} is not there: {code.name}"
