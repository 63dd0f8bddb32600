"""One heap of everything that will happen, ordered by (time, sequence): the only clock there is.

Times are microseconds of simulated time, so that things within one millisecond keep an order
of their own; cores see milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

MS = 1000
"""Microseconds in a millisecond."""


class Scheduler:
    def __init__(self) -> None:
        self.now_us = 0
        self.steps = 0
        self._sequence = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def now_ms(self) -> int:
        return self.now_us // MS

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Do `action` at `time_us`, or now when that is over, after what was asked for before."""
        self._sequence += 1
        heapq.heappush(self._heap, (max(time_us, self.now_us), self._sequence, action))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self.at(self.now_us + delay_us, action)

    def step(self, until_us: int) -> bool:
        """Do the next thing if it is due by `until_us` (inclusive); else only move the clock."""
        if not self._heap or self._heap[0][0] > until_us:
            self.now_us = max(self.now_us, until_us)
            return False
        time_us, _, action = heapq.heappop(self._heap)
        assert time_us >= self.now_us, "time went backwards"
        self.now_us = time_us
        self.steps += 1
        action()
        return True
