"""What may leave a log at its start: what was asked for, what is old enough, what is too much.

    ask, may_age, may_outgrow     what somebody is about to ask for
    start_moved                   the log start of a replica that is counted on is higher than any
                                  was: is that on purpose?

Kafka's rules: nothing at or above the high watermark; a segment once its largest timestamp is
older than `retention.ms`; the oldest while what is left is at least `retention.bytes`. Configs
change while it runs, so each rule is that of the lowest value that there ever was.

Source: KIP-107 (DeleteRecords).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kcluster.check.seen import BatchSeen, ReplicaSeen, require
from kcluster.model import TopicPartition

NEVER = 1 << 62
ANY_SIZE = NEVER - 1
"""Of a log whose write failed since: what was undone counted for its retention."""
DELETED_RECORDS = 20
"""The number under which violations are told."""


@dataclass(slots=True)
class Deletions:
    starts: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """Highest log start that is on purpose, by topic id and partition."""
    _late: set[tuple[int, bytes, int]] = field(default_factory=set)
    """By broker, topic id and partition: replicas that may lack their beginning."""
    _asked: dict[TopicPartition, int] = field(default_factory=dict)
    _retention_ms: dict[str, int] = field(default_factory=dict)
    _retention_bytes: dict[str, int] = field(default_factory=dict)

    # --- what is asked for ----------------------------------------------------------------

    def may_age(self, topic: str, retention_ms: int) -> None:
        self._retention_ms[topic] = min(self._retention_ms.get(topic, NEVER), retention_ms)

    def may_outgrow(self, topic: str, retention_bytes: int) -> None:
        lowest = min(self._retention_bytes.get(topic, NEVER), retention_bytes)
        self._retention_bytes[topic] = lowest

    def ask(self, tp: TopicPartition, offset: int) -> None:
        """DeleteRecords below `offset` is about to be sent; -1: below the high watermark."""
        self._asked[tp] = max(self._asked.get(tp, 0), offset if offset >= 0 else NEVER)

    # --- what happened --------------------------------------------------------------------

    def start(self, topic_id: bytes, partition: int) -> int:
        return self.starts.get((topic_id, partition), 0)

    def start_moved(
        self, seen: ReplicaSeen, committed: Sequence[BatchSeen], wall_ms: int, *,
        is_counted_on: bool = True, has_lost: bool = False,
    ) -> None:  # fmt: skip
        """`committed`: all batches of the partition that ever were; `wall_ms`: the replica's
        clock.

        A power cut or damage (`has_lost`) may take a first segment, which is no deletion: such a
        log begins afresh with its leader, before it is in an ISR or ELR (`is_counted_on`)."""
        key = seen.topic_id, seen.tp.partition
        replica = seen.broker, *key
        if is_counted_on or seen.is_leader:
            self._late.discard(replica)
        elif has_lost:
            self._late.add(replica)
        if replica in self._late:
            return
        start, before = seen.log_start_offset, self.starts.get(key, 0)
        if start <= before:
            return
        end = committed[-1].last_offset + 1 if committed else 0
        where = f"{seen.tp} on broker {seen.broker} from {before} to {start}"
        require(
            start <= end, DELETED_RECORDS, "only what is committed is deleted",
            f"{where}, committed is {end}",
        )  # fmt: skip
        self.starts[key] = start
        topic = seen.tp.topic
        if start <= self._asked.get(seen.tp, 0) or seen.is_compacted:
            # Compaction may have taken the records that a segment would be too young with.
            return
        is_small = seen.size_bytes < self._retention_bytes.get(topic, NEVER)
        oldest_ms = wall_ms - self._retention_ms.get(topic, NEVER)
        for batch in committed:
            if before <= batch.last_offset < start:
                require(
                    batch.max_timestamp < oldest_ms or not is_small, DELETED_RECORDS,
                    "what is deleted is old, too much, or unwanted",
                    lambda batch=batch: f"{where}: {batch}, the clock is {wall_ms}",  # type: ignore[misc]
                )  # fmt: skip
