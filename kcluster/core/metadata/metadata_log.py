"""The metadata log: what the cluster is, durable before anybody hears of it.

    append(records)   one batch for each decision, staged
    settle            its bytes are written: ask for a sync, if none is under way
    Synced            committed: what was written when that sync was asked for; what came
                      meanwhile shares the next one (group commit)
    load              the newest snapshot that is whole, then the records behind it

Two images: the controller's, to which each record is replayed as it is decided, and `image`
here, which follows when records are committed. Only the latter is told to others or written as
a snapshot.

The snapshot before the newest is kept, with the log from there on, so that a damaged one costs
nothing. The committed tail is also kept in memory, to bring brokers up to date. A disk error
here is fatal: nothing may be decided that cannot be kept, and a failed fsync is not tried again
(the kernel has marked the pages clean).

Up to where it is committed also stands in a small file, written in place after each sync and
before anybody hears of it. A kill leaves it as it was, and a power loss at most an older one:
whatever it says must be there, so that a log that lost its end is not taken for a shorter one.

What loading replays counts as committed only after a sync of its own: it may have been written
by a process that died before its sync returned.

Source: KIP-630 (snapshots).
"""

from __future__ import annotations

import struct
from collections import deque
from itertools import islice

from fastcrc import crc32

from kcluster.core.metadata import records as r
from kcluster.core.metadata import segments, snapshot
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.traces import Warned
from kcluster.core.turn import Append, Delete, Files, Replace, Sync, Synced, Truncate, Turn
from kcluster.errors import CorruptLogError, DiskError
from kcluster.limits import LIMITS

DIRECTORY = "__cluster_metadata-0"

COMMITTED_FILE = "committed-offset"
_COMMITTED = struct.Struct(">QI")
"""Offset, CRC-32C of its eight bytes."""


class MetadataLog:
    def __init__(
        self,
        files: Files,
        leader_epoch: int,
        *,
        directory: str = DIRECTORY,
        snapshot_records: int = LIMITS.metadata_snapshot_records,
        tail_records: int = LIMITS.metadata_tail_records,
    ) -> None:
        self.files = files
        self.leader_epoch = leader_epoch
        """Of the batches: the controller's incarnation."""
        self.directory = directory
        self._committed_path = f"{directory}/{COMMITTED_FILE}"
        self.snapshot_records = snapshot_records
        self.tail_records = tail_records
        self.image = ClusterImage()
        """The cluster as of `committed_offset`."""
        self.end_offset = 0
        """Next offset to be given; what is below may not be committed yet."""
        self.committed_offset = 0
        """Exclusive end of what is durable. Invariant: committed_offset <= end_offset."""
        self.snapshot_offset = 0
        """Of the newest snapshot; 0 without one."""
        self._previous_snapshot = 0
        self._segments: list[int] = []
        """Base offsets, rising; the last one is appended to."""
        self._size = 0
        """Bytes of the last segment, staged ones included."""
        self._rolls = False
        """The next batch begins a segment, as soon as nothing is uncommitted."""
        self._tail: deque[r.Record] = deque()
        self._tail_offset = 0
        """Offset of the first record in `_tail`; its last is the one before `end_offset`."""
        self._unsynced: dict[str, None] = {}
        """Paths written since the last sync was asked for, in order."""
        self._syncs_under_way = 0
        self._sync_target = 0
        """What is committed when the syncs under way have come back."""

    # --- append and commit ----------------------------------------------------------------

    def append(self, turn: Turn, records: list[r.Record]) -> None:
        """Stage one decision. Offsets begin at `end_offset`."""
        assert records, "a decision without records makes no batch"
        if not self._segments or (self._rolls and self.committed_offset == self.end_offset):
            self._segments.append(self.end_offset)
            self._size = 0
            self._rolls = False
        batch = segments.encode_batch(
            records, self.end_offset, self.leader_epoch, self.committed_offset, turn.wall_ms
        )
        turn.append(self._path(self._segments[-1]), self._size, self, batch)
        self._size += len(batch)
        self.end_offset += len(records)
        self._tail.extend(records)

    def written(self, turn: Turn, append: Append) -> None:
        if append.path == self._committed_path:
            return
        self._unsynced[append.path] = None

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None:
        raise DiskError(errno, append.path, "append to the metadata log")

    def settle(self, turn: Turn) -> None:
        """All writes of the turn have ended: have them made durable."""
        if self._syncs_under_way or not self._unsynced or turn.disk:
            return
        self._sync_target = self.end_offset
        self._syncs_under_way = len(self._unsynced)
        for path in self._unsynced:
            turn.disk.append(Sync(path, self._sync_target))
        self._unsynced = {}

    def synced(self, turn: Turn, event: Synced) -> None:
        if event.errno:
            raise DiskError(event.errno, event.path, "sync of the metadata log")
        assert self._syncs_under_way > 0, "a sync that nobody asked for"
        self._syncs_under_way -= 1
        if self._syncs_under_way:
            return
        start = self.committed_offset - self._tail_offset
        for record in islice(self._tail, start, self._sync_target - self._tail_offset):
            self.image.replay(record)
        self.committed_offset = self.image.next_offset = self._sync_target
        offset = self.committed_offset.to_bytes(8, "big")
        told = _COMMITTED.pack(self.committed_offset, crc32.iscsi(offset))
        turn.append(self._committed_path, 0, self, told)
        while self.committed_offset - self._tail_offset > self.tail_records:
            self._tail.popleft()
            self._tail_offset += 1

    def tail(self, first_offset: int) -> list[r.Record] | None:
        """Committed records from `first_offset` on; None when they are no longer in memory."""
        if not self._tail_offset <= first_offset <= self.committed_offset:
            return None
        start = first_offset - self._tail_offset
        return list(islice(self._tail, start, self.committed_offset - self._tail_offset))

    # --- snapshots --------------------------------------------------------------------------

    def snapshot_if_due(self, turn: Turn) -> None:
        """After a commit: a snapshot every `snapshot_records` records, and what is older than
        the one before it goes."""
        if self.committed_offset - self.snapshot_offset < self.snapshot_records:
            return
        path = f"{self.directory}/{snapshot.file_name(self.committed_offset)}"
        turn.disk.append(Replace(path, snapshot.encode_snapshot(self.image), durable=True))
        # Operations are carried out in order, and a failed one ends the process: nothing is
        # deleted before the snapshot is in place.
        if self._previous_snapshot:
            old = snapshot.file_name(self._previous_snapshot)
            turn.disk.append(Delete(f"{self.directory}/{old}"))
        self._previous_snapshot = self.snapshot_offset
        self.snapshot_offset = self.committed_offset
        self._rolls = True
        while len(self._segments) > 1 and self._segments[1] <= self._previous_snapshot:
            turn.disk.append(Delete(self._path(self._segments.pop(0))))

    # --- load -------------------------------------------------------------------------------

    def load(self, turn: Turn) -> ClusterImage:
        """Replay what is on disk; called once, in the first turn. Returns the image with all
        of it; `self.image` follows when the first sync has come back.

        Raises CorruptLogError when committed records are missing or damaged.
        """
        data = self._newest_snapshot(turn)
        start = self.snapshot_offset
        committed = self._read_committed(turn)
        self.end_offset = self.committed_offset = self._tail_offset = start
        self._segments = segments.base_offsets(self.files, self.directory)
        if (start and not self._segments) or (self._segments and self._segments[0] > start):
            raise CorruptLogError(
                f"{self.directory}: the metadata log begins at {self._segments[:1]}; what is "
                f"before it is in no snapshot that is whole"
            )
        end = max((base for base in self._segments if base <= start), default=0)
        for base in [base for base in self._segments if base >= end]:
            if base != end and not end < base == start:
                raise CorruptLogError(f"{self.directory}: no segment holds {end} to {base}")
            end = base + self._load_segment(turn, base, committed)
        if self.end_offset < committed:
            raise CorruptLogError(
                f"{self.directory}: the metadata log ends at {self.end_offset}, and was committed "
                f"to {committed}"
            )
        if end < start:
            turn.trace(Warned(f"the metadata log ends at {end}, its snapshot holds {start}"))
            self._rolls = True
        image = ClusterImage()
        if data:
            image, self.image = snapshot.decode_snapshot(data), snapshot.decode_snapshot(data)
        for record in self._tail:
            image.replay(record)
        image.next_offset = self.end_offset
        return image

    def _newest_snapshot(self, turn: Turn) -> bytes:
        """The newest that is whole, b"" without one; those before it are remembered."""
        names = [name for name in self.files.list(self.directory) if name.endswith(snapshot.SUFFIX)]
        found = b""
        for name in sorted(names, reverse=True):
            path = f"{self.directory}/{name}"
            data = self.files.read(path, 0, max(self.files.size(path), 0))
            try:
                offset = snapshot.decode_snapshot(data).next_offset
                if name != snapshot.file_name(offset):
                    raise CorruptLogError(f"it says to end at {offset}")
            except CorruptLogError as error:
                turn.trace(Warned(f"{path} is not used: {error}"))
                continue
            if found:
                self._previous_snapshot = offset
                break
            found, self.snapshot_offset = data, offset
        return found

    def _read_committed(self, turn: Turn) -> int:
        """What was committed for certain; 0 when nobody can tell."""
        data = self.files.read(self._committed_path, 0, _COMMITTED.size)
        if len(data) == _COMMITTED.size:
            offset, crc = _COMMITTED.unpack(data)
            if crc32.iscsi(data[:8]) == crc:
                return int(offset)
        if self.files.size(self._committed_path) >= 0:
            turn.trace(Warned(f"{self._committed_path} is not used: {len(data)} damaged bytes"))
        return 0

    def _load_segment(self, turn: Turn, base_offset: int, committed: int) -> int:
        """Take its records from the snapshot on; how many it has."""
        path = self._path(base_offset)
        is_last = base_offset == self._segments[-1]
        records, size = segments.read_segment(
            self.files, path, base_offset, committed, is_last=is_last
        )
        self._tail.extend(records[max(self.end_offset - base_offset, 0) :])
        self.end_offset = max(self.end_offset, base_offset + len(records))
        self._unsynced[path] = None
        if is_last:
            self._size = size
            cut = self.files.size(path) - size
            if cut > 0:
                turn.disk.append(Truncate(path, size))
                turn.trace(Warned(f"{path}: cut {cut} bytes that were never committed"))
        return len(records)

    def _path(self, base_offset: int) -> str:
        return f"{self.directory}/{segments.file_name(base_offset)}"
