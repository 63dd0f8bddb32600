"""What a broker tells of itself to whoever asks once, or watches: replicas, counters, its image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kcluster.core.broker.traffic import TrafficCounts
from kcluster.core.metadata import records
from kcluster.core.replication.replica import Replica
from kcluster.core.turn import Received, Turn
from kcluster.core.watchers import TellDue, Watchers
from kcluster.model import TopicPartition
from kcluster.wire import telling

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore


class Status:
    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self.traffic = TrafficCounts()
        self.meter: Callable[[], tuple[list[telling.RequestTimes], int]] = _nothing_measured
        """Request times and open connections, which only the outside knows."""
        self._watchers = Watchers()
        self._told: dict[TopicPartition, tuple[object, ...]] = {}
        """What those who watch know of each replica."""
        self._told_counters: telling.Counters | None = None

    def describe_replicas(
        self, message: telling.DescribeReplicas, received: Received, turn: Turn
    ) -> None:
        turn.send(received.source, self._whole(message.request, 0))

    def describe_image(
        self, message: telling.DescribeImage, received: Received, turn: Turn
    ) -> None:
        image = self._broker.image
        turn.send(
            received.source,
            telling.Image(message.request, image.next_offset),
            [records.encode_all(image.records())],
        )

    def watch(self, message: telling.Watch, received: Received, turn: Turn) -> None:
        if self._watchers.watch(received.source, message, turn):
            request, told = self._watchers.number(received.source)
            turn.send(received.source, self._whole(request, told))

    def tell(self, due: TellDue, turn: Turn) -> None:
        """Those who watch what has changed, if anything has."""
        sources = self._watchers.due(turn)
        if not sources:
            self._told.clear()
            return
        replicas = self._broker.replica_set
        gone = [tp for tp in self._told if tp not in replicas.by_partition]
        changed = []
        for tp, replica in replicas.by_partition.items():
            now = _figures(replica)
            if self._told.get(tp) != now:
                self._told[tp] = now
                changed.append(replicas.describe(replica))
        for tp in gone:
            del self._told[tp]
        counters = self._counters()
        if not changed and not gone and counters == self._told_counters:
            return
        self._told_counters = counters
        for source in sources:
            request, told = self._watchers.number(source)
            turn.send(source, self._replicas(request, told, changed, gone, counters))

    def _whole(self, request: int, told: int) -> telling.Replicas:
        replicas = self._broker.replica_set
        everything = [
            replicas.describe(replica) for _, replica in sorted(replicas.by_partition.items())
        ]
        return self._replicas(request, told, everything, [], self._counters())

    def _replicas(
        self,
        request: int,
        told: int,
        replicas: list[telling.ReplicaState],
        gone: Sequence[TopicPartition],
        counters: telling.Counters,
    ) -> telling.Replicas:
        broker = self._broker
        return telling.Replicas(
            request, broker.broker_id, broker.epoch, replicas, broker.replica_set.notices,
            list(gone), told, counters,
        )  # fmt: skip

    def _counters(self) -> telling.Counters:
        self.traffic.keep(self._broker.image.topics)
        requests, connections = self.meter()
        topics = {
            name: telling.Traffic(traffic.bytes_in, traffic.bytes_out, traffic.records_in)
            for name, traffic in self.traffic.by_topic.items()
        }
        throttled = self._broker.connections.throttled
        return telling.Counters(self.traffic.total(), topics, requests, connections, throttled)


def _figures(replica: Replica) -> tuple[object, ...]:
    """All of it that `Replicas.describe` tells, as cheaply as can be compared."""
    log = replica.log
    return (
        replica.leader_epoch, replica.leader is not None, replica.is_in_sync, replica.offline,
        replica.state is None, log.log_start_offset, log.log_end_offset, log.high_watermark,
        log.size_bytes,
    )  # fmt: skip


def _nothing_measured() -> tuple[list[telling.RequestTimes], int]:
    return [], 0
