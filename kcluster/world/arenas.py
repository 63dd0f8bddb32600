"""Memory that sockets receive into: warm buffers, used again when nothing looks at them any more.

All connections of a loop receive into one current arena, each behind the last; the frames in it
are handed on as memoryviews. Whether an arena may be used again is not booked anywhere: a
bytearray counts the buffers exported from it, and refuses to be resized while there are any. So
a view that a core, a reply, a pending write or ZeroMQ (which holds what it sends without
copying until its I/O thread is done) still has keeps the bytes under it, whoever forgot it.

Touching fresh memory costs several times what filling warm memory costs (1.3-1.8 s/GiB against
0.4), hence the pool, and hence an arena that is free again begins at its start.
"""

from __future__ import annotations

from kcluster.limits import LIMITS

POOLED_BUFFERS = 16
"""Buffers remembered for another use; more than that are left to the garbage collector."""

ARENA_ROOM = 64 << 10
"""With less room than this an arena is changed for another."""

SMALLEST_POOLED = 64 << 10
SMALLEST_BUFFER = 16 << 10


def is_free(data: bytearray) -> bool:
    """Whether no buffer of `data` is exported. Neither resize moves it: the first only shortens
    what is allocated already, and the second takes that back."""
    try:
        data.append(data.pop())
    except BufferError:
        return False
    return True


class Pool:
    """Used buffers, the longest unused first."""

    def __init__(
        self, pooled_max: int = POOLED_BUFFERS, size_max: int = LIMITS.arena_bytes
    ) -> None:
        self._buffers: list[bytearray] = []
        self._pooled_max = pooled_max
        self._size_max = size_max

    def __len__(self) -> int:
        return len(self._buffers)

    def find(self, size: int) -> bytearray | None:
        """A buffer of at least `size` bytes that nothing looks at."""
        for index, data in enumerate(self._buffers):
            if len(data) >= size and is_free(data):
                del self._buffers[index]
                return data
        return None

    def take(self, size: int, have: int) -> bytearray:
        """A buffer for something announced to be `size` bytes of which `have` have come. A new
        one grows with what came, never by what was announced."""
        data = self.find(size) if size >= SMALLEST_POOLED else None
        if data is not None:
            return data
        return bytearray(min(_rounded(size), max(2 * have, SMALLEST_BUFFER)))

    def give(self, data: bytearray) -> None:
        """Nobody writes to it any more; others may still be looking at it."""
        if SMALLEST_POOLED <= len(data) <= self._size_max:
            self._buffers.append(data)
            if len(self._buffers) > self._pooled_max:
                del self._buffers[0]


def _rounded(size: int) -> int:
    """Frames of nearly the same size shall fit into each other's buffers."""
    unit = 4 << 10 if size < SMALLEST_POOLED else 64 << 10
    return (size + unit - 1) // unit * unit


class Arenas:
    """The current arena of a loop: `data`, a `view` of all of it, and `end`, where the next bytes
    go. Who received moves `end` behind what shall stay."""

    __slots__ = ("_size", "_turn_over", "data", "end", "pool", "view")

    def __init__(self, pool: Pool, size: int = LIMITS.arena_bytes) -> None:
        self.pool = pool
        self._size = size
        self._turn_over = False
        self.data = bytearray(size)
        self.view = memoryview(self.data)
        self.end = 0

    def release(self) -> None:
        """The turn is over. Its events may still be held by its caller, so that whether all views
        are gone is looked at when the next bytes come."""
        self._turn_over = True

    def make_room(self) -> None:
        """Before receiving: back to the start if that is possible, else to another arena if this
        one is nearly full."""
        if self._turn_over:
            self._turn_over = False
            if self.end:
                self.view.release()
                if is_free(self.data):
                    self.end = 0
                self.view = memoryview(self.data)
        if self._size - self.end < ARENA_ROOM:
            self.view.release()
            self.pool.give(self.data)
            self.data = self.pool.find(self._size) or bytearray(self._size)
            self.view = memoryview(self.data)
            self.end = 0
