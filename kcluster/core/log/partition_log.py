"""The log of one partition: the top of the ladder PartitionLog > Segment > OffsetIndex.

    log_start_offset <= high_watermark <= written_end <= log_end_offset
                          flushed_end <= written_end

An append is *staged*: checked, patched in place, put into the turn, and at once part of what the
next append follows. It is *written* when `write(2)` has returned (`written`), and only then read,
pushed or counted. A write that fails (`write_failed`) undoes the whole staged tail: log end,
segments, epochs, producers; the file is cut back, and the log takes no append ever again
(invariant 15): who knows what the disk holds now.

The hot path makes no object for a record and one struct call for a batch. Work that is rare
lives in files of its own, as functions over the log: `recovery`, `reading`, `cutting` (truncate,
roll, retention, deletion).
"""

from __future__ import annotations

import errno as errnos
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import msgspec

from kcluster.config import LogConfig
from kcluster.core.log import cutting, reading, recovery
from kcluster.core.log import retention as retaining
from kcluster.core.log.compaction.swap import Swap
from kcluster.core.log.leader_epochs import FILE_NAME as EPOCHS_FILE
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.producers import SEQUENCE_MASK, Producers
from kcluster.core.log.pushed import check_pushed
from kcluster.core.log.reading import ReadResult
from kcluster.core.log.recovery import Restart
from kcluster.core.log.scan import Header
from kcluster.core.log.segment import Segment
from kcluster.core.log.segments import Segments
from kcluster.core.log.validation import check_keys, validate
from kcluster.core.turn import Append, Buffer, Files, Replace, Sync, Synced, Turn
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.records import (
    CONTROL,
    HEADER,
    LENGTH_OVERHEAD,
    Record,
    build_batch,
    patch,
)

__all__ = ["Appended", "PartitionLog", "ReadResult", "Restart"]


class Appended(msgspec.Struct, frozen=True, gc=False):
    base_offset: int
    last_offset: int
    """Inclusive."""
    log_append_time: int
    """-1 unless message.timestamp.type is LogAppendTime."""
    log_start_offset: int
    is_duplicate: bool = False
    """Nothing was appended: these are the offsets of the batch that this is a copy of."""


class Staged(msgspec.Struct):
    """An append that the turn holds and where the log is when it has been written."""

    append: Append
    segment: Segment
    end_position: int
    end_offset: int


class SyncTarget(NamedTuple):
    segment: Segment
    end_offset: int


LowerRecoveryPoint = Callable[[Turn, "PartitionLog", int], None]


class PartitionLog:
    """Its files are below `directory`, relative to the root of `files`."""

    def __init__(
        self,
        tp: TopicPartition,
        directory: str,
        files: Files,
        config: LogConfig,
        *,
        lower_recovery_point: LowerRecoveryPoint | None = None,
        note_log_start: Callable[[PartitionLog], None] | None = None,
        sync_tokens: Iterator[int] | None = None,
    ) -> None:
        """`lower_recovery_point(turn, log, offset)` comes before a truncation below the recovery
        point or the log start: the checkpoints say `offset` first, or a crash between the two
        would look like a loss. `note_log_start(log)`: it moved, or there are more segments than
        one, and nobody would miss the first. `sync_tokens`: of all logs that may ever have the
        same paths."""
        self.tp = tp
        self.directory = directory
        self.files = files
        self.config = config
        self.lower_recovery_point = lower_recovery_point
        self.note_log_start = note_log_start
        self.log_start_offset = 0
        self.log_end_offset = 0
        """Exclusive end of what is staged: the offset of the next record."""
        self.written_end = 0
        """Exclusive end of what `write(2)` has taken."""
        self.flushed_end = 0
        """Exclusive end of what a returned fsync covers; the recovery point to checkpoint."""
        self.high_watermark = 0
        self.last_epoch = -1
        """Leader epoch of the last batch; -1 when there is none."""
        self.failure = ""
        """Why it takes no append any more; empty while it does."""
        self.failed_errno = 0
        self.is_damaged = False
        """It lacks what it has promised: the next start is to check all of it."""
        self.repairs: list[str] = []  # what recovery put right
        self.epochs = LeaderEpochs()
        self.producers = Producers()
        self.chain = Segments(Segment(files, directory, 0, config, 0))
        self.snapshots: list[int] = []
        """Offsets of the producer snapshots on disk, in order."""
        self.first_dirty_offset = 0
        """Below it no key stands twice."""
        self.swap: Swap | None = None
        """What compaction made, on its way into the chain."""
        self.compactions = 0
        self.losses = 0
        """How often segments went or were cut: what a compactor read before counts no more."""
        self.cut_sync = 0  # token of the sync of the latest cut, while it lasts: see `cutting`
        self._staged: list[Staged] = []
        """Appends of this turn that have not ended, in their order."""
        self._syncs: dict[int, SyncTarget] = {}
        """By token: what it will have made durable."""
        self._sync_tokens = sync_tokens or count(1)
        self._first_token = next(self._sync_tokens)
        """Below it are those of a namesake that was deleted."""
        self._last_flush_ms = 0

    def __repr__(self) -> str:
        return f"PartitionLog({self.tp}, {self.log_start_offset}..{self.log_end_offset})"

    # --- life -----------------------------------------------------------------------------

    def open(
        self,
        turn: Turn,
        restart: Restart,
        *,
        recovery_point: int = 0,
        log_start_offset: int = -1,
        high_watermark: int = 0,
        repair: bool = False,
    ) -> None:
        """Recover what is on disk; repairs are put into the turn. Once, before anything else.

        The offsets are of the checkpoints; log start -1: unknown. Raises CorruptLogError, with
        the turn as it was, when the log does not hold what it must; `repair` keeps the sound
        records before the damage."""
        run = recovery.Recovery(self, turn, restart, recovery_point, repair)
        run.run(log_start_offset, high_watermark)
        self._last_flush_ms = turn.now_ms

    def close(self, turn: Turn) -> None:
        """For a clean shutdown: indexes, producer snapshot, epoch cache, and a flush. When its
        `Synced` events are in, the recovery point to checkpoint is `flushed_end`."""
        if self.failure:
            return
        self.checkpoint(turn)
        if self.log_end_offset not in self.snapshots and len(self.producers):
            self.take_snapshot(turn)
        self.flush(turn)

    def checkpoint(self, turn: Turn) -> None:
        """Put on disk the active segment's indexes, for tools, and those found damaged."""
        if self.failure:
            return
        active = self.chain.active
        for segment in self.chain:
            if segment.size and (segment is active or segment.is_index_stale):
                segment.write_indexes(turn)
        self._save_epochs_if_dirty(turn)

    @property
    def size_bytes(self) -> int:
        return self.chain.size_bytes

    @property
    def acknowledgeable_end(self) -> int:
        """Exclusive end of what this replica may count as its own: what is written, but never
        `flush.messages` records or more beyond what is durable (fault contract, C2)."""
        return min(self.written_end, self.flushed_end + self.config.flush_messages - 1)

    def segments(self) -> list[tuple[int, int]]:
        """(base offset, bytes) of each, oldest first."""
        return [(segment.base_offset, segment.size) for segment in self.chain]

    def set_high_watermark(self, offset: int) -> None:
        assert offset <= self.log_end_offset, (self, offset)
        self.high_watermark = offset

    # --- appending ------------------------------------------------------------------------

    def append_as_leader(self, turn: Turn, batch: memoryview, leader_epoch: int) -> Appended:
        """Append one produced batch, patched in place. Raises ApiError; then nothing changed."""
        if self.failure:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self.failure)
        assert leader_epoch >= self.last_epoch, (self, leader_epoch)
        config = self.config
        header = validate(batch, config, turn.wall_ms)
        if config.is_compacted:
            check_keys(batch, header, self.tp)
        last_offset_delta, max_timestamp, producer_id = header[6], header[8], header[9]
        base_offset = self.log_end_offset
        last_offset = base_offset + last_offset_delta
        if producer_id >= 0:
            base_sequence = header[11]
            last_sequence = (base_sequence + last_offset_delta) & SEQUENCE_MASK
            known = self.producers.check(producer_id, header[10], base_sequence, last_sequence)
            if known is not None:
                return Appended(known[2], known[3], -1, self.log_start_offset, True)
        log_append_time = -1
        if config.is_log_append_time:
            log_append_time = max_timestamp = turn.wall_ms
            patch(batch, 0, base_offset, leader_epoch, log_append_time)
        else:
            patch(batch, 0, base_offset, leader_epoch)
        self._stage(turn, batch, last_offset, max_timestamp, leader_epoch)
        if producer_id >= 0:
            self.producers.update(header, base_offset, max_timestamp)
        return Appended(base_offset, last_offset, log_append_time, self.log_start_offset)

    def append_records(
        self, turn: Turn, records: Sequence[Record], leader_epoch: int, *, attributes: int = 0
    ) -> Appended:
        """Append one batch of our own, without the checks of a produced one. Raises ApiError."""
        if self.failure:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self.failure)
        plain = [msgspec.structs.replace(record, offset=-1) for record in records]
        return self.append_own(turn, build_batch(plain, attributes=attributes), leader_epoch)

    def append_own(self, turn: Turn, batch: bytearray, leader_epoch: int) -> Appended:
        """Append a batch that this broker has built itself, patched in place. Raises ApiError."""
        if self.failure:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self.failure)
        header = HEADER.unpack_from(batch)
        base_offset = self.log_end_offset
        last_offset = base_offset + header[6]
        patch(batch, 0, base_offset, leader_epoch)
        self._stage(turn, batch, last_offset, header[8], leader_epoch)
        return Appended(base_offset, last_offset, -1, self.log_start_offset)

    def append_as_follower(self, turn: Turn, buffer: Buffer) -> None:
        """Append whole batches as the leader has them. Raises CorruptLogError when they are not
        whole, not sound, or not what comes next here; then nothing changed."""
        if self.failure:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self.failure)
        headers = check_pushed(self, buffer)
        view = memoryview(buffer)
        position = 0
        for header in headers:
            size = header[1] + LENGTH_OVERHEAD
            last_offset = header[0] + header[6]
            self._stage(turn, view[position : position + size], last_offset, header[8], header[2])
            position += size
            if header[9] >= 0:
                self.replay_producer(header)
            if not header[12]:
                self.chain.active.empties_end = self.chain.active.size

    def replay_producer(self, header: Header) -> None:
        """Update the producer state from a batch that is in the log."""
        if not header[5] & CONTROL:
            self.producers.update(header, header[0], header[8])

    def _stage(
        self, turn: Turn, batch: Buffer, last_offset: int, max_timestamp: int, leader_epoch: int
    ) -> None:
        """Put one batch, patched and checked, behind the log end."""
        size = len(batch)
        segment = self.chain.active
        if segment.wants_roll(size, last_offset, max_timestamp, turn.wall_ms, self.config):
            segment = cutting.roll(self, turn)
        if leader_epoch != self.epochs.latest and self.epochs.assign(
            leader_epoch, self.log_end_offset
        ):
            # Also when it is an older one than the latest: this replica led an epoch in which it
            # wrote nothing, and now follows a leader whose older records go on behind that.
            self.save_epochs(turn)
        self.last_epoch = leader_epoch
        append = turn.append(segment.path, segment.size, self, batch)
        segment.add(last_offset, size, max_timestamp)
        self.log_end_offset = last_offset + 1
        staged = self._staged
        if staged and staged[-1].append is append:
            staged[-1].end_position = segment.size
            staged[-1].end_offset = last_offset + 1
        else:
            staged.append(Staged(append, segment, segment.size, last_offset + 1))

    # --- the end of an append -------------------------------------------------------------

    def written(self, turn: Turn, append: Append) -> None:
        staged = self._staged
        if not staged or staged[0].append is not append:
            # Emptied: it was behind one that failed.
            return
        done = staged.pop(0)
        done.segment.written_size = done.end_position
        done.segment.bound_known()
        self.written_end = done.end_offset

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None:
        staged = self._staged
        if not staged or staged[0].append is not append:
            return
        name = errnos.errorcode.get(errno, str(errno))
        for later in staged[1:]:
            # Still in the list that is being carried out: it must not leave a hole.
            later.append.buffers.clear()
            later.append.size = later.append.position = 0
        staged.clear()
        self.fail(f"write to {append.path}: {name}", errno)
        cutting.undo_staged(self, turn)

    def fail(self, failure: str, errno: int = 0, *, is_damage: bool = False) -> None:
        """Take no append any more."""
        self.is_damaged |= is_damage
        if not self.failure:
            self.failure = f"{self.tp}: {failure}"
            self.failed_errno = errno
        self._syncs.clear()

    def forget_staged(self, segment: Segment, *, is_emptied: bool = False) -> None:
        """The log was cut in `segment` while appends are on their way: they end there, too."""
        for staged in self._staged:
            if staged.end_offset > self.log_end_offset or is_emptied:
                staged.end_offset = self.log_end_offset
                if staged.segment is segment:
                    staged.end_position = segment.size
        self._syncs.clear()

    def staged_buffers(self) -> Iterator[Buffer]:
        for staged in self._staged:
            yield from staged.append.buffers

    # --- leader epochs --------------------------------------------------------------------

    def assign_epoch(self, turn: Turn, leader_epoch: int, start_offset: int) -> None:
        """A leader's first act: its epoch starts here, with or without records (invariant 8)."""
        if self.epochs.assign(leader_epoch, start_offset):
            self.save_epochs(turn)

    def end_offset_for_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """(largest epoch <= `leader_epoch`, its exclusive end here), or (-1, -1) for none."""
        return self.epochs.end_offset_for(leader_epoch, self.log_end_offset)

    def save_epochs(self, turn: Turn, *, durable: bool = False) -> None:
        """Not durable at once: a fail-over of a thousand partitions would wait for as many
        syncs. What a flush covers is made durable before it (`flush`); the rest is rebuilt from
        batches that recovery scans anyway."""
        path = f"{self.directory}/{EPOCHS_FILE}"
        turn.disk.append(Replace(path, self.epochs.encode(), durable))
        if durable:
            self.epochs.is_dirty = False

    def _save_epochs_if_dirty(self, turn: Turn) -> None:
        if self.epochs.is_dirty:
            self.save_epochs(turn, durable=True)

    # --- durability -----------------------------------------------------------------------

    def needs_flush(self, now_ms: int) -> bool:
        """flush.messages or flush.ms (monotonic) says so."""
        unflushed = self.log_end_offset - self.flushed_end
        return unflushed > 0 and (
            unflushed >= self.config.flush_messages
            or now_ms - self._last_flush_ms >= self.config.flush_ms
        )

    def flush(self, turn: Turn) -> None:
        """Ask for the durability of all that is staged by now; `synced` hears of it."""
        if self.failure:
            return
        self._last_flush_ms = turn.now_ms
        chain = self.chain
        for segment in chain.items[chain.locate(self.flushed_end) :]:
            self.sync_segment(turn, segment)

    def sync_segment(self, turn: Turn, segment: Segment) -> None:
        end_offset = segment.end_offset
        if segment.synced_end >= end_offset:
            return
        for target in self._syncs.values():
            if target.segment is segment and target.end_offset >= end_offset:
                return
        self._save_epochs_if_dirty(turn)
        self._syncs[self.start_sync(turn, segment.path)] = SyncTarget(segment, end_offset)

    def start_sync(self, turn: Turn, path: str) -> int:
        """The token that its end will bring."""
        token = next(self._sync_tokens)
        turn.disk.append(Sync(path, token))
        return token

    def synced(self, event: Synced) -> bool:
        """A `Sync` of one of its segments came back; whether `flushed_end` moved. A failed one
        ends the log: the kernel marks pages clean that never reached the disk (KAFKA-10778)."""
        if self.swap is not None and self.swap.synced(event):
            return False
        if event.token == self.cut_sync:
            self.cut_sync = 0
        target = self._syncs.pop(event.token, None)
        # Also when a truncation forgot it meanwhile, as long as the file is in use.
        is_own = event.token > self._first_token
        if event.errno and is_own and any(segment.path == event.path for segment in self.chain):
            why = f"sync of {event.path}: {errnos.errorcode.get(event.errno, event.errno)}"
            self.fail(why, event.errno, is_damage=True)
        if event.errno or target is None:
            return False
        target.segment.synced_end = max(target.segment.synced_end, target.end_offset)
        before, self.flushed_end = self.flushed_end, self.chain.synced_from(self.flushed_end)
        return self.flushed_end > before

    # --- producers ------------------------------------------------------------------------

    def take_snapshot(self, turn: Turn) -> None:
        """The producer state at the log end, to start from at recovery and truncation."""
        cutting.write_snapshot(self, turn, self.log_end_offset, self.producers)

    def expire_producers(self, wall_ms: int) -> int:
        return self.producers.expire(wall_ms, self.config.producer_id_expiration_ms)

    # --- reading --------------------------------------------------------------------------

    def read(
        self, offset: int, max_bytes: int, upto: int, at_least_one: bool = True,
        skips_empty: bool = False,
    ) -> ReadResult:  # fmt: skip
        """Whole written batches from the one that holds `offset`, ending at or before `upto`
        (exclusive), of `max_bytes` at most, or one. `skips_empty` begins with records, if any are
        there. Raises ApiError OFFSET_OUT_OF_RANGE; CorruptLogError: the replica goes offline."""
        return reading.read(self, offset, max_bytes, upto, at_least_one, skips_empty)

    def read_bytes(self, offset: int, max_bytes: int, upto: int) -> tuple[bytes, int]:
        """The bytes of `read`, at least one batch, and the offset to go on from."""
        return reading.read_bytes(self, offset, max_bytes, upto)

    def read_records(self, offset: int, upto: int) -> Iterator[Record]:
        """Records from `offset` up to `upto` (exclusive), a batch at a time in memory."""
        return reading.read_records(self, offset, upto)

    def verify_segment(self, base_offset: int) -> None:
        """Check all of a segment now, and not when it is served. Raises CorruptLogError."""
        reading.verify_segment(self, base_offset)

    def offset_for_timestamp(self, timestamp: int) -> tuple[int, int, int] | None:
        """(offset, timestamp, leader epoch) of the first record that is not older."""
        return reading.offset_for_timestamp(self, timestamp)

    def max_timestamp(self) -> tuple[int, int]:
        """(offset, timestamp) of the first record with the largest timestamp; (-1, -1)."""
        return reading.max_timestamp(self)

    # --- cutting --------------------------------------------------------------------------

    def roll(self, turn: Turn) -> None:
        """Seal the active segment, unless it is empty."""
        if self.chain.active.size and not self.failure:
            cutting.roll(self, turn, creates_file=True)

    def truncate_to(self, turn: Turn, offset: int) -> None:
        """Forget all from the batch that holds `offset` on. The high watermark is left to the
        caller, who alone knows whether it may fall."""
        cutting.truncate_to(self, turn, offset)

    def truncate_fully(self, turn: Turn, start: int, producers: Producers | None = None) -> None:
        """Forget all; the log starts and ends at `start`, with `producers` of what was before."""
        cutting.truncate_fully(self, turn, start, producers)

    def advance_log_start(self, turn: Turn, offset: int) -> None:
        """Records below `offset` are gone for readers; whole segments of them go to. Raises
        ApiError OFFSET_OUT_OF_RANGE above the high watermark; a lower offset changes nothing."""
        retaining.advance_log_start(self, turn, offset)

    def cancel_compaction(self, turn: Turn) -> None:
        """The log is about to lose segments that compacted ones are made of."""
        self.losses += 1
        if self.swap is not None:
            self.swap.cancel(turn)

    def apply_retention(self, turn: Turn) -> list[int]:
        """Delete segments that are too old or too many; their base offsets."""
        return retaining.apply_retention(self, turn)
