"""The driver: gathers what is ready into one turn, and the timers that a core asked for.

Every source of events (sockets, the bus, finished syncs, timers) calls `Driver.post`. The first
event arms one `loop.call_soon`, which asyncio runs only after every descriptor that was ready
in this round has been read: so one turn takes all that is there, and everything of one wake-up
becomes one pwritev for each log and one message for each peer.

A process that was stopped, or whose machine was, finds its sockets full of requests when it goes
on. The gap is looked for before a turn is run, so `StoodStill` comes ahead of all of them.
"""

from __future__ import annotations

import gc
import heapq
import os
import sys
import time
import traceback
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kcluster.core.turn import (
    Core,
    DiskOperation,
    Event,
    StoodStill,
    Timer,
    Turn,
    World,
    run_turn,
)
from kcluster.limits import LIMITS

EXIT_BUG = 70
"""Exit status of a process that met a bug of its own (EX_SOFTWARE of sysexits.h)."""

TICKS_PER_GAP = 4
"""How often within the gap an idle loop shows that it is alive."""


class Sources(World, Protocol):
    """A World that also brings events."""

    def start(self, post: Callable[[Event], None]) -> None:
        """From now on give every event to `post`."""
        ...


def exit_on_bug(error: BaseException) -> None:
    """The one catch-all: tell, and be gone, so that nothing half done is ever served."""
    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_BUG)


class Driver:
    """Runs one core in one world, on one loop."""

    def __init__(
        self,
        core: Core,
        world: Sources,
        loop: AbstractEventLoop,
        *,
        stood_still_ms: int = 0,
        on_bug: Callable[[BaseException], None] = exit_on_bug,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        """`stood_still_ms`: a longer gap posts `StoodStill`; 0 for never. `after_turn` is called
        at the end of every turn, for a process that waits for its core to say that it is done."""
        self._core = core
        self._world = world
        self._loop = loop
        self._turn = Turn()
        self._events: list[Event] = []
        self._is_armed = False
        self._stood_still_s = stood_still_ms / 1000
        self._alive_at = loop.time()
        self._on_bug = on_bug
        self._after_turn = after_turn
        self._tick_handle: TimerHandle | None = None

    def start(self, begin: Callable[[Turn], None] | None = None) -> None:
        """Begin to take events. `begin` runs as a turn of its own before the first of them: for
        a core that opens its logs and sends its first messages."""
        self._loop.set_exception_handler(self._bug_in_callback)
        if begin is not None:
            self._guard(lambda: self._run_begin(begin))
        self._alive_at = self._loop.time()
        self._world.start(self.post)
        if self._stood_still_s:
            self._tick()

    def post(self, event: Event) -> None:
        """Have `event` handled in the next turn. Only from the loop's own thread."""
        self._events.append(event)
        if not self._is_armed:
            self._is_armed = True
            self._loop.call_soon(self._run)

    def stop(self) -> None:
        """Take no more turns; the loop itself is the caller's to stop."""
        self._events.clear()
        self._is_armed = True
        if self._tick_handle is not None:
            self._tick_handle.cancel()

    @staticmethod
    def freeze() -> None:
        """Take all that lives now out of the garbage collector's sight: after start and after
        recovery (measured: pauses of 16 ms become 0 with 450,000 containers)."""
        gc.collect()
        gc.freeze()

    def _run(self) -> None:
        self._look_for_gap()
        events = self._events
        self._events = []
        self._is_armed = False
        try:
            # In parts, without a look at the sockets between them: the answers of one part have
            # left, or count for the bound of answers, before those of the next are made.
            for first in range(0, len(events), LIMITS.events_per_turn):
                part = events[first : first + LIMITS.events_per_turn]
                run_turn(self._core, part, self._turn, self._world)
            if self._after_turn is not None:
                self._after_turn()
        except Exception as error:
            self._on_bug(error)

    def _run_begin(self, begin: Callable[[Turn], None]) -> None:
        run_turn(_Begin(self._core, begin), [Timer()], self._turn, self._world)
        if self._after_turn is not None:
            self._after_turn()

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._on_bug(error)

    def _tick(self) -> None:
        self._look_for_gap()
        self._tick_handle = self._loop.call_later(self._stood_still_s / TICKS_PER_GAP, self._tick)

    def _look_for_gap(self) -> None:
        now = self._loop.time()
        gap = now - self._alive_at
        self._alive_at = now
        if self._stood_still_s and gap > self._stood_still_s:
            self._events.insert(0, StoodStill(int(gap * 1000)))
            if not self._is_armed:
                self._is_armed = True
                self._loop.call_soon(self._run)

    def _bug_in_callback(self, loop: AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._on_bug(error if error is not None else RuntimeError(str(context.get("message"))))


class _Begin:
    """The core, with its first turn in place of `handle`."""

    def __init__(self, core: Core, begin: Callable[[Turn], None]) -> None:
        self._core = core
        self._begin = begin

    def handle(self, event: Event, turn: Turn) -> None:
        self._begin(turn)

    def settle(self, turn: Turn) -> None:
        self._core.settle(turn)

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        self._core.disk_failed(turn, operation, errno)


class Timers:
    """A heap of deadlines with one `call_at` armed, for the first of them."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[int, int, Timer]] = []
        self._count = 0
        self._armed_for = 0
        self._handle: TimerHandle | None = None
        self.post: Callable[[Event], None] | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def schedule(self, timers: Sequence[tuple[int, Timer]]) -> None:
        """Of (monotonic ms, timer); those of the same ms come back in the order given."""
        for due_ms, timer in timers:
            self._count += 1
            heapq.heappush(self._heap, (due_ms, self._count, timer))
        self._arm()

    def _arm(self) -> None:
        if not self._heap:
            return
        due_ms = self._heap[0][0]
        if self._handle is not None:
            if self._armed_for <= due_ms:
                return
            self._handle.cancel()
        self._armed_for = due_ms
        self._handle = self._loop.call_at(due_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now_ms = monotonic_ms()
        heap = self._heap
        post = self.post
        assert post is not None, "a timer fired before the world was started"
        while heap and heap[0][0] <= now_ms:
            post(heapq.heappop(heap)[2])
        self._arm()


def monotonic_ms() -> int:
    """The clock of asyncio's loops, in ms."""
    return time.monotonic_ns() // 1_000_000
