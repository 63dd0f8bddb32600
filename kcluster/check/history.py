"""What clients saw: every send with one of three outcomes, every poll, and the logs at the end.

Outcomes are Jepsen's: `ok` was acknowledged, `fail` was certainly not written, `info` may or may
not have been written (a timeout, a lost connection). A send that is not known to be ok or fail
is info: nothing is ever concluded from it, except that it must not be there twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kcluster.check.groups import GroupHistory
from kcluster.model import TopicPartition

OK = "ok"
FAIL = "fail"
INFO = "info"


@dataclass(slots=True)
class Sent:
    producer: str
    tp: TopicPartition
    value: bytes
    """Unique within a history."""
    acks: int
    sequence: int
    """The order in which this producer sent to this partition, 0 up."""
    outcome: str = INFO
    offset: int = -1
    """Where the acknowledgement said it is; -1 when it did not."""
    is_idempotent: bool = True
    error: str = ""
    """The last error that it was answered with."""
    key: bytes | None = None
    is_tombstone: bool = False
    """It has no value on the wire: what deletes is judged by what is left of its key."""


@dataclass(frozen=True, slots=True)
class Polled:
    consumer: str
    tp: TopicPartition
    records: tuple[tuple[int, bytes], ...]
    """(offset, value), in the order in which they came."""


@dataclass(slots=True)
class History:
    sends: list[Sent] = field(default_factory=list)
    polls: list[Polled] = field(default_factory=list)
    logs: dict[TopicPartition, dict[int, list[tuple[int, bytes]]]] = field(default_factory=dict)
    """A full scan of each replica at the end: (offset, value) by broker."""
    groups: GroupHistory = field(default_factory=GroupHistory)
    compacted: dict[TopicPartition, dict[int, bytes]] = field(default_factory=dict)
    """Of partitions that are compacted, the key of every offset that was ever committed."""
    deleted: dict[TopicPartition, int] = field(default_factory=dict)
    """By partition, the offset below which records went on purpose: by retention, on request."""
    _sequences: dict[tuple[str, TopicPartition], int] = field(default_factory=dict)
    _last: dict[TopicPartition, dict[bytes, int]] = field(default_factory=dict)
    """Last offset of each key."""

    def send(
        self,
        producer: str,
        tp: TopicPartition,
        value: bytes,
        acks: int,
        *,
        is_idempotent: bool,
        key: bytes | None = None,
        is_tombstone: bool = False,
    ) -> Sent:
        sequence = self._sequences.get((producer, tp), 0)
        self._sequences[producer, tp] = sequence + 1
        sent = Sent(
            producer,
            tp,
            value,
            acks,
            sequence,
            is_idempotent=is_idempotent,
            key=key,
            is_tombstone=is_tombstone,
        )
        self.sends.append(sent)
        return sent

    def is_superseded(self, tp: TopicPartition, offset: int) -> bool:
        """Whether compaction may have taken what stood at `offset`: a later record has its key."""
        keys = self.compacted.get(tp)
        if keys is None:
            return False
        if offset not in keys:
            # Nobody was told where it stands.
            return offset < 0
        if tp not in self._last:
            self._last[tp] = {key: at for at, key in sorted(keys.items())}
        return self._last[tp][keys[offset]] > offset

    def is_gone(self, tp: TopicPartition, offset: int) -> bool:
        """Whether what stood at `offset` may be missing: deleted on purpose, or superseded. What
        was acknowledged without an offset (-1) may be anywhere."""
        return offset < self.deleted.get(tp, -1) or self.is_superseded(tp, offset)

    def poll(self, consumer: str, tp: TopicPartition, records: list[tuple[int, bytes]]) -> None:
        if records:
            self.polls.append(Polled(consumer, tp, tuple(records)))

    def counts(self) -> dict[str, int]:
        out = {OK: 0, FAIL: 0, INFO: 0}
        for sent in self.sends:
            out[sent.outcome] += 1
        return out
