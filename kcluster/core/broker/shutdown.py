"""How a broker ends cleanly.

    serving --Stop(controlled)--> leaving: heartbeats say so, leaders move away (KIP-67)
       |                             |  may_shut_down, or nobody answers
       `------------Stop-----------> closing: no roles any more; logs flushed and closed
                                     |  all fsyncs returned
                                     v
                                  marked: checkpoints, then the clean-shutdown marker
                                     |  written
                                     v
                                  complete: the process may end

The marker is written only when every byte before it is durable, and not at all when a log has
failed: whoever finds it may trust the logs as they are (invariant 18).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core import traces
from kcluster.core.broker.checkpoints import CLEAN_SHUTDOWN
from kcluster.core.turn import Replace, Sync, Synced, Timer, Turn

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore

LEAVE_MS: Final = 5000
"""How long leaders may take to move away."""

CLOSE_MS: Final = 10_000
"""How long fsync may take; then the marker is left out."""


class Stage(enum.IntEnum):
    SERVING = 0
    LEAVING = 1
    CLOSING = 2
    MARKED = 3
    COMPLETE = 4


class ShutdownOverdue(Timer, msgspec.Struct):
    stage: Stage


class Shutdown:
    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self.stage = Stage.SERVING
        self._syncs: set[tuple[str, int]] = set()
        self._is_clean = True

    @property
    def is_closing(self) -> bool:
        return self.stage >= Stage.CLOSING

    @property
    def is_complete(self) -> bool:
        return self.stage is Stage.COMPLETE

    def begin(self, turn: Turn, *, controlled: bool) -> None:
        broker = self._broker
        if self.is_closing:
            return
        if controlled and broker.epoch >= 0 and not broker.is_frozen:
            if self.stage is Stage.SERVING:
                self.stage = Stage.LEAVING
                broker.channel.wants_shutdown = True
                turn.after(LEAVE_MS, ShutdownOverdue(Stage.LEAVING))
            broker.channel.heartbeat(turn, broker.image.next_offset)
            return
        self._close(turn)

    def look(self, turn: Turn) -> None:
        if self.stage is Stage.LEAVING and self._broker.channel.may_shut_down:
            self._close(turn)

    def overdue(self, event: ShutdownOverdue, turn: Turn) -> None:
        if event.stage is not self.stage:
            return
        if self.stage is Stage.LEAVING:
            turn.trace(traces.Warned("leaders did not move away in time: stopping anyway"))
            self._close(turn)
        elif self.stage is Stage.CLOSING:
            turn.trace(traces.Warned("fsync did not return in time: not a clean shutdown"))
            self._is_clean = False
            self._syncs.clear()

    def _close(self, turn: Turn) -> None:
        broker = self._broker
        self.stage = Stage.CLOSING
        turn.after(CLOSE_MS, ShutdownOverdue(Stage.CLOSING))
        for replica in broker.replica_set:
            broker.roles.stand_down(replica, turn)
            if replica.offline:
                self._is_clean = False
            else:
                replica.log.close(turn)
        self._note_syncs(turn)

    def _note_syncs(self, turn: Turn) -> None:
        self._syncs |= {
            (operation.path, operation.token)
            for operation in turn.disk
            if isinstance(operation, Sync)
        }

    def synced(self, event: Synced) -> None:
        self._syncs.discard((event.path, event.token))
        if event.errno:
            self._is_clean = False

    def settle(self, turn: Turn) -> None:
        """After every round of a turn's writes."""
        broker = self._broker
        if self.stage is Stage.CLOSING:
            self._note_syncs(turn)
            if not self._syncs:
                self.stage = Stage.MARKED
                broker.checkpoints.write_high_watermarks(turn, broker.replica_set)
                broker.checkpoints.write_recovery_points(turn, broker.replica_set)
                if self._is_clean and not any(r.offline for r in broker.replica_set):
                    text = f'{{"version":0,"brokerEpoch":{broker.epoch}}}'
                    turn.disk.append(Replace(CLEAN_SHUTDOWN, text.encode(), durable=True))
        elif self.stage is Stage.MARKED:
            self.stage = Stage.COMPLETE
