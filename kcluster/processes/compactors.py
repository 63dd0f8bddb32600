"""The supervisor's compactors: at most one for each broker, gone before its broker comes back.

    StartCompaction --> line --> fork --> runs --> CompactionEnded, with how it ended
                                           |
                          its broker ended '-- SIGKILL, reaped; only then is the seat free again

A compactor works in its broker's directory, which recovery must have for itself. All replicas of
a topic become dirty at one moment, but brokers share this machine with each other and with their
clients: so compactors wait in line for half of its processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable

import msgspec

from kcluster.processes.server import ServerArguments
from kcluster.processes.zygote import ENTRIES, Spawner
from kcluster.world import platform

EXIT_NOT_STARTED = 71
"""Told of a compactor that could not be forked (EX_OSERR of sysexits.h)."""


class Compactor(msgspec.Struct):
    number: int
    """Of its job."""
    incarnation: int
    """Of its broker."""
    pid: int = 0
    """0 while it is being forked."""
    is_doomed: bool = False


class Compactors:
    def __init__(
        self,
        spawner: Spawner,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[[int], None],
        ended: Callable[[int, int, int, int], None],
        at_once: int,
    ) -> None:
        """`begin(broker id)` is told to `fork` the one whose turn it is, `at_once` of them at
        most. `ended(broker id, its incarnation, number, status)` is told of each one's end;
        status is an exit code, or minus the signal that ended it."""
        self._spawner = spawner
        self._loop = loop
        self._begin = begin
        self._ended = ended
        self._at_once = at_once
        self._line: dict[int, Compactor] = {}
        """By broker, who asked first in front."""
        self._running: dict[int, Compactor] = {}
        self._watches: dict[int, platform.PidWatch] = {}
        self._last: dict[int, tuple[int, int, int]] = {}
        """By broker: incarnation, number and status of the last that ended."""
        self._waiters: list[asyncio.Future[None]] = []

    def want(self, id: int, incarnation: int, number: int) -> None:
        """A broker asks for this job, more than once."""
        last = self._last.get(id)
        if last is not None and last[:2] == (incarnation, number):
            self._ended(id, *last)
        elif id not in self._running:
            self._line[id] = Compactor(number, incarnation)
            self._next()

    def _next(self) -> None:
        while self._line and len(self._running) < self._at_once:
            id = next(iter(self._line))
            self._running[id] = self._line.pop(id)
            self._begin(id)

    async def fork(self, id: int, arguments: ServerArguments) -> None:
        """The one whose turn it is."""
        compactor = self._running[id]
        try:
            pid = await self._spawner.spawn(ENTRIES["compactor"], arguments)
        except OSError:
            # The machine has no room for another process: that is no reason to end.
            self._over(id, compactor, EXIT_NOT_STARTED)
            return
        compactor.pid = pid
        self._watches[id] = platform.PidWatch(
            self._loop,
            pid,
            lambda _, status: self._died(id, compactor, status),
            portable=not self._spawner.has_zygote,
        )
        if compactor.is_doomed:
            self._kill(compactor)

    def kill(self, id: int) -> None:
        """Its broker is gone."""
        self._line.pop(id, None)
        compactor = self._running.get(id)
        if compactor is not None:
            compactor.is_doomed = True
            self._kill(compactor)

    def _kill(self, compactor: Compactor) -> None:
        if compactor.pid:
            # Ours and not yet reaped, so the pid is still its own.
            with contextlib.suppress(ProcessLookupError):
                os.kill(compactor.pid, signal.SIGKILL)

    async def gone(self, ids: Iterable[int]) -> None:
        """Until those of these brokers are reaped."""
        ids = list(ids)
        while any(id in self._running for id in ids):
            changed: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(changed)
            await changed

    def _died(self, id: int, compactor: Compactor, status: int) -> None:
        self._watches.pop(id).close()
        code = os.waitstatus_to_exitcode(status) if status >= 0 else -signal.SIGKILL
        self._over(id, compactor, code)

    def _over(self, id: int, compactor: Compactor, code: int) -> None:
        del self._running[id]
        self._last[id] = compactor.incarnation, compactor.number, code
        self._ended(id, compactor.incarnation, compactor.number, code)
        self._next()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
