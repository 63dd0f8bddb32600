"""The broker-wide checkpoint files: read once at start, written by timers and at a clean end.

    recovery-point-offset-checkpoint     every 60 s     below it a log is durable
    log-start-offset-checkpoint          with it, and at once when records were deleted or a log
                                         has more segments than one
    replication-offset-checkpoint        every 5 s      high watermarks
    cleaner-offset-checkpoint            after each compaction

Most of them only save work: a recovery point that is too low costs a longer scan, a high watermark
that is too low is learnt again from the leader. The log start is more. DeleteRecords is answered
after it is written, so that deleted records do not come back with a broker that was killed. And
by it alone a first segment is missed that is not there any more. So it is synced whenever it is
written: a power cut that tore it would take all starts with it, and then a log that has lost its
first segment looks like one whose records were deleted. None is believed beyond its log's end.

Some writes are more than a saving: those that say less than the file said before, of a log that
begins anew or is cut. When one fails, the file still tells of what is no more, and the log takes
no appends until the next start: a high watermark of a deleted namesake would pass for its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kcluster.core.log import checkpoints as files
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.replication.replica import Replica
from kcluster.core.turn import Files, Replace, Turn
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition

CLEAN_SHUTDOWN: Final = ".kafka_cleanshutdown"
"""Kafka's marker: there while no broker runs on the directory and the last one ended cleanly."""

ALL: Final = (files.RECOVERY_POINTS, files.HIGH_WATERMARKS, files.LOG_STARTS, files.FIRST_DIRTY)

_FILE_BYTES: Final = 64 << 20


class Checkpoints:
    def __init__(self, disk: Files) -> None:
        self._disk = disk
        self._written: dict[str, dict[TopicPartition, int]] = {}
        """By file, what it holds: as it was found, or as it was last written."""
        self.problems: list[str] = []
        """Files that were found damaged."""
        self._moved_starts: dict[TopicPartition, int] = {}
        """Log starts that only the checkpoint can tell, not written yet."""
        self._unsure: set[str] = set()
        """Files that may not hold what was last written to them."""
        self._depending: dict[str, set[TopicPartition]] = {}
        """By file, logs that what this turn writes to it must be true for."""

    def load(self) -> None:
        self.problems = []
        for path in ALL:
            self._written[path] = self._read(path)

    def _told(self, path: str, tp: TopicPartition) -> int:
        return self._written.get(path, {}).get(tp, 0)

    def _read(self, path: str) -> dict[TopicPartition, int]:
        try:
            data = self._disk.read(path, 0, _FILE_BYTES)
            if not data and self._disk.size(path) == 0:
                # As good as missing, but nobody ever wrote that.
                raise CorruptLogError("it is empty")
            return files.parse_offsets(data)
        except CorruptLogError as error:
            self.problems.append(f"{path} is not used: {error}")
            return {}

    def restore(
        self, turn: Turn, log: PartitionLog, restart: Restart, *, repair: bool = False
    ) -> None:
        """Open a log with what the checkpoints say of it. Raises CorruptLogError; with `repair`
        nothing of the log is believed, and what is sound is kept."""
        tp = log.tp
        high_watermark = self._told(files.HIGH_WATERMARKS, tp)
        if repair and restart is Restart.CLEAN:
            restart = Restart.CRASH
        log.open(
            turn,
            restart,
            recovery_point=0 if repair else self._told(files.RECOVERY_POINTS, tp),
            log_start_offset=self._written[files.LOG_STARTS].get(tp, -1),
            high_watermark=high_watermark,
            repair=repair,
        )
        if repair:
            self.lower_recovery_point(turn, log, log.log_end_offset)
        # Records that are yet to come behind the end may be others; and a power cut may have
        # brought back what a truncation cut off, where it was not synced.
        sure_end = log.flushed_end if restart is Restart.LOSSY else log.log_end_offset
        self._lower(turn, files.HIGH_WATERMARKS, tp, sure_end)
        high_watermark = 0 if repair else min(high_watermark, sure_end)
        log.set_high_watermark(max(high_watermark, log.log_start_offset))
        first_dirty = self._told(files.FIRST_DIRTY, tp)
        # One beyond the log's end is of a log that is no more.
        log.first_dirty_offset = first_dirty if first_dirty <= log.log_end_offset else 0

    def write_high_watermarks(self, turn: Turn, replicas: Iterable[Replica]) -> None:
        marks = {r.tp: r.log.high_watermark for r in replicas if not r.offline}
        self._write(
            turn, files.HIGH_WATERMARKS, self._kept(files.HIGH_WATERMARKS, replicas) | marks
        )

    def write_recovery_points(self, turn: Turn, replicas: Iterable[Replica]) -> None:
        healthy = [replica for replica in replicas if not replica.offline]
        points = {r.tp: r.log.flushed_end for r in healthy}
        starts = {r.tp: r.log.log_start_offset for r in healthy}
        self._write(
            turn, files.RECOVERY_POINTS, self._kept(files.RECOVERY_POINTS, replicas) | points
        )
        starts = self._kept(files.LOG_STARTS, replicas) | starts
        self._write(turn, files.LOG_STARTS, starts, durable=True)

    def _kept(self, path: str, replicas: Iterable[Replica]) -> dict[TopicPartition, int]:
        """What a file says of logs that are offline: the next start goes by it."""
        told = self._written.get(path, {})
        return {r.tp: told[r.tp] for r in replicas if r.offline and r.tp in told}

    def write_first_dirty(self, turn: Turn, replicas: Iterable[Replica]) -> None:
        """Of logs that were ever compacted. Not before what it says is durable."""
        dirty = {r.tp: r.log.first_dirty_offset for r in replicas if r.log.first_dirty_offset > 0}
        self._write(turn, files.FIRST_DIRTY, dirty)

    def lower_recovery_point(self, turn: Turn, log: PartitionLog, offset: int) -> None:
        """Records from `offset` on are about to be cut: a crash in between must not make it look
        as if durable records had been lost."""
        self._lower_all(turn, log.tp, offset)

    def note_log_start(self, log: PartitionLog) -> None:
        """To be written before anybody hears that records are gone; so that a start misses no
        segments that went on purpose, and all others."""
        self._moved_starts[log.tp] = log.log_start_offset

    def write_moved_starts(self, turn: Turn) -> None:
        """At the end of every turn, before its replies and acknowledgements leave. Durable: a power
        cut that brought back some of the segments below would leave holes between them."""
        if self._moved_starts:
            starts = {**self._written.get(files.LOG_STARTS, {}), **self._moved_starts}
            self._moved_starts = {}
            self._write(turn, files.LOG_STARTS, starts, durable=True)

    def forget(self, turn: Turn, tp: TopicPartition) -> None:
        """A new log of that name begins: what was true of an older one is not of it."""
        self._lower_all(turn, tp, 0)

    def failed(self, path: str) -> list[TopicPartition]:
        """One of the files could not be written; the logs that count on it, in order."""
        if path in ALL:
            self._unsure.add(path)
        return sorted(self._depending.get(path, ()))

    def settled(self) -> None:
        """The disk has carried out all that was asked for."""
        self._depending.clear()

    def _lower_all(self, turn: Turn, tp: TopicPartition, offset: int) -> None:
        self._moved_starts.pop(tp, None)
        for path in ALL:
            self._lower(turn, path, tp, offset)

    def _lower(self, turn: Turn, path: str, tp: TopicPartition, offset: int) -> None:
        told = self._told(path, tp)
        if told > offset or path in self._unsure:
            self._depending.setdefault(path, set()).add(tp)
            offsets = {**self._written.get(path, {}), tp: min(told, offset)}
            self._write(turn, path, offsets, durable=True)

    def _write(
        self, turn: Turn, path: str, offsets: dict[TopicPartition, int], *, durable: bool = False
    ) -> None:
        told = self._written.get(path, {})
        if told != offsets or path in self._unsure:
            # What goes is gone for good: a power cut that brought it back would give it to a new
            # log of that name.
            durable = durable or path in self._unsure or not told.keys() <= offsets.keys()
            self._written[path] = offsets
            self._unsure.discard(path)
            turn.disk.append(Replace(path, files.format_offsets(offsets), durable))
