"""Historical bugs, each behind a switch: put back, a simulation must catch it.

    with MUTANTS["..."].applied(): Simulation(seed).run()

A mutant that no seed catches says that the simulation is too kind, or the invariant too weak.
Each names the invariant it breaks and the bug that it was somewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kcluster.core.broker.controller_channel import ControllerChannel
from kcluster.core.broker.handlers import produce
from kcluster.core.controller.partitions import Partitions
from kcluster.core.log.compaction import plan
from kcluster.core.log.partition_log import PartitionLog
from kcluster.core.replication.leader import LeaderState
from kcluster.core.replication.replica import Replica


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: str
    owner: Any
    attribute: str
    change: Callable[[Any], Any]
    """What the attribute becomes, from what it was."""
    is_quick: bool = True
    """A few seeds are enough."""
    is_known_to_escape: bool = False
    """No seed is known to catch it: what the simulation is too kind for."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        was = self.owner.__dict__[self.attribute]
        setattr(self.owner, self.attribute, self.change(was))
        try:
            yield
        finally:
            setattr(self.owner, self.attribute, was)


def _shrinks_at_once(was: Any) -> Any:
    def propose(self: Any, isr: Any, *rest: Any) -> Any:
        out = was(self, isr, *rest)
        self._maximal = frozenset(isr)
        return out

    return propose


def _truncates_to_own_high_watermark(was: Any) -> Any:
    def lead_or_follow(self: Any, turn: Any, state: Any, incoming: Any) -> Any:
        if self.log.high_watermark < self.log.log_end_offset and self.log.high_watermark >= 0:
            self.log.truncate_to(turn, max(self.log.high_watermark, self.log.log_start_offset))
        return was(self, turn, state, incoming)

    return lead_or_follow


def _acks_what_is_written(was: Any) -> Any:
    def append(broker: Any, replica: Any, data: Any, part: Any, acks: int, *rest: Any) -> Any:
        return was(broker, replica, data, part, 1 if acks == -1 else acks, *rest)

    return append


def _believes_any_broker_epoch(was: Any) -> Any:
    def may_be_in_sync(self: Any, state: Any, id: int, broker_epoch: int) -> Any:
        broker = self.image.brokers.get(id)
        return was(self, state, id, broker.broker_epoch if broker is not None else -1)

    return may_be_in_sync


def _compacts_what_is_not_committed(was: Any) -> Any:
    def plan_beyond(log: Any, turn: Any) -> Any:
        high_watermark = log.high_watermark
        log.high_watermark = log.written_end
        try:
            return was(log, turn)
        finally:
            log.high_watermark = high_watermark

    return plan_beyond


MUTANTS = {
    mutant.name: mutant
    for mutant in (
        Mutant("a proposed shrink leaves the maximal ISR at once", "4", LeaderState, "_propose",
               _shrinks_at_once),
        Mutant("the high watermark moves under min ISR (KAFKA-15583)", "6", LeaderState,
               "has_enough_replicas", lambda was: property(lambda self: True)),
        Mutant("a follower truncates to its own high watermark (KIP-101)", "1, 8", Replica,
               "_follow", _truncates_to_own_high_watermark),
        Mutant("acks=all is answered when the leader has written", "15", produce, "_append",
               _acks_what_is_written),
        Mutant("a lossy restart keeps its trust (KIP-966)", "11", Partitions, "lost_data",
               lambda was: lambda self, decision, broker_id, is_all: None),
        Mutant("a stale broker epoch joins the ISR (KIP-903)", "10", Partitions,
               "_may_be_in_sync", _believes_any_broker_epoch, False, True),
        Mutant("a follower does not know producers (KAFKA-9892)", "14", PartitionLog,
               "replay_producer", lambda was: lambda self, header: None),
        Mutant("who stood still serves at once (etcd #20418)", "19", ControllerChannel,
               "stood_still", lambda was: lambda self, turn, offset: None, False),
        Mutant("compaction goes beyond the high watermark", "3, 16", plan, "plan",
               _compacts_what_is_not_committed),
        Mutant("the log's end counts before it is flushed", "18", Replica, "position",
               lambda was: property(lambda self: self.log.written_end), False),
    )
}  # fmt: skip
