"""Where to read, and what was read there."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kcluster.model import TopicPartition
from kcluster.wire.records import Header, Record


class Place(enum.Enum):
    START = "start"
    END = "end"
    OFFSET = "offset"
    LAST = "last"
    """So many records before the end."""
    TIME = "time"
    """The first record at or after a time in ms."""
    NEAREST = "nearest"
    """An offset, or what is nearest to it of what is there."""


@dataclass(frozen=True, slots=True)
class From:
    """Where to begin reading a partition. `value`: offset, count or ms, as the place says."""

    place: Place = Place.START
    value: int = 0


class Consumed(msgspec.Struct, frozen=True, gc=False):
    """A record, and where it was read."""

    tp: TopicPartition
    record: Record

    @property
    def topic(self) -> str:
        return self.tp.topic

    @property
    def partition(self) -> int:
        return self.tp.partition

    @property
    def offset(self) -> int:
        return self.record.offset

    @property
    def key(self) -> bytes | None:
        return self.record.key

    @property
    def value(self) -> bytes | None:
        return self.record.value

    @property
    def headers(self) -> Sequence[Header]:
        return self.record.headers

    @property
    def timestamp(self) -> int:
        """Wall clock, ms."""
        return self.record.timestamp
