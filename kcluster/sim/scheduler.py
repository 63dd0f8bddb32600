"""One heap of everything that will happen, ordered by (time, sequence): the only clock there is.

Times are microseconds of simulated time, so that things within one millisecond keep an order
of their own; cores see milliseconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

MS = 1000
"""Microseconds in a millisecond."""


def draw(random: Random, between: tuple[int, int]) -> int:
    """What `random.randint(*between)` draws, in half of its time: delays are most of all draws."""
    low, high = between
    width = high - low + 1
    bits = width.bit_length()
    drawn = random.getrandbits(bits)
    while drawn >= width:
        drawn = random.getrandbits(bits)
    return low + drawn


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
        time_us = max(time_us, self.now_us)
        heapq.heappush(self._heap, (time_us, self._sequence, action))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_us + delay_us, self._sequence, action))

    def run(self, until_us: int, steps_max: int) -> bool:
        """Do all that is due by `until_us` (inclusive), then move the clock there. False, and at
        once, when that were more than `steps_max` steps since the beginning."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until_us:
            time_us, _, action = pop(heap)
            assert time_us >= self.now_us, "time went backwards"
            self.now_us = time_us
            self.steps += 1
            action()
            if self.steps > steps_max:
                return False
        self.now_us = max(self.now_us, until_us)
        return True
