"""The metadata log: what the cluster is, durable before anybody hears of it.

    append(records)   one batch for each decision, staged
    settle            its bytes are written: ask for a sync, if none is in flight
    Synced            committed: what was written when that sync was asked for; what came
                      meanwhile shares the next one (group commit)

    snapshot          <20 digits of next_offset>.checkpoint beside the segments: the committed
                      image as records, with a checksum
    load              the newest snapshot that is whole, then the records behind it

One snapshot before the newest is kept with the log from there on, so that a damaged one costs
nothing. Records of the tail are also kept in memory, to bring brokers up to date. A disk error
here is fatal: nothing may be decided that cannot be kept, and a failed fsync must not be tried
again (the kernel has marked the pages clean).

What loading replays counts as committed only after a sync of its own: it may have been written
by a process that died before its sync returned.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from itertools import islice

from kcluster.config import LIMITS
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Append, Delete, Files, Replace, Sync, Synced, Truncate, Turn
from kcluster.errors import CorruptLogError, DiskError

DIRECTORY = "__cluster_metadata-0"
SNAPSHOT_SUFFIX = ".checkpoint"
_SNAPSHOT_MAGIC = b"kcluster snapshot 1\n"
_SNAPSHOT_HEAD = struct.Struct(">QIQ")
"""next_offset, CRC of the payload, size of the payload."""
_BATCH_HEAD = struct.Struct(">IIQI")
"""Size of the payload, its CRC, base offset, records."""


class MetadataLog:
    def __init__(self, files: Files, leader_epoch: int) -> None:
        self.files = files
        self.leader_epoch = leader_epoch
        self.image = ClusterImage()
        """The cluster as of `committed_offset`. Only this is told to others."""
        self.end_offset = 0
        """Next offset to be given; what is below may not be committed yet."""
        self.committed_offset = 0
        """Exclusive end of what is durable. Invariant: committed_offset <= end_offset."""
        self.snapshot_offset = 0
        """Of the newest snapshot; 0 without one."""
        self._previous_snapshot = 0
        self._tail: deque[r.Record] = deque()
        self._tail_offset = 0
        """Offset of the first record in `_tail`."""
        self._is_syncing = False
        self._path = f"{DIRECTORY}/00000000000000000000.log"
        self._size = 0
        self._written = 0

    # --- append and commit ----------------------------------------------------------------

    def append(self, turn: Turn, records: list[r.Record]) -> None:
        assert records, "a batch without records"
        payload = r.encode_all(records)
        head = _BATCH_HEAD.pack(len(payload), zlib.crc32(payload), self.end_offset, len(records))
        turn.append(self._path, self._size, self, head + payload)
        self._size += len(head) + len(payload)
        self.end_offset += len(records)
        self._tail.extend(records)

    def written(self, turn: Turn, append: Append) -> None:
        self._written = self.end_offset

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None:
        raise DiskError(errno, append.path, "append to the metadata log")

    def settle(self, turn: Turn) -> None:
        if not self._is_syncing and self._written > self.committed_offset:
            self._is_syncing = True
            turn.disk.append(Sync(self._path, self._written))

    def synced(self, turn: Turn, event: Synced) -> None:
        if event.errno:
            raise DiskError(event.errno, event.path, "sync of the metadata log")
        self._is_syncing = False
        start = self.committed_offset - self._tail_offset
        for record in islice(self._tail, start, event.token - self._tail_offset):
            self.image.replay(record)
        self.committed_offset = self.image.next_offset = event.token
        while self.committed_offset - self._tail_offset > LIMITS.metadata_tail_records:
            self._tail.popleft()
            self._tail_offset += 1

    def tail(self, first_offset: int) -> list[r.Record] | None:
        """Committed records from `first_offset` on; None when they are no longer in memory."""
        if first_offset < self._tail_offset:
            return None
        start = first_offset - self._tail_offset
        return list(islice(self._tail, start, self.committed_offset - self._tail_offset))

    # --- load and snapshot ----------------------------------------------------------------

    def load(self, turn: Turn) -> ClusterImage:
        """Replay what is on disk. Returns the image with all of it; `self.image` follows when
        the first sync has come back."""
        payload = self.files.read(self._path, 0, max(self.files.size(self._path), 0))
        position = 0
        while position + _BATCH_HEAD.size <= len(payload):
            size, crc, base_offset, count = _BATCH_HEAD.unpack_from(payload, position)
            body = payload[position + _BATCH_HEAD.size : position + _BATCH_HEAD.size + size]
            if len(body) != size or zlib.crc32(body) != crc or base_offset != self.end_offset:
                break
            records = r.decode_all(body)
            if len(records) != count:
                raise CorruptLogError(f"{self._path}: {count} records promised at {position}")
            self._tail.extend(records)
            self.end_offset += count
            position += _BATCH_HEAD.size + size
        if position < len(payload):
            turn.disk.append(Truncate(self._path, position))
        self._size = position
        self._written = self.end_offset
        image = ClusterImage()
        for record in self._tail:
            image.replay(record)
        return image

    def snapshot_if_due(self, turn: Turn) -> None:
        """After a commit: a new snapshot every LIMITS.metadata_snapshot_records records."""
        if self.committed_offset - self.snapshot_offset < LIMITS.metadata_snapshot_records:
            return
        turn.disk.append(
            Replace(snapshot_path(self.committed_offset), encode_snapshot(self.image), True)
        )
        if self._previous_snapshot:
            turn.disk.append(Delete(snapshot_path(self._previous_snapshot)))
        self._previous_snapshot = self.snapshot_offset
        self.snapshot_offset = self.committed_offset


def snapshot_path(next_offset: int) -> str:
    return f"{DIRECTORY}/{next_offset:020d}{SNAPSHOT_SUFFIX}"


def encode_snapshot(image: ClusterImage) -> bytes:
    payload = r.encode_all(image.records())
    head = _SNAPSHOT_HEAD.pack(image.next_offset, zlib.crc32(payload), len(payload))
    return _SNAPSHOT_MAGIC + head + payload


def decode_snapshot(data: bytes) -> ClusterImage:
    """Raises CorruptLogError when it is not whole."""
    start = len(_SNAPSHOT_MAGIC) + _SNAPSHOT_HEAD.size
    if len(data) < start or not data.startswith(_SNAPSHOT_MAGIC):
        raise CorruptLogError("no snapshot of ours")
    next_offset, crc, size = _SNAPSHOT_HEAD.unpack_from(data, len(_SNAPSHOT_MAGIC))
    payload = data[start:]
    if len(payload) != size or zlib.crc32(payload) != crc:
        raise CorruptLogError(f"the snapshot at {next_offset} is damaged")
    image = ClusterImage()
    for record in r.decode_all(payload):
        image.replay(record)
    image.next_offset = next_offset
    return image
