"""One segment: a file of record batches, its two indexes, and what is known about them.

    <base offset>.log          batches, back to back, whole
    <base offset>.index        offset index     } on the disk of sealed segments, and of the
    <base offset>.timeindex    time index       } active one after a checkpoint

Sizes: `written_size` bytes are in the file (`write(2)` returned), `size` bytes are staged; only
what is written is ever read. Every position handed out is the start of a batch.

`known` remembers where batches start that were appended or read lately. A reader at the tail and
one that reads on find their place there, without touching a file.

Indexes of segments from before this start are loaded when first needed, and built anew from the
log when they are missing or contradict it: an entry is believed only if the batch at its position
ends at its offset.

What an earlier incarnation wrote is checked once before it is first served, range by range (fault
contract, C3): reads cost what they serve, where checking whole segments would stop the loop for
half a second a gigabyte. CRC, and offsets and epochs, which the CRC does not cover.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Final

from kcluster.config import LogConfig
from kcluster.core.log.index import (
    NO_TIMESTAMP,
    OFFSET_ENTRY_BYTES,
    TIME_ENTRY_BYTES,
    OffsetIndex,
    TimeIndex,
)
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.scan import Header, checked_batches
from kcluster.core.turn import Files, Replace, Turn
from kcluster.errors import CorruptLogError
from kcluster.wire.records import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC

KNOWN_POSITIONS: Final = 512
"""Batch starts remembered of one segment."""
WALK_BYTES: Final = 16 << 10
"""Read at a time while walking small batches; larger ones are stepped over."""
RELATIVE_OFFSET_MAX: Final = 2**31 - 1

LOG, INDEX, TIME_INDEX, SNAPSHOT, DELETED = ".log", ".index", ".timeindex", ".snapshot", ".deleted"


def file_name(offset: int, suffix: str) -> str:
    return f"{offset:020d}{suffix}"


class Segment:
    __slots__ = (
        "_checked",
        "_files",
        "_offset_index",
        "_staged_latest",
        "_time_index",
        "base_offset",
        "bytes_since_entry",
        "created_ms",
        "empties_end",
        "end_offset",
        "first_timestamp",
        "has_index_files",
        "index_bytes",
        "index_path",
        "interval_bytes",
        "is_index_full",
        "is_index_stale",
        "known",
        "max_timestamp",
        "max_timestamp_offset",
        "path",
        "size",
        "synced_end",
        "time_index_path",
        "unchecked_size",
        "written_size",
    )

    def __init__(
        self, files: Files, directory: str, base_offset: int, config: LogConfig, wall_ms: int
    ) -> None:
        self._files = files
        self.base_offset = base_offset
        self.path = f"{directory}/{file_name(base_offset, LOG)}"
        self.index_path = f"{directory}/{file_name(base_offset, INDEX)}"
        self.time_index_path = f"{directory}/{file_name(base_offset, TIME_INDEX)}"
        self.interval_bytes = config.index_interval_bytes
        self.index_bytes = config.segment_index_bytes
        self.created_ms = wall_ms
        """When this incarnation first saw it: its age when its records have no timestamps."""
        self.has_index_files = False
        self.is_index_stale = False
        """The files had to be built anew, in memory; a checkpoint puts them right."""
        self._offset_index: OffsetIndex | None = None
        """None until loaded."""
        self._time_index: TimeIndex | None = None
        self.known: dict[int, int] = {}
        """{offset: position of the batch that starts with it, or of the end}"""
        self._checked: list[tuple[int, int]] = []
        """Disjoint ranges (start, end) below `unchecked_size` that were checked, in order."""
        self.clear()

    def clear(self) -> None:
        """An empty segment."""
        self.size = 0
        self.written_size = 0
        self.synced_end = self.base_offset
        """Below it all is durable: exclusive offset."""
        self.unchecked_size = 0
        """Bytes that an earlier incarnation wrote and recovery did not scan."""
        self.empties_end = 0
        """Behind this position no batch is empty; before it, some may be (see `compaction`)."""
        self.end_offset = self.base_offset
        """Exclusive end of what is staged."""
        self._offset_index = OffsetIndex()
        self._time_index = TimeIndex()
        self.bytes_since_entry = 0
        self.is_index_full = False
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        """Last offset of the batch that has it."""
        self.first_timestamp = NO_TIMESTAMP
        """Max timestamp of the first batch: what `segment.ms` counts from."""
        self._staged_latest: list[tuple[int, int]] = []
        """(last offset, max timestamp) of batches since everything was last written: what cannot
        be read back yet."""
        self.known.clear()
        self.known[self.base_offset] = 0

    def __repr__(self) -> str:
        return f"Segment({self.path}, {self.base_offset}..{self.end_offset}, {self.size})"

    # --- appending ------------------------------------------------------------------------

    def add(self, last_offset: int, size: int, max_timestamp: int) -> None:
        """A batch of `size` bytes goes to the end."""
        position = self.size
        if self.bytes_since_entry > self.interval_bytes:
            self._add_entries(last_offset, position)
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if not position:
            self.first_timestamp = max_timestamp
        if position == self.written_size:
            self._staged_latest.clear()
        self._staged_latest.append((last_offset, max_timestamp))
        self.bytes_since_entry += size
        self.size = position = position + size
        self.end_offset = end_offset = last_offset + 1
        self.known[end_offset] = position

    def _add_entries(self, last_offset: int, position: int) -> None:
        base_offset = self.base_offset
        self.offset_index.append(last_offset - base_offset, position)
        self.time_index.append_if_later(self.max_timestamp, self.max_timestamp_offset - base_offset)
        self.bytes_since_entry = 0
        self._look_for_room()

    def _look_for_room(self) -> None:
        """Room is left in the time index for the entry that sealing adds."""
        self.is_index_full = (
            len(self.offset_index) >= self.index_bytes // OFFSET_ENTRY_BYTES
            or len(self.time_index) >= self.index_bytes // TIME_ENTRY_BYTES - 1
        )

    def wants_roll(
        self, size: int, last_offset: int, max_timestamp: int, wall_ms: int, config: LogConfig
    ) -> bool:
        """Whether a batch of `size` bytes has to go to a new segment (Kafka's shouldRoll)."""
        if not self.size:
            return False
        if (
            self.size + size > config.segment_bytes
            or last_offset - self.base_offset > RELATIVE_OFFSET_MAX
            or self.is_index_full
        ):
            return True
        first = self.first_timestamp
        if first >= 0 and max_timestamp >= 0:
            waited_ms = max_timestamp - first
        else:
            waited_ms = wall_ms - self.created_ms
        if waited_ms <= config.segment_ms - config.segment_jitter_ms:
            return False
        return waited_ms > config.segment_ms - self.jitter_ms(config)

    def jitter_ms(self, config: LogConfig) -> int:
        """By the path, so that it needs no chance and still spreads the partitions."""
        bound = min(config.segment_jitter_ms, config.segment_ms)
        return zlib.crc32(self.path.encode()) % bound if bound else 0

    def truncate(self, size: int, end_offset: int) -> None:
        """Forget what lies behind `size`, the start of a batch, and `end_offset`."""
        if not size:
            self.clear()
            return
        self.offset_index.truncate(size)
        self.time_index.truncate(end_offset - self.base_offset)
        self.size = size
        self.end_offset = end_offset
        self.known = {offset: at for offset, at in self.known.items() if at <= size}
        self.known[end_offset] = size
        self.written_size = min(self.written_size, size)
        self.synced_end = min(self.synced_end, end_offset)
        self.unchecked_size = min(self.unchecked_size, size)
        self.empties_end = min(self.empties_end, size)
        if self.max_timestamp_offset >= end_offset:
            # Only the entries are left to tell; batches behind the last one may be later.
            self._load_tail(from_end=min(size, self.written_size))
            for last_offset, timestamp in self._staged_latest:
                if last_offset < end_offset and timestamp > self.max_timestamp:
                    self.max_timestamp, self.max_timestamp_offset = timestamp, last_offset

    # --- indexes --------------------------------------------------------------------------

    @property
    def offset_index(self) -> OffsetIndex:
        if self._offset_index is None:
            self.load_indexes()
        index = self._offset_index
        assert index is not None
        return index

    @property
    def time_index(self) -> TimeIndex:
        if self._time_index is None:
            self.load_indexes()
        index = self._time_index
        assert index is not None
        return index

    def largest_timestamp(self) -> tuple[int, int]:
        """(largest timestamp, last offset of its batch); (-1, base offset) for none."""
        if self._offset_index is None:
            self.load_indexes()
        return self.max_timestamp, self.max_timestamp_offset

    def forget_indexes(self) -> None:
        """Load them from the disk when they are next needed."""
        self._offset_index = self._time_index = None

    def adopt(self, size: int, end_offset: int) -> None:
        """Take over files that another process wrote and made durable, its indexes too."""
        self.size = self.written_size = self.unchecked_size = self.empties_end = size
        self.end_offset = self.synced_end = end_offset
        self.known[end_offset] = size
        self.has_index_files = True
        self.forget_indexes()

    def read_from(self, files: Files) -> None:
        self._files = files

    def load_indexes(self) -> None:
        """From their files, or from the log when these will not do."""
        offsets = times = None
        if self.has_index_files:
            offsets = OffsetIndex.decode(self._read_all(self.index_path))
            times = TimeIndex.decode(self._read_all(self.time_index_path))
        reach = self.end_offset - self.base_offset
        if (
            offsets is None
            or times is None
            or (offsets and (offsets.offsets[-1] >= reach or offsets.positions[-1] >= self.size))
            or (times and times.offsets[-1] >= reach)
        ):
            self.rebuild_indexes()
            return
        self._offset_index = offsets
        self._time_index = times
        if times and not self._confirms_time(len(times) - 1):
            return
        self._load_tail(self.written_size)

    def older_below(self, timestamp: int) -> int:
        """An offset below which every record is older than `timestamp`: a place to walk from."""
        number = self.time_index.floor(timestamp)
        if number < 0:
            return self.base_offset
        if not self._confirms_time(number):
            return self.older_below(timestamp)
        return self.base_offset + self.time_index.offsets[number]

    def _confirms_time(self, number: int) -> bool:
        """Whether the log agrees with an entry of the time index; if not, the indexes have been
        built anew. Retention deletes by these: a flipped bit must not (NATS #7556)."""
        index = self.time_index
        timestamp, offset = index.timestamps[number], self.base_offset + index.offsets[number]
        position, _ = self.find(offset)
        if position >= self.unchecked_size:
            # Ours, of this incarnation; it may only be staged.
            return True
        _, header = next(self.headers(position, self.written_size))
        if header[8] == timestamp and header[0] + header[6] == offset:
            return True
        if self.is_index_stale:
            raise CorruptLogError(f"{self.path}: no batch of {timestamp} ends at {offset}")
        self.rebuild_indexes()
        return False

    def rebuild_indexes(self) -> None:
        """By walking all headers of the file; entries of what is only staged are kept. Raises
        CorruptLogError."""
        old, written = self._offset_index, self.written_size
        staged = old.from_position(written) if old is not None else ()
        latest = self.max_timestamp, self.max_timestamp_offset
        size, end_offset, known = self.size, self.end_offset, self.known
        self._offset_index = OffsetIndex()
        self._time_index = TimeIndex()
        self.bytes_since_entry = 0
        self.max_timestamp = self.first_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        self.is_index_stale = True
        self.size, self.known = 0, {}
        try:
            for _, header in self.headers(0, written):
                self.add(header[0] + header[6], header[1] + LENGTH_OVERHEAD, header[8])
                self.known.clear()
            if latest[1] >= self.end_offset and latest[0] > self.max_timestamp:
                self.max_timestamp, self.max_timestamp_offset = latest
        finally:
            self.size, self.end_offset, self.known = size, end_offset, known
        for relative_offset, position in staged:
            self._offset_index.append(relative_offset, position)
            self.bytes_since_entry = size - position

    def _load_tail(self, from_end: int) -> None:
        """What `add` goes on from: bytes since the last entry, largest timestamp, first one."""
        self._look_for_room()
        offsets, times = self.offset_index, self.time_index
        self.max_timestamp = times.timestamps[-1] if times else NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset + (times.offsets[-1] if times else 0)
        start = offsets.positions[-1] if offsets else 0
        self.bytes_since_entry = self.size - start
        if times and self.max_timestamp_offset < self.end_offset:
            # A time index that lost its end would make the segment look older than it is.
            start = min(start, self.find(self.max_timestamp_offset)[0])
        elif not times:
            start = 0
        for _, header in self.headers(start, from_end):
            if header[8] > self.max_timestamp:
                self.max_timestamp = header[8]
                self.max_timestamp_offset = header[0] + header[6]
        if from_end:
            _, header = next(self.headers(0, from_end))
            self.first_timestamp = header[8]

    def write_indexes(self, turn: Turn) -> None:
        data = self.time_index.encode(
            self.max_timestamp, self.max_timestamp_offset - self.base_offset
        )
        turn.disk.append(Replace(self.index_path, self.offset_index.encode()))
        turn.disk.append(Replace(self.time_index_path, data))
        self.has_index_files = True
        self.is_index_stale = False

    def _read_all(self, path: str) -> bytes:
        return self._files.read(path, 0, max(self._files.size(path), 0))

    # --- reading --------------------------------------------------------------------------

    def headers(self, position: int, end: int) -> Iterator[tuple[int, Header]]:
        """(position, header) of each batch in the file from `position`, the start of one, up to
        `end`. Raises CorruptLogError where there is none, or not the one that comes next."""
        read = self._files.read
        unpack_from = HEADER.unpack_from
        chunk, chunk_start, want = b"", position, WALK_BYTES
        base_offset = self.base_offset
        expected = -1 if position else base_offset
        while position < end:
            at = position - chunk_start
            if at + HEADER_BYTES > len(chunk):
                chunk = read(self.path, position, min(want, end - position))
                chunk_start, at = position, 0
                if len(chunk) < HEADER_BYTES:
                    raise CorruptLogError(f"{self.path}: a batch is cut short at {position}")
            header: Header = unpack_from(chunk, at)
            size = header[1] + LENGTH_OVERHEAD
            if header[3] != MAGIC or size < HEADER_BYTES or position + size > end:
                raise CorruptLogError(f"{self.path}: there is no batch at {position}")
            offset = header[0]
            reach = offset - base_offset + header[6]
            if (offset != expected and (expected >= 0 or offset < base_offset)) or not 0 <= header[
                6
            ] <= reach <= RELATIVE_OFFSET_MAX:
                raise CorruptLogError(f"{self.path}: offset {offset} at {position}")
            yield position, header
            expected = offset + header[6] + 1
            want = HEADER_BYTES if size > WALK_BYTES else WALK_BYTES
            position += size

    def find(self, offset: int) -> tuple[int, int]:
        """(position, base offset) of the first batch whose last offset is at or behind `offset`;
        the end when there is none. Raises CorruptLogError."""
        position = self.known.get(offset)
        if position is not None:
            return position, offset
        end = self.written_size
        for position, header in self.headers(self._entry_below(offset), end):
            if header[0] + header[6] >= offset:
                self.remember(header[0], position)
                return position, header[0]
        return end, self.end_offset

    def cut(self, start: int, end: int) -> tuple[int, int]:
        """(position, offset) of the last batch start in (`start`, `end`], both in the file; that
        behind the first batch when this one reaches beyond `end`."""
        index = self.offset_index
        number = index.floor_position(end)
        walk = start
        if number >= 0 and index.positions[number] > start:
            walk = index.positions[number]
            if not self._confirms(number):
                return self.cut(start, end)
        for position, header in self.headers(walk, self.written_size):
            if position + header[1] + LENGTH_OVERHEAD > end:
                if position > start:
                    self.remember(header[0], position)
                    return position, header[0]
                following = header[0] + header[6] + 1
                self.remember(following, position + header[1] + LENGTH_OVERHEAD)
                return position + header[1] + LENGTH_OVERHEAD, following
        return self.written_size, self.end_offset

    def staged_find(self, offset: int) -> tuple[int, int] | None:
        """(position, offset) of the batch behind the written end that holds `offset`."""
        written = self.written_size
        staged = [start for start, at in self.known.items() if start <= offset and at >= written]
        return (self.known[max(staged)], max(staged)) if staged else None

    def remember(self, offset: int, position: int) -> None:
        self.known[offset] = position
        self.bound_known()

    def bound_known(self) -> None:
        if len(self.known) > KNOWN_POSITIONS:
            # What is staged must stay findable: its batches are not in the file yet.
            written = self.written_size
            self.known = {offset: at for offset, at in self.known.items() if at >= written}

    def _entry_below(self, offset: int) -> int:
        index = self.offset_index
        # Entries of staged batches are there before their bytes are.
        number = min(
            index.floor(offset - self.base_offset), index.floor_position(self.written_size - 1)
        )
        if number < 0:
            return 0
        if not self._confirms(number):
            return self._entry_below(offset)
        return self.offset_index.positions[number]

    def _confirms(self, number: int) -> bool:
        """Whether the log agrees with an entry; if not, the indexes have been built anew."""
        index = self.offset_index
        position, relative = index.positions[number], index.offsets[number]
        data = self._files.read(self.path, position, HEADER_BYTES)
        if len(data) == HEADER_BYTES:
            header: Header = HEADER.unpack(data)
            if header[3] == MAGIC and header[0] + header[6] == self.base_offset + relative:
                return True
        if position >= self.unchecked_size:
            raise CorruptLogError(f"{self.path}: there is no batch at {position}")
        self.rebuild_indexes()
        return False

    # --- checking -------------------------------------------------------------------------

    def is_checked(self, start: int, end: int) -> bool:
        """Whether [start, end) may be served."""
        end = min(end, self.unchecked_size)
        if start >= end:
            return True
        number = bisect_right(self._checked, (start, self.unchecked_size)) - 1
        return number >= 0 and self._checked[number][1] >= end

    def check(self, start: int, end: int, base_offset: int, epochs: LeaderEpochs) -> None:
        """Check the batches in [start, end), of which the first has `base_offset`, and remember
        that. Raises CorruptLogError."""
        for _ in checked_batches(self._files, self.path, (start, end), base_offset, epochs):
            pass
        ranges = self._checked
        insort(ranges, (start, end))
        merged = ranges[:1]
        for low, high in ranges[1:]:
            if low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._checked = merged
