"""What a broker does by the clock, each by a timer that asks for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kcluster.config import LONG_MAX
from kcluster.core.broker.compactions import Compactions
from kcluster.core.log.retention import DeletionDue
from kcluster.core.turn import Timer, Turn

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore

PROBE_INTERVAL_MS: Final = 500

EXPIRY_PAUSE_MS: Final = 20
"""Between two portions of expired offsets."""


class ProbeDue(Timer, msgspec.Struct):
    pass


class LagDue(Timer, msgspec.Struct):
    pass


class RetentionDue(Timer, msgspec.Struct):
    pass


class OffsetsDue(Timer, msgspec.Struct):
    """Expired offsets of groups are looked for."""


class FlushDue(Timer, msgspec.Struct):
    pass


class MarksDue(Timer, msgspec.Struct):
    """High watermarks go to their checkpoint."""


class RecoveryPointsDue(Timer, msgspec.Struct):
    pass


class Upkeep:
    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self._is_flush_armed = False
        self.compactions = Compactions(broker)
        self.events: dict[type[Any], Callable[[Any, Turn], None]] = {
            ProbeDue: self._probe,
            LagDue: self._look_for_laggards,
            RetentionDue: self._retain,
            OffsetsDue: self._expire_offsets,
            DeletionDue: lambda event, turn: event.carry_out(turn),
            FlushDue: self._flush,
            MarksDue: self._checkpoint_marks,
            RecoveryPointsDue: self._checkpoint_recovery_points,
            **self.compactions.events,
        }

    def begin(self, turn: Turn) -> None:
        settings = self._broker.settings
        self.compactions.begin(turn)
        turn.after(PROBE_INTERVAL_MS, ProbeDue())
        turn.after(max(self._broker.lag_max_ms // 2, 1), LagDue())
        turn.after(settings.int("log.retention.check.interval.ms"), RetentionDue())
        turn.after(settings.int("offsets.retention.check.interval.ms"), OffsetsDue())
        turn.after(settings.int("replica.high.watermark.checkpoint.interval.ms"), MarksDue())
        turn.after(settings.int("log.flush.offset.checkpoint.interval.ms"), RecoveryPointsDue())

    def _look_for_laggards(self, event: LagDue, turn: Turn) -> None:
        turn.after(max(self._broker.lag_max_ms // 2, 1), LagDue())
        self._broker.roles.look_for_laggards(turn)

    def _probe(self, event: ProbeDue, turn: Turn) -> None:
        turn.after(PROBE_INTERVAL_MS, ProbeDue())
        self._broker.outgoing.probe(turn.now_ms)
        self._broker.incoming.break_silence(turn)
        self._broker.producer_ids.look(turn, self._broker.epoch)
        self._broker.channel.report_failures(turn, self._broker.roles.is_counted_on)
        if not self._is_flush_armed and any(
            replica.log.config.flush_ms < LONG_MAX for replica in self._broker.replica_set
        ):
            self._is_flush_armed = True
            turn.after(1, FlushDue())

    def _flush(self, event: FlushDue, turn: Turn) -> None:
        """flush.ms: logs that took records that long ago. Only where a topic asks for it."""
        timed = [
            replica
            for replica in self._broker.replica_set
            if not replica.offline and replica.log.config.flush_ms < LONG_MAX
        ]
        for replica in timed:
            if replica.log.needs_flush(turn.now_ms):
                replica.log.flush(turn)
        self._is_flush_armed = bool(timed)
        if timed:
            shortest = min(replica.log.config.flush_ms for replica in timed)
            turn.after(min(max(shortest // 2, 10), 1000), FlushDue())

    def _retain(self, event: RetentionDue, turn: Turn) -> None:
        turn.after(self._broker.settings.int("log.retention.check.interval.ms"), RetentionDue())
        if not self._broker.has_image:
            # What the topics' configs are is not known yet: the defaults might delete for good.
            return
        for replica in self._broker.replica_set:
            if not replica.offline:
                if replica.leader is not None:
                    # Followers hear where the log begins: they never lack what their leader has,
                    # and a consumer may read from any of them. Kafka's go by their own clocks.
                    replica.log.apply_retention(turn)
                replica.log.expire_producers(turn.wall_ms)
                self._broker.mark(replica)

    def _expire_offsets(self, event: OffsetsDue, turn: Turn) -> None:
        has_more = self._broker.groups.expire(turn)
        interval_ms = self._broker.settings.int("offsets.retention.check.interval.ms")
        turn.after(min(EXPIRY_PAUSE_MS, interval_ms) if has_more else interval_ms, OffsetsDue())

    def _checkpoint_marks(self, event: MarksDue, turn: Turn) -> None:
        turn.after(
            self._broker.settings.int("replica.high.watermark.checkpoint.interval.ms"), MarksDue()
        )
        self._broker.checkpoints.write_high_watermarks(turn, self._broker.replica_set)
        self._broker.replica_set.mend_indexes(turn)

    def _checkpoint_recovery_points(self, event: RecoveryPointsDue, turn: Turn) -> None:
        turn.after(
            self._broker.settings.int("log.flush.offset.checkpoint.interval.ms"),
            RecoveryPointsDue(),
        )
        self._broker.checkpoints.write_recovery_points(turn, self._broker.replica_set)
