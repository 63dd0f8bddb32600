"""What leaves a log at its start: by age, by size, by DeleteRecords and snapshots.

Whole segments go, oldest first, and never one that reaches above the high watermark: what is not
committed yet may be all that is left of it. The active segment goes only when it has to with all
before it, and is rolled first, as Kafka does.

A file that goes is renamed to `*.deleted` at once and deleted after `file.delete.delay.ms`, by
then no reader should have it; recovery deletes what a crash left of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from kcluster.core import traces
from kcluster.core.log import cutting
from kcluster.core.log.segment import DELETED, SNAPSHOT, Segment, file_name
from kcluster.core.turn import Delete, Timer, Turn
from kcluster.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog


class DeletionDue(Timer, msgspec.Struct):
    """Files that were renamed to `*.deleted` may go. Its receiver calls `carry_out`; files that
    are gone, with their directory or since, do no harm."""

    paths: tuple[str, ...]

    def carry_out(self, turn: Turn) -> None:
        turn.disk.extend(Delete(path) for path in self.paths)


def advance_log_start(log: PartitionLog, turn: Turn, offset: int) -> None:
    if offset > log.high_watermark:
        raise ApiError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{log.tp}: {offset} is above the high watermark {log.high_watermark}",
        )
    if offset <= log.log_start_offset:
        return
    _delete_first(log, turn, ["log start"] * log.chain.locate(offset))
    _begin_at(log, turn, offset)


def apply_retention(log: PartitionLog, turn: Turn) -> list[int]:
    """Returns the base offsets of the segments that went."""
    if log.failure or not log.config.applies_retention:
        return []
    causes = _causes(log, turn.wall_ms)
    if not causes:
        return []
    if len(causes) == len(log.chain):
        cutting.roll(log, turn, creates_file=True)
    deleted = log.chain.bases[: len(causes)]
    _delete_first(log, turn, causes)
    _begin_at(log, turn, max(log.log_start_offset, log.chain.bases[0]))
    return deleted


def _causes(log: PartitionLog, wall_ms: int) -> list[str]:
    """Why they go, of each segment that does, oldest first."""
    causes: list[str] = []
    excess = log.size_bytes - log.config.retention_bytes
    for segment in log.chain:
        if not segment.size or segment.end_offset > min(log.high_watermark, log.written_end):
            break
        if _is_expired(log, segment, wall_ms):
            causes.append("retention.ms")
        elif log.config.retention_bytes >= 0 and excess >= segment.size:
            causes.append("retention.bytes")
        else:
            break
        excess -= segment.size
    return causes


def _is_expired(log: PartitionLog, segment: Segment, wall_ms: int) -> bool:
    retention_ms = log.config.retention_ms
    if retention_ms < 0:
        return False
    timestamp, _ = segment.largest_timestamp()
    # Records without timestamps age from when this incarnation first saw their segment.
    return wall_ms - (timestamp if timestamp >= 0 else segment.created_ms) > retention_ms


def _begin_at(log: PartitionLog, turn: Turn, offset: int) -> None:
    log.log_start_offset = offset
    if log.epochs.truncate_from_start(offset):
        log.save_epochs(turn)
    if log.note_log_start is not None:
        log.note_log_start(log)


def _delete_first(log: PartitionLog, turn: Turn, causes: Sequence[str]) -> None:
    """As many segments as there are causes; at least one stays."""
    if not causes:
        return
    log.cancel_compaction(turn)
    _keep_producers(log, turn, log.chain.bases[len(causes)])
    for cause in causes:
        segment = log.chain.drop_first()
        paths = [segment.path]
        if segment.has_index_files:
            paths += [segment.index_path, segment.time_index_path]
        for path in paths:
            turn.rename(path, path + DELETED)
        due = DeletionDue(tuple(path + DELETED for path in paths))
        turn.after(log.config.file_delete_delay_ms, due)
        if log.snapshots and log.snapshots[0] <= segment.base_offset:
            name = file_name(log.snapshots.pop(0), SNAPSHOT)
            turn.disk.append(Delete(f"{log.directory}/{name}"))
        # What lies behind may have been synced before: no sync will come that tells of it.
        log.flushed_end = log.chain.synced_from(max(log.flushed_end, segment.end_offset))
        turn.trace(
            traces.SegmentDeleted(
                log.tp.topic, log.tp.partition, segment.base_offset, segment.size, cause
            )
        )


def _keep_producers(log: PartitionLog, turn: Turn, offset: int) -> None:
    """What is known of producers from below `offset` is nowhere but in snapshots from now on: the
    one that a roll took may be torn by a power cut, this one not. Kafka's may."""
    producers = log.producers.below(offset)
    if len(producers):
        cutting.write_snapshot(log, turn, offset, producers, durable=True)
