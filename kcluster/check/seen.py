"""What is seen of a log and of a replica, and how a claim about it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from kcluster.model import TopicPartition


class InvariantViolated(AssertionError):
    def __init__(self, number: int | str, name: str, detail: str) -> None:
        which = f"invariant {number}" if isinstance(number, int) else number
        super().__init__(f"{which} ({name}): {detail}")
        self.number = number


def require(claim: bool, number: int | str, name: str, detail: str | Callable[[], str]) -> None:
    """`number`: of the table of invariants, or a rule of pushed streams ("rule 9"). A `detail`
    that costs something to say is made only when it is needed."""
    if not claim:
        raise InvariantViolated(number, name, detail if isinstance(detail, str) else detail())


class RecordSeen(msgspec.Struct, frozen=True, gc=False):
    """A record of a compacted log; `digest` is of its timestamp, value and headers."""

    offset: int
    key: bytes | None
    digest: int
    is_tombstone: bool


class BatchSeen(msgspec.Struct, frozen=True):
    """A record batch as it stands in a log; `digest` is of all its bytes."""

    base_offset: int
    last_offset: int
    leader_epoch: int
    digest: int
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    max_timestamp: int = -1
    """Milliseconds since the epoch, by the producer's clock."""
    records: tuple[RecordSeen, ...] = ()
    """Of a compacted log."""


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """A replica after a turn. Offsets exclusive where they are ends."""

    broker: int
    incarnation: int
    tp: TopicPartition
    topic_id: bytes
    is_leader: bool
    leader_epoch: int
    log_start_offset: int
    log_end_offset: int
    """Of what is written."""
    high_watermark: int
    isr: frozenset[int] = frozenset()
    """A leader's: the committed one, as it knows it."""
    maximal_isr: frozenset[int] = frozenset()
    min_isr: int = 1
    """min(min.insync.replicas, replication factor)."""
    is_compacted: bool = False
    compactions: int = 0
    """How often it has changed segments for compacted ones."""
    size_bytes: int = 0
    flushed_end: int = field(default=0, compare=False)
    """Below it a returned fsync covers the log."""
    partition_epoch: int = -1
    """A leader's: of the ISR that it believes in."""
    positions: tuple[Position, ...] = field(default=(), compare=False)
    """A leader's: its own, and what it believes of its followers."""
    producers_end: int = field(default=0, compare=False)
    """Exclusive end of the newest batch that the producer state knows."""
    producers: Mapping[int, int] | None = field(default=None, compare=False)
    """Last offset of each producer by its id, of a replica that is seen for the first time since
    its log was opened."""
    is_settled: bool = field(default=True, compare=False)
    """The turn was carried out to its end; otherwise its process died in the middle."""

    def __str__(self) -> str:
        return f"{self.tp} on broker {self.broker}"


class Position(msgspec.Struct, frozen=True, gc=False):
    """Of a replica, as its leader knows it."""

    broker: int
    incarnation: int
    log_end_offset: int
    has_stream: bool
