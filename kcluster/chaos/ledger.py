"""What became of every send of a load, in nine bytes each, and how long it took.

Three outcomes, Jepsen's: OK was acknowledged, FAIL was refused whatever was tried, INFO may or
may not have been written. With acks=0 nothing is ever acknowledged: OK then only says that the
record was handed to a connection.

One writer owns a stream; the meter is shared, and looked at while it runs.
"""

from __future__ import annotations

import math
import threading
from array import array
from typing import Final

INFO: Final = 0
OK: Final = 1
FAIL: Final = 2

_STEP: Final = math.log(1.02)
"""Buckets of latencies are 2 % wide."""
_BUCKETS: Final = 1_000
"""1.02 ** 1000 us: six minutes and more."""


class Stream:
    """The sends under one key, by sequence."""

    __slots__ = ("offsets", "outcomes")

    def __init__(self) -> None:
        self.outcomes = bytearray()
        self.offsets = array("q")
        """Where the acknowledgement said that it is; -1 when it did not."""

    def __len__(self) -> int:
        return len(self.outcomes)

    def send(self) -> int:
        """One more; its sequence."""
        self.outcomes.append(INFO)
        self.offsets.append(-1)
        return len(self.outcomes) - 1

    def settle(self, first: int, count: int, outcome: int, base_offset: int = -1) -> None:
        """What became of `count` sends from sequence `first` on."""
        self.outcomes[first : first + count] = bytes([outcome]) * count
        if base_offset >= 0:
            self.offsets[first : first + count] = array(
                "q", range(base_offset, base_offset + count)
            )


class Latencies:
    """Times in ms, to 2 %."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0

    def add(self, ns: int, count: int = 1) -> None:
        bucket = int(math.log(max(ns / 1000, 1.0)) / _STEP)
        self._buckets[min(bucket, _BUCKETS - 1)] += count
        self.count += count

    def percentile(self, part: float) -> float | None:
        """In ms; None when there are none."""
        left = self.count * part
        for bucket, count in enumerate(self._buckets):
            left -= count
            if count and left <= 0:
                return math.exp((bucket + 0.5) * _STEP) / 1000
        return None


class Meter:
    """Counts and times of a load, from all its writers."""

    def __init__(self, partitions: int) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.failed = 0
        self.unknown = 0
        """Given up; those still waiting are not in it."""
        self.polled = 0
        self.errors: dict[str, int] = {}
        """Records by the error that they were given up with."""
        self.latencies = Latencies()
        self.longest_gap_ns = 0
        self.longest_partition_gap_ns = 0
        self._recent = Latencies()
        self._acknowledged_ns = 0
        self._partition_ns = [0] * partitions
        self._lock = threading.Lock()

    def sending(self, count: int) -> None:
        with self._lock:
            self.sent += count

    def acknowledge(self, partition: int, runs: list[tuple[int, int]], now_ns: int) -> None:
        """`runs` are (moment of sending, records), oldest first."""
        with self._lock:
            for sent_ns, count in runs:
                self.acknowledged += count
                self.latencies.add(now_ns - sent_ns, count)
                self._recent.add(now_ns - sent_ns, count)
            self._close_gaps(partition, runs[0][0], now_ns)
            self._acknowledged_ns = self._partition_ns[partition] = now_ns

    def waited(self, partition: int, since_ns: int, now_ns: int) -> None:
        """Nothing of this partition came since then, up to the end."""
        with self._lock:
            self._close_gaps(partition, since_ns, now_ns)

    def give_up(self, count: int, error: str, *, is_refused: bool) -> None:
        with self._lock:
            if is_refused:
                self.failed += count
            else:
                self.unknown += count
            self.errors[error] = self.errors.get(error, 0) + count

    def poll(self, count: int) -> None:
        with self._lock:
            self.polled += count

    def gap_ns(self, now_ns: int) -> int:
        """The longest gap so far, the one that lasts included."""
        if not self._acknowledged_ns:
            return self.longest_gap_ns
        return max(self.longest_gap_ns, now_ns - self._acknowledged_ns)

    def take_recent(self) -> Latencies:
        """Of what was acknowledged since the last call."""
        with self._lock:
            recent, self._recent = self._recent, Latencies()
        return recent

    def _close_gaps(self, partition: int, sent_ns: int, now_ns: int) -> None:
        # Where nothing waits to be acknowledged, nothing is late.
        of_all = now_ns - max(self._acknowledged_ns, sent_ns)
        of_one = now_ns - max(self._partition_ns[partition], sent_ns)
        self.longest_gap_ns = max(self.longest_gap_ns, of_all)
        self.longest_partition_gap_ns = max(self.longest_partition_gap_ns, of_one)
