"""The segments of one log, oldest first; the last one is active. Never empty once open."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from kcluster.core.log.segment import Segment


class Segments:
    """Invariant: base offsets rise strictly; each segment ends where the next one starts."""

    __slots__ = ("active", "bases", "items")

    def __init__(self, first: Segment) -> None:
        self.items = [first]
        self.bases = [first.base_offset]
        self.active = first

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.items)

    def add(self, segment: Segment) -> None:
        assert segment.base_offset > self.bases[-1]
        self.items.append(segment)
        self.bases.append(segment.base_offset)
        self.active = segment

    def locate(self, offset: int) -> int:
        """Number of the segment that holds `offset`; of the first for one below them all."""
        return max(bisect_right(self.bases, offset) - 1, 0)

    def drop_last(self) -> Segment:
        dropped = self.items.pop()
        self.bases.pop()
        self.active = self.items[-1]
        return dropped

    def drop_first(self) -> Segment:
        assert len(self.items) > 1, "the active segment stays"
        self.bases.pop(0)
        return self.items.pop(0)

    def replace(self, first: int, count: int, segment: Segment) -> None:
        """Put `segment` in the place of `count` of them, from number `first` on: it holds the
        same offsets."""
        assert first + count < len(self.items), "the active segment stays"
        assert segment.base_offset == self.bases[first]
        assert segment.end_offset == self.bases[first + count]
        self.items[first : first + count] = [segment]
        self.bases[first : first + count] = [segment.base_offset]

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.items)
