"""Which of many connections reads next, when together they would keep the loop from its others.

Those with a large frame half-way read in rounds. In one iteration of the loop they take so many
bytes, and who comes later is left over; in the next those come first, and who has read waits until
nobody is left over: one sender cannot read twice where another has not read once.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop

ITERATION_BYTES = 2 << 20
"""Received, and allocated to receive into, in one iteration; one read may go beyond it."""


class Rounds:
    __slots__ = ("_goes_on", "_is_armed", "_is_left_over", "_loop", "_spent", "number")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.number = 1
        self._loop = loop
        self._goes_on = False
        """Somebody was left over by the last iteration: it is the same round still."""
        self._is_left_over = False
        self._is_armed = False
        self._spent = 0

    @property
    def is_spent(self) -> bool:
        return self._spent >= ITERATION_BYTES

    def admits(self, last_read: int) -> bool:
        """Whether somebody may read who has last read in the round `last_read`. Who may not is
        asked again in the next iteration, its socket being readable still."""
        self._arm()
        if self._goes_on and last_read == self.number:
            return False
        if self.is_spent:
            self._is_left_over = True
            return False
        return True

    def spend(self, size: int) -> None:
        self._arm()
        self._spent += size

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_soon(self._next_iteration)

    def _next_iteration(self) -> None:
        self._is_armed = False
        self._spent = 0
        self._goes_on, self._is_left_over = self._is_left_over, False
        if not self._goes_on:
            self.number += 1
