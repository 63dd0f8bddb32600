"""What a log is after a restart: which of its files are believed, and which are looked at.

    below the recovery point   durable, and believed: sizes, ends and epochs must fit together.
                               Damage is never dropped silently (NATS #7556): CorruptLogError
    from the segment that      after a clean shutdown: believed as well
    holds it on                else: scanned, CRC by CRC. The first batch that is not sound, or
                               not what comes next, is where the log was torn; it and all behind
                               it are cut off, indexes are built anew

A crash leaves what `write(2)` took, so that only the last write can be torn: anything else is
damage (see `damage`). A power loss may leave anything above the recovery point. Both are scanned
alike; what differs is whether the replica is trusted afterwards, which is the controller's
business.

The epoch cache is that of its file below the scan, and of the batches behind (epoch 0 too,
KAFKA-20961); the epoch of a leader that wrote nothing is kept. Producers are those of the newest
snapshot at or below the log end, and the batches behind it.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from kcluster.core import traces
from kcluster.core.log import cutting, damage
from kcluster.core.log.compaction.job import CLEANED, SWAP
from kcluster.core.log.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, OffsetIndex
from kcluster.core.log.leader_epochs import FILE_NAME, LeaderEpochs
from kcluster.core.log.partition_metadata import FILE_NAME as METADATA
from kcluster.core.log.renamed import Renamed
from kcluster.core.log.scan import checked_batches
from kcluster.core.log.segment import (
    DELETED,
    INDEX,
    LOG,
    SNAPSHOT,
    TIME_INDEX,
    Segment,
    file_name,
)
from kcluster.core.log.segments import Segments
from kcluster.core.turn import Delete, DiskOperation, Rename, Replace, Truncate, Turn
from kcluster.errors import CorruptLogError
from kcluster.wire.records import LENGTH_OVERHEAD

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog

LEFTOVERS = (DELETED, ".tmp", CLEANED, SWAP)
OFFSET_DIGITS = 20


class Restart(enum.StrEnum):
    """How the logs survived the process before this one."""

    CLEAN = "clean"
    CRASH = "crash"
    """Killed: the page cache was kept."""
    LOSSY = "lossy"
    """Power loss: what was not synced may be gone or garbled."""


class Recovery:
    """One run. Operations are collected and reach the turn only when it has succeeded."""

    def __init__(
        self, log: PartitionLog, turn: Turn, restart: Restart, recovery_point: int, repair: bool
    ) -> None:
        self.log = log
        self.turn = turn
        self.restart = restart
        self.recovery_point = recovery_point
        self.repair = repair
        self.names = set(log.files.list(log.directory))
        self.operations: list[DiskOperation] = []
        self.cut_bytes = 0
        self.was_cut = False
        self.epochs = LeaderEpochs()
        self.saved_epochs = b""
        self.told_epochs = LeaderEpochs()
        """Those of the file. It is never behind the log, except after a power loss: none then."""
        self.swapped: dict[str, str] = {}
        """Where files lie until the turn has renamed them, by the path that they get; empty for
        those that it deletes."""
        self.files = Renamed(log.files, self.swapped)
        self.spare_epoch = (-1, -1)
        """Latest entry of the file: kept when it turns out to be one without records."""

    def run(self, log_start_offset: int, high_watermark: int = 0) -> None:
        operations = len(self.turn.disk)
        try:
            self._run(log_start_offset, high_watermark)
        except CorruptLogError:
            # Also when it is found at the very end: what is refused is left as it lies.
            del self.turn.disk[operations:]
            raise

    def _run(self, log_start_offset: int, high_watermark: int) -> None:
        log = self.log
        is_start_told = log_start_offset >= 0
        log_start_offset = max(log_start_offset, 0)
        if self.recovery_point <= log_start_offset:
            # Nothing that counts is durable: an emptied log starts where its file may not be.
            self.recovery_point = 0
        self._complete_swaps()
        self._delete_leftovers()
        segments = self._list_segments(log_start_offset)
        begins_late = is_start_told and segments[0].base_offset > log_start_offset
        if begins_late and self.restart is not Restart.LOSSY:
            self._damaged(f"{log.tp} begins with {segments[0].path}, not at {log_start_offset}")
        self._load_epochs(segments)
        kept = self._recover_segments(segments)
        end_offset = kept[-1].end_offset
        if end_offset < self.recovery_point:
            self._damaged(f"{log.tp} ends at {end_offset}, before {self.recovery_point}")
        if end_offset < high_watermark and self.restart is Restart.CRASH:
            self._damaged(f"{log.tp} ends at {end_offset}, was committed to {high_watermark}")
        self._adopt(kept, log_start_offset)
        self._finish_epochs()
        self.turn.disk.extend(self.operations)
        if self.was_cut or self.restart is Restart.CRASH:
            # After a crash, for what the process before this one may have cut.
            cutting.sync_cut(log, self.turn)
        if self.restart is Restart.LOSSY and not self.repair:
            # A power loss tears what was not synced: no damage.
            log.repairs.clear()
        if self.names and (self.restart is not Restart.CLEAN or self.cut_bytes):
            self.turn.trace(
                traces.LogRecovered(
                    log.tp.topic, log.tp.partition, log.log_end_offset, self.cut_bytes
                )
            )
        if log.log_end_offset < log_start_offset:
            # What was left lies below the log start: it is gone for readers (Kafka's rule).
            cutting.truncate_fully(log, self.turn, log_start_offset)
        self._load_producers()
        # From here on, nothing is read before the turn has been carried out.
        self.swapped.clear()
        for segment in log.chain:
            segment.read_from(log.files)

    # --- what is there --------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return f"{self.log.directory}/{name}"

    def _delete(self, name: str) -> None:
        self.operations.append(Delete(self._path(name)))

    def _delete_leftovers(self) -> None:
        for name in sorted(self.names):
            if name.endswith(LEFTOVERS):
                self._delete(name)

    def _complete_swaps(self) -> None:
        for base_offset in self._offsets(LOG + SWAP):
            name = file_name(base_offset, LOG)
            self.names.discard(name + SWAP)
            path = self._path(name)
            end_offset = self._end_of_swap(path + SWAP, base_offset)
            if end_offset < 0:
                # It was synced before anything else was touched, so all that it was made of is
                # there; if it is not, that is found below.
                self._delete(name + SWAP)
                continue
            for other in self._offsets(LOG):
                if base_offset < other < end_offset:
                    # Renamed and not deleted: in the order in which names change they go first.
                    self._rename(file_name(other, LOG), file_name(other, LOG) + DELETED)
                    self._delete(file_name(other, LOG) + DELETED)
            for suffix in (INDEX, TIME_INDEX):
                # Those of the old segment, or the new one's: they are built anew.
                if file_name(base_offset, suffix) in self.names:
                    self._delete(file_name(base_offset, suffix))
                    self.names.discard(file_name(base_offset, suffix))
                self.swapped[self._path(file_name(base_offset, suffix))] = ""
            self._rename(name + SWAP, name)
            self.swapped[path] = path + SWAP

    def _end_of_swap(self, path: str, base_offset: int) -> int:
        """The exclusive end of its offsets; -1 when it is not whole."""
        size = self.log.files.size(path)
        end_offset = -1
        try:
            for _, header in checked_batches(self.log.files, path, (0, size), base_offset):
                end_offset = header[0] + header[6] + 1
        except CorruptLogError:
            return -1
        return end_offset

    def _rename(self, source: str, target: str) -> None:
        self.operations.append(Rename(self._path(source), self._path(target)))
        self.names.discard(source)
        if not target.endswith(DELETED):
            self.names.add(target)

    def _offsets(self, suffix: str) -> list[int]:
        stems = (name[: -len(suffix)] for name in self.names if name.endswith(suffix))
        return sorted(int(stem) for stem in stems if len(stem) == OFFSET_DIGITS and stem.isdigit())

    def _list_segments(self, log_start_offset: int) -> list[Segment]:
        log, files = self.log, self.files
        bases = self._offsets(LOG)
        while len(bases) > 1 and bases[1] <= log_start_offset:
            # A power loss may bring back what was deleted.
            for suffix in (INDEX, TIME_INDEX, LOG):
                if file_name(bases[0], suffix) in self.names:
                    self._delete(file_name(bases[0], suffix))
                    self.names.discard(file_name(bases[0], suffix))
            del bases[0]
        for suffix in (INDEX, TIME_INDEX):
            for offset in self._offsets(suffix):
                if offset not in bases:
                    self._delete(file_name(offset, suffix))
        segments = []
        for base_offset in bases or [log_start_offset]:
            segment = Segment(files, log.directory, base_offset, log.config, self.turn.wall_ms)
            segment.size = segment.written_size = max(files.size(segment.path), 0)
            index_bytes = files.size(segment.index_path)
            time_bytes = files.size(segment.time_index_path)
            segment.has_index_files = index_bytes >= 0 and time_bytes >= 0
            sound = index_bytes % OFFSET_ENTRY_BYTES == 0 and time_bytes % TIME_ENTRY_BYTES == 0
            if not (segment.has_index_files and sound):
                self._tell_of_indexes(segment, index_bytes, time_bytes)
                for name, size in ((INDEX, index_bytes), (TIME_INDEX, time_bytes)):
                    if size >= 0:
                        self._delete(file_name(base_offset, name))
                segment.has_index_files = False
            segments.append(segment)
        if not bases:
            if METADATA in self.names and self.restart is not Restart.LOSSY:
                self._damaged(f"{log.tp} has no segment, and began with one")
            self.operations.append(Replace(segments[0].path, b""))
        return segments

    def _tell_of_indexes(self, segment: Segment, index_bytes: int, time_bytes: int) -> None:
        """After a clean end each segment with records has both its indexes."""
        if self.restart is Restart.CLEAN and segment.size:
            sizes = f"{index_bytes} and {time_bytes} bytes (-1: missing)"
            self.log.repairs.append(f"{segment.index_path} was made anew: {sizes}")

    def _load_epochs(self, segments: list[Segment]) -> None:
        if FILE_NAME in self.names:
            path = self._path(FILE_NAME)
            self.saved_epochs = self.log.files.read(path, 0, max(self.log.files.size(path), 0))
            try:
                self.epochs = LeaderEpochs.decode(self.saved_epochs)
                if self.restart is not Restart.LOSSY:
                    self.told_epochs = LeaderEpochs.decode(self.saved_epochs)
            except CorruptLogError as error:
                self.log.repairs.append(f"{path} was made anew: {error}")
                self.epochs = LeaderEpochs()
        if self.epochs.epochs:
            self.spare_epoch = self.epochs.entries()[-1]

    # --- segments -------------------------------------------------------------------------

    def _damaged(self, what: str) -> None:
        if not self.repair:
            raise CorruptLogError(what)

    def _recover_segments(self, segments: list[Segment]) -> list[Segment]:
        """Those that are kept, with their ends; the last one is active."""
        kept: list[Segment] = []
        expected = segments[0].base_offset
        for number, segment in enumerate(segments):
            if segment.base_offset < expected and self.restart is not Restart.CLEAN:
                # Deleted once, by a truncation, and brought back by a power cut: what took its
                # place is here, and may have been promised (fault contract, C2).
                self._cut([segment], None)
                continue
            if segment.base_offset != expected:
                if expected < self.recovery_point or self.restart is not Restart.LOSSY:
                    self._damaged(f"{segment.path} follows {expected}")
                self._cut(segments[number:], None)
                break
            is_last = number + 1 == len(segments)
            bound = -1 if is_last else segments[number + 1].base_offset
            # Where damage was found once, nothing is believed.
            trusted = not self.repair and (
                self.restart is Restart.CLEAN or 0 <= bound <= self.recovery_point
            )
            size = segment.written_size
            problem = self._believe(segment) if trusted else self._scan(segment)
            if trusted and self.restart is not Restart.CLEAN and segment.end_offset > bound:
                # The next one came back so: this one reaches above what is durable.
                trusted = False
                segment.written_size = size
                problem = self._scan(segment)
            kept.append(segment)
            expected = segment.end_offset
            if problem is not None:
                if (
                    trusted
                    or expected < self.recovery_point
                    or (self.restart is Restart.CRASH and self._is_damage(segment, size, is_last))
                ):
                    self._damaged(str(problem))
                self._cut(segments[number + 1 :], segment)
                break
        return kept

    def _is_damage(self, segment: Segment, size: int, is_last: bool) -> bool:
        """Whether what stopped a scan after a kill is more than a torn write."""
        return not is_last or not damage.is_torn(
            self.files, segment.path, segment.size, size, segment.end_offset
        )

    def _believe(self, segment: Segment) -> CorruptLogError | None:
        """Find the end by the offset index and a short walk; look into the epoch cache."""
        problem: CorruptLogError | None = None
        size = segment.written_size
        position, end_offset, epoch = 0, segment.base_offset, -1
        start = self._last_entry_position(segment)
        lacks_entries = start < 0
        start = max(start, 0)
        try:
            for position, header in segment.headers(start, size):
                if position - start > segment.interval_bytes:
                    lacks_entries = True
                end_offset, epoch = header[0] + header[6] + 1, header[2]
                position += header[1] + LENGTH_OVERHEAD
        except CorruptLogError as error:
            problem = error
        else:
            position = size
        if problem is not None:
            segment.has_index_files = False
        elif lacks_entries and segment.has_index_files:
            self.log.repairs.append(f"{segment.index_path} was made anew: it contradicts the log")
            segment.has_index_files = False
        segment.unchecked_size = position
        segment.size = segment.written_size = segment.empties_end = position
        segment.end_offset = end_offset
        segment.synced_end = end_offset
        self.cut_bytes += size - position
        if position:
            segment.forget_indexes()
            if self.epochs.epoch_of(end_offset - 1) != epoch:
                self._rebuild_epochs(segment)
            if not segment.has_index_files:
                segment.rebuild_indexes()
        segment.known[end_offset] = position
        return problem

    def _last_entry_position(self, segment: Segment) -> int:
        """Where a batch starts near the end of the file by the offset index, 0 when it has no
        entry; -1 when it is wrong."""
        if not segment.has_index_files:
            return 0
        files = self.files
        size = files.size(segment.index_path)
        tail = files.read(segment.index_path, max(size - OFFSET_ENTRY_BYTES, 0), OFFSET_ENTRY_BYTES)
        index = OffsetIndex.decode(tail)
        if index is None:
            return -1
        if not len(index):
            return 0
        start = index.positions[0]
        try:
            _, header = next(segment.headers(start, segment.written_size))
        except (CorruptLogError, StopIteration):
            return -1
        fits = header[0] + header[6] - segment.base_offset == index.offsets[0]
        return start if fits else -1

    def _rebuild_epochs(self, segment: Segment) -> None:
        """The cache does not know the last batch of `segment`: the batches tell."""
        self.epochs.truncate_from_end(segment.base_offset)
        last_epoch = 0
        for position, header in segment.headers(0, segment.written_size):
            if header[2] < last_epoch:
                raise CorruptLogError(
                    f"{segment.path}: epoch {header[2]} behind {last_epoch} at {position}"
                )
            last_epoch = header[2]
            if last_epoch != self.epochs.latest:
                self.epochs.assign(last_epoch, header[0])

    def _scan(self, segment: Segment) -> CorruptLogError | None:
        """Walk and check all batches, building indexes and epochs; what stopped it, or None."""
        size = segment.written_size
        segment.clear()
        self.epochs.truncate_from_end(segment.base_offset)
        last_epoch = self.epochs.latest
        problem: CorruptLogError | None = None
        batches = checked_batches(self.files, segment.path, (0, size), segment.base_offset)
        try:
            for position, header in batches:
                if header[2] < last_epoch:
                    raise CorruptLogError(
                        f"{segment.path}: epoch {header[2]} behind {last_epoch} at {position}"
                    )
                told = self.told_epochs.epoch_of(header[0])
                if told not in (-1, header[2]):
                    # No CRC covers the epoch of a batch.
                    raise CorruptLogError(
                        f"{segment.path}: epoch {header[2]} at {position}, it was {told}"
                    )
                if header[2] != last_epoch:
                    last_epoch = header[2]
                    self.epochs.assign(last_epoch, header[0])
                segment.add(header[0] + header[6], header[1] + LENGTH_OVERHEAD, header[8])
                # It is in the file already: nothing staged keeps its place in memory, where
                # thousands of small batches would be gone through again for each.
                segment.written_size = segment.size
                segment.bound_known()
        except CorruptLogError as error:
            problem = error
        segment.written_size = segment.empties_end = segment.size
        segment.synced_end = max(min(self.recovery_point, segment.end_offset), segment.base_offset)
        self.cut_bytes += size - segment.size
        return problem

    def _cut(self, dropped: list[Segment], torn: Segment | None) -> None:
        """Later segments go before the torn one is cut: a crash in between leaves a prefix."""
        self.was_cut = True
        for segment in reversed(dropped):
            self.cut_bytes += segment.size
            for suffix in (INDEX, TIME_INDEX, LOG):
                name = file_name(segment.base_offset, suffix)
                if name in self.names:
                    self._delete(name)
        if torn is not None:
            for suffix in (INDEX, TIME_INDEX):
                name = file_name(torn.base_offset, suffix)
                if name in self.names:
                    self._delete(name)
            torn.has_index_files = False
            self.operations.append(Truncate(torn.path, torn.size))

    # --- the log that comes out -----------------------------------------------------------

    def _adopt(self, kept: list[Segment], log_start_offset: int) -> None:
        log = self.log
        chain = Segments(kept[0])
        for segment in kept[1:]:
            chain.add(segment)
        for segment in kept:
            was_scanned = segment.unchecked_size == 0 and segment.size > 0
            if segment is not chain.active:
                if was_scanned or not segment.has_index_files:
                    self._write_indexes(segment)
            elif was_scanned and segment.has_index_files:
                # Those of the active segment live in memory: stale files would mislead.
                self._delete(file_name(segment.base_offset, INDEX))
                self._delete(file_name(segment.base_offset, TIME_INDEX))
                segment.has_index_files = False
        # Appends go on from its last entry and its first and largest timestamps.
        chain.active.largest_timestamp()
        log.chain = chain
        end_offset = chain.active.end_offset
        log.log_end_offset = log.written_end = end_offset
        log.log_start_offset = min(max(chain.bases[0], log_start_offset), end_offset)
        log.high_watermark = log.log_start_offset
        is_clean = self.restart is Restart.CLEAN
        log.flushed_end = end_offset if is_clean else min(self.recovery_point, end_offset)
        log.flushed_end = max(log.flushed_end, chain.bases[0])
        if self.cut_bytes:
            log.repairs.append(f"{log.tp} was cut at {end_offset}: {self.cut_bytes} bytes less")

    def _write_indexes(self, segment: Segment) -> None:
        scratch = Turn()
        segment.write_indexes(scratch)
        self.operations += scratch.disk

    def _finish_epochs(self) -> None:
        log = self.log
        end_offset = log.log_end_offset
        self.epochs.truncate_from_end(end_offset, keeps_start=True)
        spare, start = self.spare_epoch
        if start == end_offset and spare > self.epochs.latest:
            self.epochs.assign(spare, start)
        log.epochs = self.epochs
        has_records = end_offset > log.log_start_offset
        log.last_epoch = log.epochs.epoch_of(end_offset - 1) if has_records else -1
        encoded = log.epochs.encode()
        log.epochs.is_dirty = self.restart is not Restart.CLEAN
        if encoded != self.saved_epochs and (log.epochs.epochs or self.saved_epochs):
            self.operations.append(Replace(self._path(FILE_NAME), encoded))
            log.epochs.is_dirty = True

    def _load_producers(self) -> None:
        """Snapshots behind the log end, and old ones of no segment, go."""
        log, turn = self.log, self.turn
        offsets = self._offsets(SNAPSHOT)
        log.snapshots = [offset for offset in offsets if offset <= log.log_end_offset]
        newest = log.snapshots[-1] if log.snapshots else -1
        for offset in offsets:
            if offset > log.log_end_offset or (offset != newest and offset not in log.chain.bases):
                turn.disk.append(Delete(self._path(file_name(offset, SNAPSHOT))))
        log.snapshots = [o for o in log.snapshots if o == newest or o in log.chain.bases]
        cutting.rebuild_producers(log)
