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
from kcluster.core.turn import Files, Replace, Turn
from kcluster.errors import CorruptLogError
from kcluster.wire.records import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, check_crc

Header = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""As `wire.records.HEADER` unpacks it: base offset 0, length 1, leader epoch 2, magic 3,
last offset delta 6, max timestamp 8, producer id 9."""

KNOWN_POSITIONS: Final = 512
"""Batch starts remembered of one segment."""
WALK_BYTES: Final = 16 << 10
"""Read at a time while walking small batches; larger ones are stepped over."""
CHECK_BYTES: Final = 1 << 20
"""Read at a time while checking CRCs."""
RELATIVE_OFFSET_MAX: Final = 2**31 - 1

LOG, INDEX, TIME_INDEX, SNAPSHOT, DELETED = ".log", ".index", ".timeindex", ".snapshot", ".deleted"


def file_name(offset: int, suffix: str) -> str:
    return f"{offset:020d}{suffix}"


class Segment:
    __slots__ = (
        "_checked",
        "_files",
        "_offset_index",
        "_time_index",
        "base_offset",
        "bytes_since_entry",
        "created_ms",
        "end_offset",
        "first_timestamp",
        "has_index_files",
        "index_path",
        "interval_bytes",
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
        self.created_ms = wall_ms
        """When this incarnation first saw it: its age when its records have no timestamps."""
        self.has_index_files = False
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
        self.end_offset = self.base_offset
        """Exclusive end of what is staged."""
        self._offset_index = OffsetIndex()
        self._time_index = TimeIndex()
        self.bytes_since_entry = 0
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        """Last offset of the batch that has it."""
        self.first_timestamp = NO_TIMESTAMP
        """Max timestamp of the first batch: what `segment.ms` counts from."""
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
        self.bytes_since_entry += size
        self.size = position = position + size
        self.end_offset = end_offset = last_offset + 1
        self.known[end_offset] = position

    def _add_entries(self, last_offset: int, position: int) -> None:
        base_offset = self.base_offset
        self.offset_index.append(last_offset - base_offset, position)
        self.time_index.append_if_later(self.max_timestamp, self.max_timestamp_offset - base_offset)
        self.bytes_since_entry = 0

    def wants_roll(
        self, size: int, last_offset: int, max_timestamp: int, wall_ms: int, config: LogConfig
    ) -> bool:
        """Whether a batch of `size` bytes has to go to a new segment (Kafka's shouldRoll)."""
        if not self.size:
            return False
        if (
            self.size + size > config.segment_bytes
            or last_offset - self.base_offset > RELATIVE_OFFSET_MAX
        ):
            return True
        entries = len(self.offset_index)
        if (
            entries >= config.segment_index_bytes // OFFSET_ENTRY_BYTES
            or len(self.time_index) >= config.segment_index_bytes // TIME_ENTRY_BYTES - 1
        ) and entries:
            return True
        if self.first_timestamp >= 0 and max_timestamp >= 0:
            waited_ms = max_timestamp - self.first_timestamp
        else:
            waited_ms = wall_ms - self.created_ms
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
        if self.max_timestamp_offset >= end_offset:
            # Only the entries are left to tell; batches behind the last one may be later. What
            # is staged cannot be walked: a timestamp too small there is right again at restart.
            self._load_tail(from_end=min(size, self.written_size))

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
        self._load_tail(self.written_size)

    def rebuild_indexes(self) -> None:
        """By walking all headers of the file. Raises CorruptLogError."""
        self._offset_index = OffsetIndex()
        self._time_index = TimeIndex()
        self.bytes_since_entry = 0
        self.max_timestamp = self.first_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        self.has_index_files = False
        size, self.size = self.size, 0
        end_offset = self.end_offset
        known = self.known
        self.known = {}
        for _, header in self.headers(0, size):
            self.add(header[0] + header[6], header[1] + LENGTH_OVERHEAD, header[8])
            self.known.clear()
        self.size, self.end_offset, self.known = size, end_offset, known

    def _load_tail(self, from_end: int) -> None:
        """What `add` goes on from: bytes since the last entry, largest timestamp, first one."""
        offsets, times = self.offset_index, self.time_index
        self.max_timestamp = times.timestamps[-1] if times else NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset + (times.offsets[-1] if times else 0)
        start = offsets.positions[-1] if offsets else 0
        self.bytes_since_entry = self.size - start
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

    def _read_all(self, path: str) -> bytes:
        return self._files.read(path, 0, max(self._files.size(path), 0))

    # --- reading --------------------------------------------------------------------------

    def headers(self, position: int, end: int) -> Iterator[tuple[int, Header]]:
        """(position, header) of each batch in the file from `position`, the start of one, up to
        `end`. Raises CorruptLogError where there is none."""
        read = self._files.read
        unpack_from = HEADER.unpack_from
        chunk, chunk_start, want = b"", position, WALK_BYTES
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
            yield position, header
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
        number = self.offset_index.floor(offset - self.base_offset)
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
        for _ in self.checked_batches(start, end, base_offset, epochs):
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

    def checked_batches(
        self, position: int, end: int, base_offset: int, epochs: LeaderEpochs | None
    ) -> Iterator[tuple[int, Header]]:
        """(position, header) of batches that are whole, pass their CRC, follow each other
        without a gap and, given the epoch cache, lie in their epochs. Raises CorruptLogError at
        the first that does not."""
        read = self._files.read
        unpack_from = HEADER.unpack_from
        expected = base_offset
        last_epoch = -1
        chunk, chunk_start = b"", position
        while position < end:
            at = position - chunk_start
            size = HEADER_BYTES
            if at + HEADER_BYTES <= len(chunk):
                size = unpack_from(chunk, at)[1] + LENGTH_OVERHEAD
            if at + size > len(chunk):
                # A length that lies asks for no more than the file has.
                want = min(max(CHECK_BYTES, size), end - position)
                chunk, chunk_start, at = read(self.path, position, want), position, 0
                if len(chunk) < HEADER_BYTES:
                    raise CorruptLogError(f"{self.path}: a batch is cut short at {position}")
                size = unpack_from(chunk)[1] + LENGTH_OVERHEAD
                if size > len(chunk) and size <= end - position:
                    chunk = read(self.path, position, size)
            header: Header = unpack_from(chunk, at)
            if header[3] != MAGIC or size < HEADER_BYTES or at + size > len(chunk):
                raise CorruptLogError(f"{self.path}: there is no whole batch at {position}")
            if not check_crc(chunk, at, size):
                raise CorruptLogError(f"{self.path}: CRC of the batch at {position}")
            if header[0] != expected or header[6] < 0:
                raise CorruptLogError(
                    f"{self.path}: offset {header[0]} at {position}, not {expected}"
                )
            epoch = header[2]
            if epoch < last_epoch:
                raise CorruptLogError(f"{self.path}: epoch {epoch} behind {last_epoch}")
            # The cache starts at the log start, which may lie inside a batch.
            if epochs is not None and epochs.epoch_of(expected + header[6]) not in (epoch, -1):
                raise CorruptLogError(f"{self.path}: offset {expected} is not of epoch {epoch}")
            yield position, header
            last_epoch = epoch
            expected += header[6] + 1
            position += size
