"""A controller on a simulated disk, driven message by message: messages in, messages out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from kcluster.config import Settings
from kcluster.core.controller.controller import ControllerCore
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import (
    DiskOperation,
    Event,
    Received,
    Reply,
    Send,
    Sync,
    Synced,
    Timer,
    Turn,
    Volume,
    run_turn,
)
from kcluster.model import SUPERVISOR, TopicPartition
from kcluster.sim.disk import SimDisk
from kcluster.wire import bus


class Playbook:
    """`receive` gives one message and lets all syncs come back; `sent` is what left since."""

    def __init__(
        self, brokers: int = 3, disk: SimDisk | None = None, incarnation: int = 1, **knobs: str
    ) -> None:
        self.disk = disk if disk is not None else SimDisk()
        self.now_ms = 1000
        self.sent: list[Send] = []
        self.traces: list[Any] = []
        self.timers: list[tuple[int, int, Timer]] = []
        self.pending: list[Sync] = []
        self.syncs = 0
        self.holds_syncs = False
        settings = Settings({name.replace("_", "."): value for name, value in knobs.items()})
        self.core = ControllerCore(
            incarnation, self.disk, settings, Random(7), range(1, brokers + 1)
        )
        self.turn = Turn()
        self.epochs: dict[int, int] = {}
        self.incarnations: dict[int, int] = {}
        self.applied: dict[int, int] = {}
        self.requests = 0
        """Number of the last AlterPartition of anybody."""
        self.run()

    # --- World ----------------------------------------------------------------------------

    def clock(self) -> tuple[int, int]:
        return self.now_ms, self.now_ms + 1_000_000

    def read(self, path: str, position: int, size: int) -> bytes:
        return self.disk.read(path, position, size)

    def size(self, path: str) -> int:
        return self.disk.size(path)

    def list(self, directory: str) -> list[str]:
        return self.disk.list(directory)

    def volume(self) -> Volume:
        return self.disk.volume()

    def perform(self, operation: DiskOperation) -> int:
        if isinstance(operation, Sync):
            self.pending.append(operation)
            self.syncs += 1
            return 0
        return self.disk.perform(operation)

    def send(self, sends: list[Send]) -> None:
        self.sent += sends

    def reply(self, replies: list[Reply], closes: list[int]) -> None:
        raise AssertionError("a controller has no Kafka clients")

    def schedule(self, timers: list[tuple[int, Timer]]) -> None:
        for due_ms, timer in timers:
            self.timers.append((due_ms, len(self.timers), timer))

    def trace(self, traces: list[Any]) -> None:
        self.traces += traces

    def release(self) -> None:
        pass

    # --- events ---------------------------------------------------------------------------

    def run(self, *events: Event) -> None:
        run_turn(self.core, events, self.turn, self)
        while self.pending and not self.holds_syncs:
            self.sync()

    def sync(self, errno: int = 0) -> None:
        operation = self.pending.pop(0)
        self.disk.perform(operation)
        run_turn(self.core, [Synced(operation.path, operation.token, errno)], self.turn, self)

    def receive(
        self, source: int, message: bus.Message, *, epoch: int | None = None, payload: Any = ()
    ) -> list[Send]:
        """Everything that left because of it."""
        if epoch is None:
            epoch = self.incarnations.get(source, 1)
        start = len(self.sent)
        self.run(Received(source, epoch, message, payload))
        return self.sent[start:]

    def live(self, ms: int, ids: Sequence[int] = ()) -> None:
        """As `pass_time`, with brokers (all, unless some are named) that show that they live."""
        for _ in range(ms // 1000):
            self.heartbeats(*ids)
            self.pass_time(1000)
        self.heartbeats(*ids)
        self.pass_time(ms % 1000)

    def pass_time(self, ms: int) -> None:
        """Let the clock move and the timers come back that are due, in their order."""
        end_ms = self.now_ms + ms
        while True:
            due = [timer for timer in self.timers if timer[0] <= end_ms]
            if not due:
                break
            first = min(due, key=lambda timer: timer[:2])
            self.timers.remove(first)
            self.now_ms = max(self.now_ms, first[0])
            self.run(first[2])
        self.now_ms = end_ms

    # --- a broker's lines -----------------------------------------------------------------

    def register(
        self,
        id: int,
        incarnation: int | None = None,
        restart: str = "clean",
        logs: list[bus.LogEnd] | None = None,
    ) -> list[Send]:
        """By default with a log of each partition that is placed on it."""
        if incarnation is None:
            incarnation = self.incarnations.get(id, 0) + 1
        self.incarnations[id] = incarnation
        sent = self.receive(
            id,
            bus.Register(
                id,
                incarnation,
                "127.0.0.1",
                9090 + id,
                f"ipc://b{id}.{incarnation}",
                restart,
                self.logs_of(id) if logs is None else logs,
            ),
        )
        for send in sent:
            if send.target == id and isinstance(send.message, bus.Registered):
                self.epochs[id] = send.message.broker_epoch
                self.applied[id] = send.message.metadata_offset
        return sent

    def logs_of(self, id: int) -> list[bus.LogEnd]:
        return [
            bus.LogEnd(topic.id, state.partition, -1, 0)
            for topic in self.core.image.topics.values()
            for state in topic.partitions.values()
            if id in state.replicas
        ]

    def heartbeat(
        self, id: int, offset: int | None = None, nonce: int = 0, wants_shutdown: bool = False
    ) -> list[Send]:
        """By default the broker has applied all that is committed."""
        if offset is None:
            offset = self.core.log.committed_offset
        message = bus.Heartbeat(self.epochs[id], offset, nonce, wants_shutdown)
        return self.receive(id, message)

    def heartbeats(self, *ids: int) -> None:
        for id in ids or sorted(self.epochs):
            self.heartbeat(id)

    def join(self, *ids: int, restart: str = "clean") -> None:
        """Register and unfence."""
        for id in ids:
            self.register(id, restart=restart)
        for id in ids:
            self.heartbeat(id)

    def die(self, id: int) -> list[Send]:
        return self.receive(SUPERVISOR, bus.Died(id, self.incarnations[id]))

    def alter(
        self, leader: int, isr: list[int], topic: str = "t", partition: int = 0, **fields: Any
    ) -> bus.IsrOutcome:
        state = self.partition(topic, partition)
        change = bus.IsrChange(
            topic_id=fields.get("topic_id", state.topic_id),
            partition=partition,
            leader_epoch=fields.get("leader_epoch", state.leader_epoch),
            partition_epoch=fields.get("partition_epoch", state.partition_epoch),
            isr=isr,
            isr_broker_epochs=fields.get("epochs", [self.epochs.get(id, -1) for id in isr]),
            min_isr=fields.get("min_isr", len(state.replicas)),
        )
        broker_epoch = fields.get("broker_epoch", self.epochs[leader])
        self.requests = fields.get("request", self.requests + 1)
        sent = self.receive(leader, bus.AlterPartition(broker_epoch, self.requests, [change]))
        answer = only(sent, bus.PartitionAltered)
        if answer.error:
            return bus.IsrOutcome(change.topic_id, partition, answer.error)
        return answer.outcomes[0]

    def make_topic(
        self, name: str = "t", *assignments: list[int], configs: dict[str, str] | None = None
    ) -> bytes:
        """Straight into the metadata log, with everybody in sync who is alive."""
        decision = self.core._decide(self.turn)
        topic_id = name.encode().ljust(16, b".")
        decision.add(r.TopicCreated(name, topic_id))
        for key, value in (configs or {}).items():
            decision.add(r.ConfigChanged(2, name, key, value))
        for index, replicas in enumerate(assignments or ([1, 2, 3],)):
            isr = [id for id in replicas if self.core.image.is_alive(id)]
            decision.add(
                r.PartitionChanged(topic_id, index, replicas, isr, isr[0] if isr else -1, 0, 0)
            )
        self.core._commit(self.turn, decision)
        self.run()
        return topic_id

    # --- what is ---------------------------------------------------------------------------

    def partition(self, topic: str = "t", partition: int = 0) -> r.PartitionChanged:
        state = self.core.log.image.partition(TopicPartition(topic, partition))
        assert state is not None
        return state

    @property
    def image(self) -> ClusterImage:
        return self.core.log.image

    def traced(self, kind: type) -> list[Any]:
        return [trace for trace in self.traces if isinstance(trace, kind)]


def only(sent: list[Send], kind: type) -> Any:
    found = [send.message for send in sent if isinstance(send.message, kind)]
    assert len(found) == 1, f"{len(found)} of {kind.__name__} in {sent}"
    return found[0]


def messages(sent: list[Send], target: int) -> list[bus.Message]:
    return [send.message for send in sent if send.target == target]
