"""The two indexes of a segment, sparse and in memory, in Kafka's file formats.

    offset index   8 bytes an entry: last offset of a batch, relative to the segment's base (4),
                   byte position of that batch (4)
    time index    12 bytes an entry: largest timestamp so far in ms (8), last offset of the batch
                   that has it, relative (4)

Both are columns of machine integers (`array`), which bisect searches and a byte swap writes: an
entry costs 8 or 12 bytes and no object. Files are big-endian. Entries of the active segment are
in memory only; they are written when it is sealed, at a checkpoint and at a clean shutdown.

An entry is made for the first batch after `index_interval_bytes` of log, so that at most that
much and one batch are walked from an entry to any offset.

Sources: Kafka's OffsetIndex and TimeIndex; KIP-33 (time index).
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from typing import Final

OFFSET_ENTRY_BYTES: Final = 8
TIME_ENTRY_BYTES: Final = 12
NO_TIMESTAMP: Final = -1

_SWAPS: Final = sys.byteorder == "little"
assert array("I").itemsize == 4
assert array("q").itemsize == 8


class OffsetIndex:
    """(relative last offset, position), both strictly rising."""

    __slots__ = ("offsets", "positions")

    def __init__(self) -> None:
        self.offsets = array("I")
        """Last offset of an indexed batch, relative to the base offset."""
        self.positions = array("I")
        """Where that batch starts in the segment, bytes."""

    def __len__(self) -> int:
        return len(self.offsets)

    def append(self, relative_offset: int, position: int) -> None:
        self.offsets.append(relative_offset)
        self.positions.append(position)

    def floor(self, relative_offset: int) -> int:
        """Number of the last entry at or below `relative_offset`; -1 for none."""
        return bisect_right(self.offsets, relative_offset) - 1

    def floor_position(self, position: int) -> int:
        """Number of the last entry whose batch starts at or below `position`; -1 for none."""
        return bisect_right(self.positions, position) - 1

    def from_position(self, position: int) -> list[tuple[int, int]]:
        """Entries of batches that start at or behind `position`."""
        first = bisect_left(self.positions, position)
        return list(zip(self.offsets[first:], self.positions[first:], strict=True))

    def truncate(self, size: int) -> None:
        """Keep entries of batches that start below `size` bytes."""
        keep = bisect_left(self.positions, size)
        del self.offsets[keep:]
        del self.positions[keep:]

    def encode(self) -> bytes:
        columns = array("I", bytes(OFFSET_ENTRY_BYTES * len(self.offsets)))
        columns[0::2] = self.offsets
        columns[1::2] = self.positions
        if _SWAPS:
            columns.byteswap()
        return columns.tobytes()

    @classmethod
    def decode(cls, data: bytes) -> OffsetIndex | None:
        """None when `data` cannot be what `encode` wrote: the index is to be built anew."""
        if len(data) % OFFSET_ENTRY_BYTES:
            return None
        columns = array("I", data)
        if _SWAPS:
            columns.byteswap()
        index = cls()
        index.offsets = columns[0::2]
        index.positions = columns[1::2]
        if not (_rises(index.offsets) and _rises(index.positions)):
            return None
        return index


class TimeIndex:
    """(largest timestamp so far, relative last offset of its batch), timestamps strictly rising."""

    __slots__ = ("offsets", "timestamps")

    def __init__(self) -> None:
        self.timestamps = array("q")
        self.offsets = array("I")

    def __len__(self) -> int:
        return len(self.offsets)

    def append_if_later(self, timestamp: int, relative_offset: int) -> None:
        """Timestamps that do not rise make no entry: the one before already bounds them."""
        if timestamp < 0:
            return
        timestamps = self.timestamps
        if not timestamps or timestamp > timestamps[-1]:
            timestamps.append(timestamp)
            self.offsets.append(relative_offset)

    def floor(self, timestamp: int) -> int:
        """Number of the last entry below `timestamp`, -1 for none: every record up to its
        offset is older."""
        return bisect_left(self.timestamps, timestamp) - 1

    def truncate(self, relative_offset: int) -> None:
        """Keep entries of offsets below `relative_offset`."""
        keep = bisect_left(self.offsets, relative_offset)
        del self.timestamps[keep:]
        del self.offsets[keep:]

    def encode(self, timestamp: int = NO_TIMESTAMP, relative_offset: int = 0) -> bytes:
        """With a last entry for the segment's largest timestamp, as Kafka writes when it seals."""
        timestamps, offsets = self.timestamps, self.offsets
        if timestamp >= 0 and (not timestamps or timestamp > timestamps[-1]):
            timestamps = timestamps + array("q", (timestamp,))
            offsets = offsets + array("I", (relative_offset,))
        longs = array("q", timestamps)
        ints = array("I", offsets)
        if _SWAPS:
            longs.byteswap()
            ints.byteswap()
        halves = array("I", longs.tobytes())
        columns = array("I", bytes(TIME_ENTRY_BYTES * len(ints)))
        columns[0::3] = halves[0::2]
        columns[1::3] = halves[1::2]
        columns[2::3] = ints
        return columns.tobytes()

    @classmethod
    def decode(cls, data: bytes) -> TimeIndex | None:
        """None when `data` cannot be what `encode` wrote."""
        if len(data) % TIME_ENTRY_BYTES:
            return None
        columns = array("I", data)
        halves = array("I", bytes(8 * (len(data) // TIME_ENTRY_BYTES)))
        halves[0::2] = columns[0::3]
        halves[1::2] = columns[1::3]
        index = cls()
        index.timestamps = array("q", halves.tobytes())
        index.offsets = columns[2::3]
        if _SWAPS:
            index.timestamps.byteswap()
            index.offsets.byteswap()
        if not (_rises(index.timestamps) and _rises(index.offsets)):
            return None
        return index


def _rises(column: array[int]) -> bool:
    """Whether each value is larger than the one before. Sorting what is sorted is linear, and
    with the set three times as quick as a loop."""
    values = column.tolist()
    return values == sorted(values) and len(set(values)) == len(values)
