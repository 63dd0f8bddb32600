"""The segments of a cluster's replicas as they lie on the disk: what `kcluster segments` lists.

Only the headers of batches are read, and no CRC is computed: that is `verify`'s work. Nobody is
asked, so that it works on a cluster that has ended and beside brokers that hang; what a broker
keeps in memory (index entries of an active segment, until the next checkpoint) is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from kcluster.client.verify_log import ReadOnlyFiles, base_offsets, sibling
from kcluster.core.log.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES
from kcluster.core.log.segment import INDEX, LOG, TIME_INDEX, file_name
from kcluster.errors import RemoteProtocolError
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.wire.records import HEADER_BYTES, BatchHeader, batches, read_header

READ_BYTES: Final = 1 << 20
"""At a time while batches are small; larger ones are stepped over."""


class SegmentFile(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    broker: int
    """0 for the coordinator, which has the metadata log."""
    base_offset: int
    last_offset: int | None
    """Inclusive; None while it is empty."""
    records: int
    batches: int
    bytes: int
    index_entries: int | None
    """None without the file: an active segment gets it at a checkpoint."""
    time_index_entries: int | None
    first_timestamp: int | None
    """Wall ms, of the first batch; None where there is none."""
    last_timestamp: int | None
    """The largest, by which retention goes."""
    age_ms: int | None
    """Since then."""
    is_active: bool
    leader_epochs: list[int]
    """Of its batches, in order."""
    path: str
    problem: str = ""
    """Where its batches stop making sense before its end."""


def partitions_of(directory: Path, broker: int) -> list[TopicPartition]:
    """Those that a broker's directory holds, `broker` 0 being the coordinator's."""
    place = data_dir(directory, broker)
    found = []
    for name in ReadOnlyFiles(place).list(""):
        topic, _, number = name.rpartition("-")
        if topic and number.isdecimal() and (place / name).is_dir():
            found.append(TopicPartition(topic, int(number)))
    return sorted(found)


def data_dir(directory: Path, broker: int) -> Path:
    return directory / ("coordinator" if broker == COORDINATOR else f"broker-{broker}")


def read_segments(
    directory: Path, broker: int, tp: TopicPartition, wall_ms: int
) -> Iterator[SegmentFile]:
    """Of one replica, oldest first. What is deleted meanwhile is left out."""
    place = data_dir(directory, broker)
    files = ReadOnlyFiles(place)
    bases = base_offsets(files.list(str(tp)), LOG)
    for base_offset in bases:
        path = f"{tp}/{file_name(base_offset, LOG)}"
        size = files.size(path)
        if size < 0:
            continue
        walk = _Walk(files, path, size)
        for header in walk.headers():
            walk.add(header)
        last_timestamp = walk.last_timestamp if walk.last_timestamp >= 0 else None
        yield SegmentFile(
            tp.topic,
            tp.partition,
            broker,
            base_offset,
            walk.last_offset,
            walk.records,
            walk.batches,
            size,
            _entries(files, sibling(path, INDEX), OFFSET_ENTRY_BYTES),
            _entries(files, sibling(path, TIME_INDEX), TIME_ENTRY_BYTES),
            walk.first_timestamp if walk.first_timestamp >= 0 else None,
            last_timestamp,
            None if last_timestamp is None else max(0, wall_ms - last_timestamp),
            base_offset == bases[-1],
            walk.epochs,
            str(place / path),
            walk.problem,
        )


def _entries(files: ReadOnlyFiles, path: str, entry_bytes: int) -> int | None:
    size = files.size(path)
    return None if size < 0 else size // entry_bytes


class _Walk:
    """From header to header of one segment, and what they add up to."""

    def __init__(self, files: ReadOnlyFiles, path: str, size: int) -> None:
        self._files = files
        self._path = path
        self._size = size
        self.last_offset: int | None = None
        self.records = 0
        self.batches = 0
        self.first_timestamp = -1
        self.last_timestamp = -1
        self.epochs: list[int] = []
        self.problem = ""

    def add(self, header: BatchHeader) -> None:
        if not self.batches:
            self.first_timestamp = header.base_timestamp
        self.batches += 1
        self.records += header.record_count
        self.last_offset = header.last_offset
        self.last_timestamp = max(self.last_timestamp, header.max_timestamp)
        if self.epochs[-1:] != [header.leader_epoch]:
            self.epochs.append(header.leader_epoch)

    def headers(self) -> Iterator[BatchHeader]:
        position = 0
        try:
            while position < self._size:
                want = min(READ_BYTES, self._size - position)
                chunk = self._files.read(self._path, position, want)
                before = position
                for at, header in batches(chunk):
                    yield header
                    position = before + at + header.size
                if position > before:
                    continue
                # Larger than what was read: its header is all that is wanted of it.
                if len(chunk) < HEADER_BYTES:
                    break
                header = read_header(chunk)
                if position + header.size > self._size:
                    break
                yield header
                position += header.size
        except RemoteProtocolError as error:
            self.problem = f"{error} at byte {position}"
            return
        if position < self._size:
            self.problem = f"no whole batch at byte {position}"
