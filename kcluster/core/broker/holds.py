"""Answers that wait for the image: for a topic to appear, for an election to end (rule 9)."""

from __future__ import annotations

from collections.abc import Callable

from kcluster.core.purgatory import Deadlines, Waiter
from kcluster.core.turn import Turn

Condition = Callable[[], bool]
Then = Callable[[Turn], None]


class Hold(Waiter):
    __slots__ = ("holds", "is_over", "then")

    def __init__(self, holds: Holds, is_over: Condition, then: Then) -> None:
        self.holds = holds
        self.is_over = is_over
        self.then = then

    def expire(self, turn: Turn) -> None:
        self.holds.drop(self)
        self.then(turn)


class Holds:
    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._holds: dict[Hold, None] = {}

    def add(self, turn: Turn, wait_ms: int, is_over: Condition, then: Then) -> None:
        """Call `then` once, when `is_over` or after `wait_ms`; at once when it is over already,
        or when too many wait."""
        if is_over() or self._deadlines.is_full:
            then(turn)
            return
        hold = Hold(self, is_over, then)
        self._holds[hold] = None
        self._deadlines.add(turn, wait_ms, hold)

    def drop(self, hold: Hold) -> None:
        self._holds.pop(hold, None)

    def image_changed(self, turn: Turn) -> None:
        for hold in list(self._holds):
            if hold in self._holds and hold.is_over():
                self.drop(hold)
                self._deadlines.remove(hold)
                hold.then(turn)
