"""Which log is compacted next, and which of its segments.

    [ clean ][ dirty: compacted next ][ young | not flushed | above the high watermark ][ active ]
             ^ first dirty offset

A log is due when its dirty part is `min.cleanable.dirty.ratio` of the two, or when its oldest
dirty record is older than `max.compaction.lag.ms` (KIP-354); the dirtiest one goes first.
Nothing is touched that is newer than `min.compaction.lag.ms`, that is not committed, or that is
not durable: what replaces it will be, and must not be ahead of what is behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kcluster.config import LONG_MAX
from kcluster.core.log.compaction.job import Job, Source
from kcluster.core.log.segment import Segment
from kcluster.core.turn import Turn

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog


class Plan(NamedTuple):
    log: PartitionLog
    segments: list[Segment]
    """From the start of the log; the last of them is dirty."""
    first_dirty_offset: int
    dirty_ratio: float
    is_overdue: bool

    @property
    def is_due(self) -> bool:
        config = self.log.config
        return self.is_overdue or self.dirty_ratio >= config.min_cleanable_dirty_ratio

    def job(self, number: int, wall_ms: int, map_bytes: int) -> Job:
        log, config = self.log, self.log.config
        return Job(
            number,
            log.directory,
            [Source(s.base_offset, s.end_offset, s.size) for s in self.segments],
            self.first_dirty_offset,
            wall_ms,
            config.delete_retention_ms,
            config.segment_bytes,
            config.segment_index_bytes,
            config.index_interval_bytes,
            map_bytes,
            log.producers.ids(),
            log.epochs.entries(),
        )


def plan(log: PartitionLog, turn: Turn) -> Plan | None:
    """None when there is nothing to do, or nothing that may be done. Asks for the sync that a
    segment waits for. Raises CorruptLogError."""
    if not log.config.is_compacted or log.failure or log.swap is not None:
        return None
    first_dirty = max(log.first_dirty_offset, log.chain.bases[0])
    segments: list[Segment] = []
    clean_bytes = dirty_bytes = 0
    for segment in log.chain.items[:-1]:
        if segment.end_offset > min(log.high_watermark, log.written_end):
            break
        if segment.end_offset > first_dirty and _is_young(log, segment, turn.wall_ms):
            break
        if segment.synced_end < segment.end_offset:
            log.sync_segment(turn, segment)
            break
        segments.append(segment)
        if segment.end_offset > first_dirty:
            dirty_bytes += segment.size
        else:
            clean_bytes += segment.size
    if not dirty_bytes:
        return None
    ratio = dirty_bytes / (clean_bytes + dirty_bytes)
    is_overdue = _is_overdue(log, segments, first_dirty, turn.wall_ms)
    return Plan(log, segments, first_dirty, ratio, is_overdue)


def _is_young(log: PartitionLog, segment: Segment, wall_ms: int) -> bool:
    lag_ms = log.config.min_compaction_lag_ms
    if not lag_ms:
        return False
    timestamp, _ = segment.largest_timestamp()
    # Records without timestamps age from when this incarnation first saw their segment.
    return wall_ms - (timestamp if timestamp >= 0 else segment.created_ms) < lag_ms


def _is_overdue(log: PartitionLog, segments: list[Segment], first_dirty: int, wall_ms: int) -> bool:
    lag_ms = log.config.max_compaction_lag_ms
    if lag_ms == LONG_MAX:
        return False
    for segment in segments:
        if segment.end_offset > first_dirty:
            segment.largest_timestamp()
            first = segment.first_timestamp
            return wall_ms - (first if first >= 0 else segment.created_ms) > lag_ms
    return False
