"""Where a log's files begin and end: roll, truncation, and the undoing of what failed to be
written.

The order of disk operations leaves a sound log behind each of them: later segments go before an
earlier one is cut, and indexes go before the log that they point into.

What was cut off is still on the platter, and a power loss brings it back. That is harmless as long
as nothing was written in its place: else the files of one log are of two histories, and no epoch
tells. So each cut asks for a sync, and a follower goes on when that has ended (`cut_sync` of the
log); who is elected meanwhile does not wait.

Functions over a PartitionLog, called by it and by `retention`.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from kcluster.core import traces
from kcluster.core.log.producers import Producers
from kcluster.core.log.scan import Header
from kcluster.core.log.segment import SNAPSHOT, Segment, file_name
from kcluster.core.turn import Delete, Replace, Truncate, Turn
from kcluster.errors import CorruptLogError
from kcluster.wire.records import HEADER, LENGTH_OVERHEAD

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog


def roll(log: PartitionLog, turn: Turn, *, creates_file: bool = False) -> Segment:
    """Seal the active segment and start one at the log end. Its file comes to be with the first
    append, unless none is near.

    The sealed segment is synced, so that a crash scans no more than the last one or two.
    """
    sealed = log.chain.active
    sealed.write_indexes(turn)
    log.take_snapshot(turn)
    log.sync_segment(turn, sealed)
    segment = Segment(log.files, log.directory, log.log_end_offset, log.config, turn.wall_ms)
    log.chain.add(segment)
    if log.note_log_start is not None:
        log.note_log_start(log)
    if creates_file:
        turn.disk.append(Replace(segment.path, b""))
    turn.trace(traces.SegmentRolled(log.tp.topic, log.tp.partition, segment.base_offset))
    return segment


def truncate_to(log: PartitionLog, turn: Turn, offset: int) -> None:
    if offset >= log.log_end_offset:
        return
    if offset < log.log_start_offset:
        truncate_fully(log, turn, offset)
        return
    number = log.chain.locate(offset)
    segment = log.chain.items[number]
    # Everything that may find the disk damaged comes before anything changes.
    position, end_offset = _find_cut(log, segment, offset)
    log.cancel_compaction(turn)
    _lower_recovery_point(log, turn, end_offset)
    while len(log.chain) > number + 1:
        _delete_files(turn, log.chain.drop_last())
    _cut_active(turn, segment, position, end_offset)
    log.log_end_offset = end_offset
    # The log start may lie in the middle of the batch that went.
    log.log_start_offset = min(log.log_start_offset, end_offset)
    log.written_end = min(log.written_end, end_offset)
    log.flushed_end = min(log.flushed_end, end_offset)
    log.forget_staged(segment)
    _follow_cut(log, turn)
    sync_cut(log, turn)


def truncate_fully(
    log: PartitionLog, turn: Turn, start_offset: int, producers: Producers | None = None
) -> None:
    log.cancel_compaction(turn)
    _lower_recovery_point(log, turn, start_offset)
    segment = Segment(log.files, log.directory, start_offset, log.config, turn.wall_ms)
    for old in reversed(log.chain.items):
        _delete_files(turn, old)
    # An empty file keeps the start offset over a restart.
    turn.disk.append(Replace(segment.path, b""))
    log.chain = type(log.chain)(segment)
    log.log_start_offset = log.log_end_offset = log.first_dirty_offset = start_offset
    log.written_end = log.flushed_end = start_offset
    log.forget_staged(segment, is_emptied=True)
    if log.epochs.clear():
        log.save_epochs(turn)
    log.last_epoch = -1
    if log.note_log_start is not None:
        log.note_log_start(log)
    drop_snapshots(log, turn, -1)
    log.producers = producers or Producers()
    if len(log.producers):
        # Nothing else on this disk tells of them.
        write_snapshot(log, turn, start_offset, log.producers, durable=True)
    sync_cut(log, turn)


def sync_cut(log: PartitionLog, turn: Turn) -> None:
    """Of the file that was cut, and of the names that went with it."""
    log.cut_sync = log.start_sync(turn, log.chain.active.path)


def undo_staged(log: PartitionLog, turn: Turn) -> None:
    """Back to the written end, in memory and on disk: a short write may have left a part."""
    end_offset = log.written_end
    while len(log.chain) > 1 and log.chain.active.base_offset >= end_offset:
        _delete_files(turn, log.chain.drop_last())
    active = log.chain.active
    _cut_active(turn, active, active.written_size, end_offset)
    log.log_end_offset = end_offset
    log.high_watermark = min(log.high_watermark, end_offset)
    _follow_cut(log, turn)


def _find_cut(log: PartitionLog, segment: Segment, offset: int) -> tuple[int, int]:
    """(position, offset) of the batch that holds `offset`, staged or written."""
    if offset > log.written_end:
        staged = segment.staged_find(offset)
        if staged is not None:
            return staged
    return segment.find(offset)


def _cut_active(turn: Turn, segment: Segment, position: int, end_offset: int) -> None:
    if segment.has_index_files:
        turn.disk.append(Delete(segment.index_path))
        turn.disk.append(Delete(segment.time_index_path))
    segment.truncate(position, end_offset)
    segment.has_index_files = False
    # A file of no bytes is put in place: it may not have come to be.
    turn.disk.append(Truncate(segment.path, position) if position else Replace(segment.path, b""))


def _follow_cut(log: PartitionLog, turn: Turn) -> None:
    """Epochs, snapshots and producers follow the log to its new end."""
    end_offset = log.log_end_offset
    log.first_dirty_offset = min(log.first_dirty_offset, end_offset)
    if log.epochs.truncate_from_end(end_offset):
        log.save_epochs(turn)
    log.last_epoch = (
        log.epochs.epoch_of(end_offset - 1) if end_offset > log.log_start_offset else -1
    )
    drop_snapshots(log, turn, end_offset)
    if log.producers.reaches(end_offset):
        rebuild_producers(log)


def _lower_recovery_point(log: PartitionLog, turn: Turn, offset: int) -> None:
    is_told = offset < max(log.flushed_end, log.log_start_offset, log.high_watermark)
    if is_told and log.lower_recovery_point is not None:
        log.lower_recovery_point(turn, log, offset)


def _delete_files(turn: Turn, segment: Segment) -> None:
    """At once: nobody reads what is cut off. Spans on their way hold their file open."""
    turn.disk.append(Delete(segment.index_path))
    turn.disk.append(Delete(segment.time_index_path))
    turn.disk.append(Delete(segment.path))


def write_snapshot(
    log: PartitionLog, turn: Turn, offset: int, producers: Producers, *, durable: bool = False
) -> None:
    """What is known of the producers of all batches below `offset`."""
    path = f"{log.directory}/{file_name(offset, SNAPSHOT)}"
    turn.disk.append(Replace(path, producers.encode(), durable))
    if offset not in log.snapshots:
        bisect.insort(log.snapshots, offset)


def drop_snapshots(log: PartitionLog, turn: Turn, end_offset: int) -> None:
    """Those behind `end_offset` describe a log that is no more."""
    while log.snapshots and log.snapshots[-1] > end_offset:
        name = file_name(log.snapshots.pop(), SNAPSHOT)
        turn.disk.append(Delete(f"{log.directory}/{name}"))


def rebuild_producers(log: PartitionLog) -> None:
    """From the newest snapshot that can be read, and the batches behind it."""
    producers, offset = Producers(), log.log_start_offset
    for candidate in reversed(log.snapshots):
        if candidate > log.log_end_offset or candidate < log.chain.bases[0]:
            continue
        path = f"{log.directory}/{file_name(candidate, SNAPSHOT)}"
        try:
            producers = Producers.decode(log.files.read(path, 0, max(log.files.size(path), 0)))
        except CorruptLogError:
            # Not there yet, or damaged: an older one and more batches tell the same.
            continue
        offset = candidate
        break
    else:
        offset = log.chain.bases[0]
    log.producers = producers
    end_offset = min(log.written_end, log.log_end_offset)
    for segment in log.chain.items[log.chain.locate(offset) :]:
        if offset >= end_offset:
            break
        start, _ = segment.find(max(offset, segment.base_offset))
        for _, header in segment.headers(start, segment.written_size):
            if header[0] >= end_offset:
                break
            if header[9] >= 0 and header[0] >= offset:
                log.replay_producer(header)
    for header in _staged_headers(log):
        if header[9] >= 0 and offset <= header[0] < log.log_end_offset:
            log.replay_producer(header)


def _staged_headers(log: PartitionLog) -> list[Header]:
    """Of batches that the turn is to write and that are still part of the log, below its end."""
    headers: list[Header] = []
    for buffer in log.staged_buffers():
        position = 0
        while position < len(buffer):
            header: Header = HEADER.unpack_from(buffer, position)
            while headers and headers[-1][0] >= header[0]:
                # Cut off in this turn, and others were appended in their place.
                headers.pop()
            headers.append(header)
            position += header[1] + LENGTH_OVERHEAD
    return headers
