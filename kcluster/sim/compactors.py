"""Compactors: each a process that works on its broker's disk, an operation at a time.

The code is that of the real process. It may be killed before any operation, alone or with its
broker, and its broker does not start again before it is reaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from kcluster.core.log.compaction.cleaning import carry_out
from kcluster.core.turn import DiskOperation
from kcluster.errors import CorruptLogError
from kcluster.sim.process import Process
from kcluster.sim.scheduler import Scheduler, draw
from kcluster.wire import bus

KILLED_STATUS = -9
FAILED_STATUS = 78


@dataclass(slots=True)
class Compactor:
    number: int
    process: Process
    """Its broker."""
    operations: Iterator[DiskOperation]
    random: Random


class Compactors:
    def __init__(
        self,
        scheduler: Scheduler,
        stream: Callable[[str], Random],
        note: Callable[[str], None],
        tell: Callable[[int, bus.Message], None],
    ) -> None:
        self.operation_us = (20, 400)
        """How long one disk operation takes, and what goes before it."""
        self.running: dict[int, Compactor] = {}
        """By broker."""
        self._scheduler = scheduler
        self._stream = stream
        self._note = note
        self._tell = tell
        self._last: dict[int, tuple[int, int, int]] = {}
        """By broker: incarnation, number and status of the last that ended."""

    def start(self, process: Process, number: int) -> None:
        """Unless it runs, or has run: then its end is told again."""
        id, incarnation = process.id, process.incarnation
        last = self._last.get(id)
        if last is not None and last[:2] == (incarnation, number):
            self._tell(id, bus.CompactionEnded(number, last[2]))
        elif id not in self.running:
            random = self._stream(f"compactor {id} {incarnation} {number}")
            compactor = Compactor(number, process, carry_out(process.disk), random)
            self.running[id] = compactor
            self._note(f"compactor {id} starts on {number}")
            self._go_on(compactor)

    def reap(self, id: int) -> None:
        """Its broker has ended, and it with it."""
        self.running.pop(id, None)

    def kill(self, id: int) -> None:
        """And nobody else."""
        compactor = self.running.get(id)
        if compactor is not None:
            self._note(f"kill compactor {id}")
            self._end(compactor, KILLED_STATUS)

    def _go_on(self, compactor: Compactor) -> None:
        delay_us = draw(compactor.random, self.operation_us)
        self._scheduler.after(delay_us, lambda: self._work(compactor))

    def _work(self, compactor: Compactor) -> None:
        if self.running.get(compactor.process.id) is not compactor:
            return
        try:
            operation = next(compactor.operations, None)
        except CorruptLogError:
            self._end(compactor, FAILED_STATUS)
            return
        if operation is None:
            self._end(compactor, 0)
        elif compactor.process.disk.perform(operation):
            self._end(compactor, FAILED_STATUS)
        else:
            self._go_on(compactor)

    def _end(self, compactor: Compactor, status: int) -> None:
        process = compactor.process
        del self.running[process.id]
        self._last[process.id] = process.incarnation, compactor.number, status
        self._tell(process.id, bus.CompactionEnded(compactor.number, status))
