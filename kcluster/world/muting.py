"""A connection whose client is over its quota: for how long no request is taken of it (KIP-219).

Afterwards one request at a time is taken for a while, as of everybody in Kafka: what is already
here would else go through at once, and the client would have to wait all the longer.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

KEEPS_WITHIN_S = 10
"""Who was not muted for so long is treated as others are again."""


class Muting:
    __slots__ = ("_is_on", "_loop", "_over", "_until")

    def __init__(self, loop: AbstractEventLoop, over: Callable[[], None]) -> None:
        """`over` is called each time that it ends."""
        self._loop = loop
        self._over = over
        self._is_on = False
        self._until = 0.0
        """Of the loop's clock."""

    def begin(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        self._until = max(self._until, until)
        if not self._is_on:
            self._is_on = True
            self._loop.call_at(until, self._look)

    def takes_none(self, in_flight: int) -> bool:
        """No request besides those `in_flight`."""
        if self._is_on:
            return True
        return in_flight > 0 and self._loop.time() < self._until + KEEPS_WITHIN_S

    def _look(self) -> None:
        if self._loop.time() < self._until:
            # It was muted for longer meanwhile.
            self._loop.call_at(self._until, self._look)
            return
        self._is_on = False
        self._over()
