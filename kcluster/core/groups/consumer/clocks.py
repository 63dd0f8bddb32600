"""What a member of a consumer group has to do within a time: deadlines that take it out.

    SESSION      say anything at all
    REBALANCE    give up partitions, and leave its epoch with that
    JOIN, SYNC   of a member of the classic protocol: join again, and ask for its assignment

Source: Kafka's GroupMetadataManager, whose timers these are.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from kcluster.core.purgatory import Waiter

if TYPE_CHECKING:
    from kcluster.core.groups.consumer.group import ConsumerGroup
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

ANY_EPOCH: Final = -1


class ClockKind(enum.Enum):
    SESSION = "its session is over"
    REBALANCE = "it did not give up its partitions in time"
    JOIN = "it did not join again in time"
    SYNC = "it did not ask for its assignment in time"


class Clock(Waiter):
    __slots__ = ("epoch", "group", "kind", "member_id", "shard")

    def __init__(
        self, shard: Shard, group: ConsumerGroup, member_id: str, kind: ClockKind, epoch: int
    ) -> None:
        self.due_ms = 0
        self.shard = shard
        self.group = group
        self.member_id = member_id
        self.kind = kind
        self.epoch = epoch
        """The one that it has to leave; ANY_EPOCH when that does not matter."""

    def expire(self, turn: Turn) -> None:
        if self.group.clocks.get((self.member_id, self.kind)) is self:
            del self.group.clocks[self.member_id, self.kind]
            self.shard.clock_ran_out(self, turn)


def start(
    shard: Shard,
    group: ConsumerGroup,
    member_id: str,
    kind: ClockKind,
    wait_ms: int,
    turn: Turn,
    *,
    epoch: int = ANY_EPOCH,
) -> None:
    """Anew, if it runs."""
    stop(shard, group, member_id, kind)
    clock = group.clocks[member_id, kind] = Clock(shard, group, member_id, kind, epoch)
    shard.deadlines.add(turn, max(wait_ms, 0), clock)


def start_if_absent(
    shard: Shard, group: ConsumerGroup, member_id: str, kind: ClockKind, wait_ms: int, turn: Turn
) -> None:
    if (member_id, kind) not in group.clocks:
        start(shard, group, member_id, kind, wait_ms, turn)


def stop(shard: Shard, group: ConsumerGroup, member_id: str, kind: ClockKind) -> None:
    clock = group.clocks.pop((member_id, kind), None)
    if clock is not None:
        shard.deadlines.remove(clock)


def stop_all_of(shard: Shard, group: ConsumerGroup, member_id: str) -> None:
    for kind in ClockKind:
        stop(shard, group, member_id, kind)


def stop_all(shard: Shard, group: ConsumerGroup) -> None:
    for clock in group.clocks.values():
        shard.deadlines.remove(clock)
    group.clocks.clear()
