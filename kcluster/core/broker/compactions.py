"""One compaction at a time: asked for, waited for, and put in place.

    idle --CompactionDue: a log is dirty enough--> running    the job is in its file, a compactor
     ^                                                |       of its own process works on it
     |                                                | CompactionEnded
     |<---- failed: looked at again later ------------|
     |<---- for nothing: the log has lost segments ---|
     |                                                v
     '<---------- done, or cancelled ------------- swapping   the log is given what was made

The supervisor starts the process and tells its end, because only a parent knows that for certain.
Messages may be lost: the job is asked for again with every look, under the same number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kcluster.core import traces
from kcluster.core.log.compaction import job as files
from kcluster.core.log.compaction import plan
from kcluster.core.log.compaction.swap import Stage, Swap, delete_cleaned
from kcluster.core.turn import Delete, Received, Replace, Timer, Turn
from kcluster.errors import CorruptLogError
from kcluster.model import SUPERVISOR
from kcluster.wire import bus

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.replication.replica import Replica

FAILURE_PAUSE: Final = 4
"""After a failure so many looks pass before the next try: a full disk needs time."""


class CompactionDue(Timer, msgspec.Struct):
    pass


class Running(msgspec.Struct):
    number: int
    replica: Replica
    plan: plan.Plan
    losses: int
    """Of its log, when it was planned."""


class Compactions:
    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self._backoff_ms = broker.settings.int("log.cleaner.backoff.ms")
        self._map_bytes = broker.settings.int("log.cleaner.dedupe.buffer.size")
        self._number = 0
        self._running: Running | None = None
        self._swap: tuple[Replica, Swap] | None = None
        self._pause = 0
        self.failures = 0
        """Of this incarnation."""
        self.events: dict[type[Any], Callable[[Any, Turn], None]] = {CompactionDue: self._look}

    def begin(self, turn: Turn) -> None:
        if self._broker.settings.bool("log.cleaner.enable"):
            turn.after(self._backoff_ms, CompactionDue())

    def _look(self, event: CompactionDue, turn: Turn) -> None:
        turn.after(self._backoff_ms, CompactionDue())
        if self._running is not None:
            self._ask(turn, self._running.number)
        elif self._pause:
            self._pause -= 1
        elif self._swap is None and self._broker.is_ready and not self._broker.is_frozen:
            self._start(turn)

    def _start(self, turn: Turn) -> None:
        candidates = []
        for replica in self._broker.replica_set:
            if replica.offline or not replica.log.config.is_compacted:
                continue
            try:
                found = plan.plan(replica.log, turn)
            except CorruptLogError as error:
                self._broker.damaged(replica, error)
                continue
            if found is not None and found.is_due:
                candidates.append((found.is_overdue, found.dirty_ratio, replica, found))
        if not candidates:
            return
        _, _, replica, chosen = max(candidates, key=lambda candidate: candidate[:2])
        self._number += 1
        self._running = Running(self._number, replica, chosen, replica.log.losses)
        job = chosen.job(self._number, turn.wall_ms, self._map_bytes)
        # An outcome is another process's file: what we may still hold open by its name is old.
        turn.disk.append(Delete(files.OUTCOME_FILE))
        turn.disk.append(Replace(files.JOB_FILE, files.encode(job)))
        self._ask(turn, self._number)

    def _ask(self, turn: Turn, number: int) -> None:
        broker = self._broker
        turn.send(SUPERVISOR, bus.StartCompaction(broker.broker_id, broker.incarnation, number))

    def ended(self, message: bus.CompactionEnded, received: Received, turn: Turn) -> None:
        running = self._running
        if running is None or message.number != running.number or received.source != SUPERVISOR:
            return
        self._running = None
        broker, replica, log = self._broker, running.replica, running.plan.log
        if broker.shutdown.is_closing:
            # Its logs are closed; the next start deletes what lies about.
            return
        if broker.replicas.get(replica.tp) is not replica or replica.offline:
            # Its directory is another one's by now, or nobody's but the compactor's.
            self._tidy(turn, log.directory)
            if all(name.endswith(files.CLEANED) for name in broker.files.list(log.directory)):
                turn.disk.append(Delete(log.directory))
            return
        if log.losses != running.losses:
            # What it found, and what it missed, was in a log that is no more.
            self._tidy(turn, log.directory)
            return
        try:
            outcome = self._outcome(message)
        except CorruptLogError as error:
            self.failures += 1
            self._pause = FAILURE_PAUSE
            turn.trace(traces.Warned(f"{replica.tp} was not compacted: {error}"))
            self._tidy(turn, log.directory)
            return
        if outcome.damage:
            # As when it is read: nothing of this log is served any more (fault contract, C3).
            broker.damaged(replica, CorruptLogError(outcome.damage))
            self._tidy(turn, log.directory)
            return
        swap = Swap(log, outcome, running.plan.segments)
        swap.prepare(turn)
        self._swap = replica, swap

    def _outcome(self, message: bus.CompactionEnded) -> files.Outcome:
        if message.status:
            raise CorruptLogError(f"the compactor ended with {message.status}")
        outcome = files.read_outcome(self._broker.files)
        if outcome.number != message.number:
            raise CorruptLogError(f"the outcome is of job {outcome.number}")
        return outcome

    def _tidy(self, turn: Turn, directory: str) -> None:
        delete_cleaned(self._broker.files, directory, turn)

    # --- within a turn ----------------------------------------------------------------------

    def disk_is_done(self, turn: Turn) -> None:
        """First of each round of `settle`: segments change in memory when they have on disk."""
        if self._swap is not None and self._swap[1].stage is Stage.REPLACING:
            self._swap[1].replaced(turn)

    def settle(self, turn: Turn) -> None:
        """Last of each round: nothing reads between this and the disk."""
        if self._swap is None:
            return
        replica, swap = self._swap
        if (
            replica.offline
            or replica.log.failure
            or swap.stage is Stage.CANCELLED
            # Deleted in this very turn: its name may be another one's.
            or self._broker.replicas.get(replica.tp) is not replica
        ):
            self._swap = None
        elif swap.stage is Stage.FAILED:
            self._swap = None
            self.failures += 1
            self._pause = FAILURE_PAUSE
            turn.trace(traces.Warned(f"{replica.tp} was not compacted: its sync failed"))
            swap.cancel(turn)
        elif swap.stage is Stage.READY and not self._broker.shutdown.is_closing:
            swap.replace(turn)
        elif swap.stage is Stage.DONE:
            self._swap = None
            turn.trace(swap.trace())
            self._broker.checkpoints.write_first_dirty(turn, self._broker.replica_set)
