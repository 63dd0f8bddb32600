"""Readers of a load: alone, with all partitions from where they ended, or as members of a group.

A reader goes on whatever happens to the cluster: where its client breaks, a new one takes over,
alone at the offset that is next, in a group at what the group committed.
"""

from __future__ import annotations

import threading
from typing import Final

from kcluster.chaos.client_thread import ClientThread
from kcluster.chaos.ledger import Meter
from kcluster.chaos.reach import Reach
from kcluster.chaos.seen import Seen
from kcluster.chaos.workload import Workload
from kcluster.chaos.writer import AGAIN_S, BROKEN
from kcluster.check.groups import GroupHistory
from kcluster.client.consumer import Consumer
from kcluster.core.client.consumer import Consumed, ConsumerSettings, From, Place
from kcluster.core.client.group_consumer import Assigned
from kcluster.model import TopicPartition

POLL_MS: Final = 200

SETTINGS: Final = ConsumerSettings(buffer_records=2_000, partition_max_bytes=256 << 10)
"""Small buffers: a reader that is behind takes little memory."""


class Reader(ClientThread):
    """Ends some time after `stops`."""

    def __init__(
        self,
        number: int,
        reach: Reach,
        workload: Workload,
        seen: list[Seen],
        meter: Meter,
        stops: threading.Event,
        group: str | None = None,
        history: GroupHistory | None = None,
    ) -> None:
        """`seen` by partition; members of a `group` tell their assignments to `history`."""
        super().__init__(f"reader-{number}")
        self.is_ready = threading.Event()
        """It has its partitions."""
        self._reach = reach
        self._workload = workload
        self._seen = seen
        self._meter = meter
        self._stops = stops
        self._group = group
        self._history = history if history is not None else GroupHistory()

    def work(self) -> None:
        while not self._stops.is_set():
            try:
                if self._group is None:
                    self._read_alone()
                else:
                    self._read_as_member(self._group)
            except BROKEN as problem:
                self.breaks += 1
                self.problem = str(problem) or type(problem).__name__
                self._stops.wait(AGAIN_S)

    def _read_alone(self) -> None:
        topic = self._workload.topic
        with Consumer(self._reach.open(), settings=SETTINGS) as consumer:
            consumer.assign(topic)
            wanted = {TopicPartition(topic, number) for number in range(len(self._seen))}
            while not self._stops.is_set() and not wanted <= consumer.positions().keys():
                consumer.poll(POLL_MS // 10, 1)
            for number, seen in enumerate(self._seen):
                consumer.seek(
                    TopicPartition(topic, number), From(Place.NEAREST, seen.position(self.name))
                )
            self.is_ready.set()
            while not self._stops.is_set():
                self._take(consumer.poll(POLL_MS))

    def _read_as_member(self, group: str) -> None:
        consumer = Consumer(
            self._reach.open(),
            self._workload.topic,
            SETTINGS,
            group=group,
            auto_commit=False,
        )
        try:
            while not self._stops.is_set():
                taken = consumer.poll(POLL_MS)
                for event in consumer.take_events():
                    if isinstance(event, Assigned):
                        self._assigned(group, event)
                self._take(taken)
                consumer.done(taken)
        finally:
            consumer.close()

    def _assigned(self, group: str, event: Assigned) -> None:
        self._history.assigned(group, event.generation, self.name, event.partitions)
        for tp in event.partitions:
            if tp.partition < len(self._seen):
                self._seen[tp.partition].begin(self.name)
        self.is_ready.set()

    def _take(self, taken: list[Consumed]) -> None:
        token = self._workload.token
        for consumed in taken:
            if consumed.tp.partition < len(self._seen):
                seen = self._seen[consumed.tp.partition]
                seen.give(self.name, consumed.record.offset, token(consumed.record.value))
        self._meter.poll(len(taken))
