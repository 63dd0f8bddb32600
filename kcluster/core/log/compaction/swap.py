"""What compaction made takes its place in the log, whatever ends the process in between.

    prepare   *.cleaned -> *.swap, synced          from here on the new segments are what counts
    replace   the old files -> *.deleted, *.swap -> their names
    finish    synced; then the log is known to be compacted so far

Each step is a turn of the broker; between the first two the old segments are read as before, and
may yet be kept (`cancel`). Recovery completes a `.swap`: it deletes what else holds its offsets.

The segments in memory change after the disk has, and before anybody reads: `replace` is the last
thing of a round of `settle`, `replaced` the first of the next.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kcluster.core import traces
from kcluster.core.log.compaction.job import CLEANED, SWAP, Group, Outcome, cleaned_paths
from kcluster.core.log.retention import DeletionDue
from kcluster.core.log.segment import DELETED, SNAPSHOT, Segment, file_name
from kcluster.core.turn import Delete, Files, Rename, Synced, Turn

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog


class Stage(enum.IntEnum):
    PREPARING = 0
    READY = 1
    REPLACING = 2
    FINISHING = 3
    DONE = 4
    CANCELLED = 5
    FAILED = 6


class Swap:
    def __init__(self, log: PartitionLog, outcome: Outcome, sources: Sequence[Segment]) -> None:
        """`sources` are the segments that the job was about."""
        self.stage = Stage.PREPARING
        self.outcome = outcome
        self._log = log
        self._sources = {segment.base_offset: segment for segment in sources}
        self._tokens: set[int] = set()

    # --- prepare --------------------------------------------------------------------------

    def prepare(self, turn: Turn) -> None:
        """Begin; or be cancelled at once when the log is not what was compacted any more."""
        log = self._log
        assert log.swap is None
        if log.failure or not all(self._fits(group) for group in self.outcome.groups):
            self.stage = Stage.CANCELLED
            delete_cleaned(log.files, log.directory, turn)
            return
        log.swap = self
        for group in self.outcome.groups:
            paths = self._paths(group)
            for path in paths:
                turn.disk.append(Rename(path + CLEANED, path + SWAP))
            self._tokens.add(log.start_sync(turn, paths[-1] + SWAP))
        # Of groups that came out as they were.
        kept = {path + CLEANED for group in self.outcome.groups for path in self._paths(group)}
        delete_cleaned(log.files, log.directory, turn, kept)
        if not self._tokens:
            self._finish()

    def _fits(self, group: Group) -> bool:
        log = self._log
        if log.files.size(self._paths(group)[-1] + CLEANED) != group.size:
            return False
        first = self._number(group)
        found = log.chain.items[first : first + len(group.sources)]
        return (
            [self._sources.get(base) for base in group.sources] == found
            and found[-1] is not log.chain.active
            and found[-1].end_offset == group.end_offset
        )

    def _paths(self, group: Group) -> list[str]:
        """Of what it becomes: offset index, time index, log."""
        cleaned = cleaned_paths(self._log.directory, group.base_offset)
        return [path.removesuffix(CLEANED) for path in cleaned]

    def _number(self, group: Group) -> int:
        return self._log.chain.locate(group.base_offset)

    def cancel(self, turn: Turn) -> None:
        """The log is about to change below it."""
        if self.stage in (Stage.PREPARING, Stage.READY, Stage.FAILED):
            for group in self.outcome.groups:
                # The log first: without it the others mean nothing.
                turn.disk.extend(Delete(path + SWAP) for path in reversed(self._paths(group)))
        assert self.stage is not Stage.REPLACING
        self.stage = Stage.CANCELLED
        self._log.swap = None

    def synced(self, event: Synced) -> bool:
        """Whether the event is one of ours."""
        if event.token not in self._tokens:
            return False
        self._tokens.discard(event.token)
        if event.errno and self.stage is Stage.PREPARING:
            # Of a new file: the old ones are whole, and stay.
            self._tokens.clear()
            self.stage = Stage.FAILED
        elif event.errno:
            self._log.fail(
                f"sync of {event.path}: errno {event.errno}", event.errno, is_damage=True
            )
        elif not self._tokens and self.stage is Stage.PREPARING:
            self.stage = Stage.READY
        elif not self._tokens and self.stage is Stage.FINISHING:
            self._finish()
        return True

    # --- replace --------------------------------------------------------------------------

    def replace(self, turn: Turn) -> None:
        """The last thing before the disk is asked. Old segments go in the order in which a crash
        in between is of no matter: the swapped one holds all of them."""
        assert self.stage is Stage.READY
        self.stage = Stage.REPLACING
        for group in self.outcome.groups:
            for base_offset in reversed(group.sources):
                for path in _files_of(self._sources[base_offset]):
                    turn.rename(path, path + DELETED)
            for path in self._paths(group):
                turn.rename(path + SWAP, path)

    def replaced(self, turn: Turn) -> None:
        """The first thing after the disk has done so."""
        assert self.stage is Stage.REPLACING
        log = self._log
        if log.failure:
            # A rename failed: the log is read no more, and recovery will complete the swap.
            return
        self.stage = Stage.FINISHING
        deleted: list[str] = []
        for group in self.outcome.groups:
            deleted += self._change_chain(turn, group)
            self._tokens.add(log.start_sync(turn, self._paths(group)[-1]))
        if deleted:
            turn.after(log.config.file_delete_delay_ms, DeletionDue(tuple(deleted)))
        log.compactions += 1

    def _change_chain(self, turn: Turn, group: Group) -> list[str]:
        """The paths of what is to be deleted."""
        log = self._log
        first, count = self._number(group), len(group.sources)
        old = log.chain.items[first : first + count]
        segment = Segment(log.files, log.directory, group.base_offset, log.config, turn.wall_ms)
        segment.created_ms = max(source.created_ms for source in old)
        segment.adopt(group.size, group.end_offset)
        log.chain.replace(first, count, segment)
        gone = set(group.sources[1:])
        newest = log.snapshots[-1] if log.snapshots else -1
        for offset in [o for o in log.snapshots if o in gone and o != newest]:
            log.snapshots.remove(offset)
            turn.disk.append(Delete(f"{log.directory}/{file_name(offset, SNAPSHOT)}"))
        return [path + DELETED for source in old for path in _files_of(source)]

    def _finish(self) -> None:
        log = self._log
        self.stage = Stage.DONE
        log.swap = None
        log.first_dirty_offset = max(log.first_dirty_offset, self.outcome.cleaned_end)

    def trace(self) -> traces.LogCompacted:
        tp, outcome = self._log.tp, self.outcome
        return traces.LogCompacted(
            tp.topic,
            tp.partition,
            outcome.cleaned_end,
            outcome.bytes_before,
            outcome.bytes_after,
            outcome.records_before,
            outcome.records_after,
        )


def _files_of(segment: Segment) -> list[str]:
    paths = [segment.path]
    if segment.has_index_files:
        paths += [segment.index_path, segment.time_index_path]
    return paths


def delete_cleaned(
    files: Files, directory: str, turn: Turn, kept: frozenset[str] | set[str] = frozenset()
) -> None:
    """What a compactor left, or wrote for nothing."""
    paths = (f"{directory}/{name}" for name in files.list(directory) if name.endswith(CLEANED))
    turn.disk.extend(Delete(path) for path in paths if path not in kept)
