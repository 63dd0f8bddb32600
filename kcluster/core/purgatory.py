"""Requests that wait: for an offset to be committed, or for a condition, and never for ever.

    Deadlines      waiter -> bucket of waiters that give up together -> one timer a bucket
    OffsetQueue    (required offset, waiter) of one partition, in order

Hundreds of thousands of produce requests a second each have a deadline that is hardly ever
reached, so a deadline costs one set insertion and one removal: waiters are gathered in buckets
whose width is about a thirtieth of the wait, and only a new bucket asks for a timer. A waiter
gives up at most one bucket's width late, never early.

Kafka's purgatory does the same with a hierarchical timing wheel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from kcluster.core.turn import Timer, Turn
from kcluster.errors import ErrorCode
from kcluster.limits import LIMITS

_FINEST_SHIFT: Final = 3
"""Buckets are at least 8 ms wide."""


class Expired(Timer, msgspec.Struct):
    """The waiters of one bucket have waited long enough."""

    due_ms: int


class Waiter:
    """Base of everything with a deadline."""

    __slots__ = ("due_ms",)

    due_ms: int
    """Its bucket; 0 when it waits in none."""

    def expire(self, turn: Turn) -> None:
        """The deadline has passed. It is not among the waiters any more."""
        raise NotImplementedError


class Deadlines:
    def __init__(self, expired: Callable[[int], Timer] = Expired) -> None:
        """`expired` makes the timer of a bucket: of a kind of its own for each `Deadlines`."""
        self._expired = expired
        self._buckets: dict[int, dict[Waiter, None]] = {}
        """By due time. A dict for a set that keeps its order: the same seed, the same run."""
        self.count = 0

    @property
    def is_full(self) -> bool:
        """At the bound of waiting requests: whoever comes now is answered at once."""
        return self.count >= LIMITS.purgatory_requests

    def add(self, turn: Turn, wait_ms: int, waiter: Waiter) -> None:
        """Have `waiter.expire` called `wait_ms` from now, unless it is removed before."""
        shift = max(_FINEST_SHIFT, wait_ms.bit_length() - 5)
        due_ms = ((turn.now_ms + max(wait_ms, 1)) >> shift) + 1 << shift
        bucket = self._buckets.get(due_ms)
        if bucket is None:
            bucket = self._buckets[due_ms] = {}
            turn.after(due_ms - turn.now_ms, self._expired(due_ms))
        bucket[waiter] = None
        waiter.due_ms = due_ms
        self.count += 1

    def remove(self, waiter: Waiter) -> None:
        """It waits no longer. Harmless when it does not wait."""
        if not waiter.due_ms:
            return
        bucket = self._buckets.get(waiter.due_ms)
        waiter.due_ms = 0
        if bucket is not None and waiter in bucket:
            # An emptied bucket stays until its timer comes, which would be asked for again.
            del bucket[waiter]
            self.count -= 1

    def expired(self, event: Expired, turn: Turn) -> None:
        for waiter in list(self._buckets.get(event.due_ms, ())):
            # One waiter's end may have removed another.
            if waiter.due_ms == event.due_ms:
                self.remove(waiter)
                waiter.expire(turn)
        self._buckets.pop(event.due_ms, None)


class OffsetWaiter(Protocol):
    def reached(self, turn: Turn, index: int, error: ErrorCode) -> None:
        """Part `index` of what it waits for is decided: NONE, or why it never will be."""
        ...


class OffsetQueue:
    """Who waits for a partition's offset, by offset (exclusive end of what must be there)."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: deque[tuple[int, OffsetWaiter, int]] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, required_offset: int, waiter: OffsetWaiter, index: int) -> None:
        entries = self._entries
        entry = (required_offset, waiter, index)
        if not entries or entries[-1][0] <= required_offset:
            entries.append(entry)
            return
        # A duplicate waits for what its original waits for, which lies further ahead (rule 5).
        position = len(entries)
        while position and entries[position - 1][0] > required_offset:
            position -= 1
        entries.insert(position, entry)

    def reach(self, turn: Turn, offset: int, error: ErrorCode = ErrorCode.NONE) -> None:
        """Decide all that wait for `offset` or less."""
        entries = self._entries
        while entries and entries[0][0] <= offset:
            _, waiter, index = entries.popleft()
            waiter.reached(turn, index, error)

    def fail(self, turn: Turn, error: ErrorCode) -> None:
        """Nobody's offset will be reached here any more."""
        entries = self._entries
        while entries:
            _, waiter, index = entries.popleft()
            waiter.reached(turn, index, error)

    def fail_above(self, turn: Turn, offset: int, error: ErrorCode) -> None:
        """Those that wait for more than `offset` wait in vain: its records were undone."""
        entries = self._entries
        while entries and entries[-1][0] > offset:
            _, waiter, index = entries.pop()
            waiter.reached(turn, index, error)
