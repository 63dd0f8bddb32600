"""A stage for brokers: real cores on simulated disks, a dictated image, messages passed by hand.

The coordinator is played by the test: it hears what brokers say to it (`told`) and dictates
records. Bus messages between brokers wait in `wires` until `deliver`, and may be dropped,
repeated or kept back before that. Time passes only by `wait`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from kcluster.config import Settings
from kcluster.core.broker.broker import BrokerCore
from kcluster.core.metadata import records as r
from kcluster.core.turn import (
    Disconnected,
    Event,
    Received,
    Reply,
    Request,
    Send,
    Span,
    Sync,
    Synced,
    Turn,
    Volume,
    run_turn,
)
from kcluster.model import COORDINATOR, SUPERVISOR, TopicPartition
from kcluster.sim.disk import SimDisk
from kcluster.wire import bus
from kcluster.wire.apis import APIS
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import Message, decode
from kcluster.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from kcluster.wire.records import Record, build_batch, read_records
from kcluster.wire.records import batches as batches_in

TOPIC_ID = bytes(range(16))
TP = TopicPartition("orders", 0)


class Member:
    """One broker's process: its core, disk and world."""

    def __init__(
        self, stage: Stage, id: int, incarnation: int, disk: SimDisk, restart: str
    ) -> None:
        self.stage = stage
        self.id = id
        self.incarnation = incarnation
        self.disk = disk
        self.turn = Turn()
        self.replies: list[Reply] = []
        self.closed: list[int] = []
        self.traces: list[Any] = []
        self.timers: list[tuple[int, int, Any]] = []
        self.told: list[bus.Message] = []
        self.syncs: list[Sync] = []
        self.holds_syncs = False
        self._asked: dict[tuple[int, int], tuple[int, int]] = {}
        self.core = BrokerCore(
            id,
            incarnation,
            "127.0.0.1",
            9090 + id,
            f"ipc://{id}",
            self,
            Settings(stage.settings),
            Random(id),
            restart,
        )

    # World

    def clock(self) -> tuple[int, int]:
        return self.stage.now_ms, 1_700_000_000_000 + self.stage.now_ms

    def read(self, path: str, position: int, size: int) -> bytes:
        return self.disk.read(path, position, size)

    def size(self, path: str) -> int:
        return self.disk.size(path)

    def list(self, directory: str) -> list[str]:
        return self.disk.list(directory)

    def volume(self) -> Volume:
        return self.disk.volume()

    def perform(self, operation: Any) -> int:
        if isinstance(operation, Sync):
            self.syncs.append(operation)
            return 0
        return self.disk.perform(operation)

    def send(self, sends: list[Send]) -> None:
        for send in sends:
            # What is sent is encoded at once, as on a real bus.
            envelope = bus.encode(
                bus.Envelope(self.id, self.incarnation, send.target, 0, send.message)
            )
            payload = [bytes(frame) for frame in send.payload]
            if send.target <= COORDINATOR:
                self.told.append(bus.decode(envelope).message)
                self.stage.payloads.append(payload)
            else:
                self.stage.wires.append((self.id, send.target, envelope, payload))

    def reply(self, replies: list[Reply], closes: list[int]) -> None:
        for reply in replies:
            whole = b"".join(self._part(part) for part in reply.parts)
            parts: list[Any] = [whole] if whole else []
            self.replies.append(Reply(reply.connection, parts, reply.mute_ms))
        self.closed += closes

    def _part(self, part: Any) -> bytes:
        if isinstance(part, Span):
            return self.disk.read(part.path, part.position, part.size)
        return bytes(part)

    def schedule(self, timers: list[tuple[int, Any]]) -> None:
        for due_ms, timer in timers:
            self.stage.serial += 1
            heapq.heappush(self.timers, (due_ms, self.stage.serial, timer))

    def trace(self, traces: Iterable[Any]) -> None:
        self.traces += traces

    def release(self) -> None:
        pass

    # Playing

    def run(self, *events: Event) -> None:
        run_turn(self.core, events, self.turn, self)
        while self.syncs and not self.holds_syncs:
            self.end_syncs()

    def end_syncs(self, errno: int = 0) -> None:
        syncs, self.syncs = self.syncs, []
        events = []
        for sync in syncs:
            if not errno:
                self.disk.perform(sync)
            events.append(Synced(sync.path, sync.token, errno))
        run_turn(self.core, events, self.turn, self)

    def hears(self, source: int, message: bus.Message, *payload: bytes, epoch: int = 1) -> None:
        self.run(Received(source, epoch, message, payload))

    def asks(
        self, request: Message, version: int, connection: int = 1, correlation: int = 7
    ) -> None:
        parts = request_frame(request, version, correlation, "test")
        frame = bytearray(b"".join(bytes(part) for part in parts))[4:]
        self._asked[connection, correlation] = (APIS[request.KEY].key, version)
        self.run(Request(connection, memoryview(frame)))

    def hangs_up(self, connection: int = 1) -> None:
        self.run(Disconnected(connection))

    def answers(self) -> list[Any]:
        """Decoded, in order, and forgotten."""
        replies, self.replies = self.replies, []
        return [
            self._decode(reply.connection, bytes(reply.parts[0]))
            for reply in replies
            if reply.parts
        ]

    def _decode(self, connection: int, frame: bytes) -> Any:
        correlation = int.from_bytes(frame[4:8], "big")
        key, version = self._asked[connection, correlation]
        _, position = parse_response_header(frame[4:], key, version)
        return decode(APIS[key].response, frame[4:], version, position)

    def answer(self) -> Any:
        answers = self.answers()
        assert len(answers) == 1, answers
        return answers[0]

    def heard(self, kind: type[Any]) -> list[Any]:
        """What it told the coordinator and the supervisor of this kind; forgotten."""
        found = [message for message in self.told if isinstance(message, kind)]
        self.told = [message for message in self.told if not isinstance(message, kind)]
        return found

    def traced(self, kind: type[Any]) -> list[Any]:
        return [trace for trace in self.traces if isinstance(trace, kind)]

    @property
    def replica(self) -> Any:
        return self.core.replicas[TP]

    @property
    def log(self) -> Any:
        return self.replica.log

    def records(self) -> list[bytes]:
        log = self.log
        data = b""
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            chunk, offset = log.read_bytes(offset, 1 << 20, log.log_end_offset)
            data += chunk
        return [record.value or b"" for record in values_of(data)]


class Stage:
    def __init__(self, brokers: int = 1, **settings: str) -> None:
        self.settings = {name.replace("_", "."): value for name, value in settings.items()}
        self.now_ms = 1_000_000
        self.serial = 0
        self.offset = 0
        self.records: list[r.Record] = []
        self.wires: list[tuple[int, int, bytes, list[bytes]]] = []
        self.payloads: list[list[bytes]] = []
        self.members: dict[int, Member] = {}
        self.state: r.PartitionChanged | None = None
        for id in range(1, brokers + 1):
            self.start(id)

    def __getitem__(self, id: int) -> Member:
        return self.members[id]

    def start(
        self, id: int, *, incarnation: int = 1, disk: SimDisk | None = None, restart: str = "clean"
    ) -> Member:
        """A new incarnation, registered and unfenced."""
        member = self.members[id] = Member(self, id, incarnation, disk or SimDisk(), restart)
        member.run()
        epoch = self.offset
        self._add(r.BrokerRegistered(id, epoch, incarnation, "127.0.0.1", 9090 + id, f"ipc://{id}"))
        self._add(r.BrokerUnfenced(id, epoch))
        member.hears(
            COORDINATOR, bus.Registered(incarnation, epoch, self.offset), r.encode_all(self.records)
        )
        self._tell_others(id)
        return member

    def restart(self, id: int, restart: str = "crash") -> Member:
        old = self.members[id]
        self.wires = [wire for wire in self.wires if id not in wire[:2]]
        return self.start(id, incarnation=old.incarnation + 1, disk=old.disk, restart=restart)

    def kill(self, id: int) -> None:
        """Its messages under way are lost, and all hear of its death."""
        dead = self.members.pop(id)
        self.wires = [wire for wire in self.wires if id not in wire[:2]]
        for member in self.members.values():
            member.hears(SUPERVISOR, bus.Died(id, dead.incarnation))

    def _add(self, record: r.Record) -> None:
        self.records.append(record)
        self.offset += 1

    def _tell_others(self, but: int) -> None:
        for id in self.members:
            if id != but:
                self.tell(id)

    def dictate(self, *records: r.Record, to: Iterable[int] | None = None) -> None:
        """Commit records, and tell brokers (all, unless `to` names some)."""
        for record in records:
            self._add(record)
        for id in self.members if to is None else to:
            self.tell(id)

    def tell(self, id: int) -> None:
        """All that this broker has not applied yet."""
        member = self.members[id]
        first = member.core.image.next_offset
        if first < self.offset and member.core.has_image:
            member.hears(
                COORDINATOR,
                bus.MetadataDelta(first, self.offset),
                r.encode_all(self.records[first:]),
            )

    def create(self, replicas: list[int], *, isr: list[int] | None = None, **configs: str) -> None:
        self.state = r.PartitionChanged(TOPIC_ID, 0, replicas, isr or replicas, replicas[0], 0, 0)
        configured = [
            r.ConfigChanged(2, "orders", name.replace("_", "."), value)
            for name, value in configs.items()
        ]
        self.dictate(*configured, r.TopicCreated("orders", TOPIC_ID), self.state)

    def change(self, *, to: Iterable[int] | None = None, **fields: Any) -> None:
        """A new state of the partition: a new leader means a new leader epoch."""
        state = self.state
        assert state is not None
        values = {
            "replicas": state.replicas,
            "isr": state.isr,
            "leader": state.leader,
            "leader_epoch": state.leader_epoch + ("leader" in fields),
            "partition_epoch": state.partition_epoch + 1,
            **fields,
        }
        self.state = r.PartitionChanged(TOPIC_ID, 0, **values)
        self.dictate(self.state, to=to)

    # --- the bus --------------------------------------------------------------------------

    def deliver(self, drop: Callable[[int, int, bus.Message], bool] | None = None) -> int:
        """Pass on all messages, and those that they cause; how many. `drop` loses some."""
        count = 0
        while self.wires:
            assert count < 10_000, "the brokers never fall silent"
            source, target, envelope, payload = self.wires.pop(0)
            self._pass_on(source, target, envelope, payload, drop)
            count += 1
        return count

    def _pass_on(
        self, source: int, target: int, envelope: bytes, payload: list[bytes], drop: Any
    ) -> None:
        decoded = bus.decode(envelope)
        if drop is not None and drop(source, target, decoded.message):
            return
        member = self.members.get(target)
        if member is not None:
            member.run(Received(source, decoded.source_epoch, decoded.message, payload))

    def waiting(self, kind: type[Any]) -> list[Any]:
        """Messages of a kind that are under way."""
        messages = (bus.decode(envelope).message for _, _, envelope, _ in self.wires)
        return [message for message in messages if isinstance(message, kind)]

    def wait(self, ms: int, *, deliver: bool = True) -> None:
        """Let time pass, ringing timers in order; messages pass unless told otherwise."""
        end = self.now_ms + ms
        while True:
            due = [
                m.timers[0] + (m,)
                for m in self.members.values()
                if m.timers and m.timers[0][0] <= end
            ]
            if not due:
                break
            at, _, _, member = min(due, key=lambda entry: entry[:2])
            self.now_ms = max(self.now_ms, at)
            _, _, timer = heapq.heappop(member.timers)
            member.run(timer)
            if deliver:
                self.deliver()
        self.now_ms = end


# --- requests -----------------------------------------------------------------------------


def batch(*values: bytes, **options: Any) -> bytes:
    records = [Record(value=value, timestamp=1_700_000_000_000) for value in values]
    return bytes(build_batch(records, **options))


def produce(
    *values: bytes, acks: int = -1, data: bytes | None = None, timeout_ms: int = 30_000
) -> ProduceRequest:
    records = data if data is not None else batch(*values)
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[
            TopicProduceData(
                name="orders", partition_data=[PartitionProduceData(index=0, records=records)]
            )
        ],
    )


def fetch(
    offset: int,
    *,
    min_bytes: int = 1,
    max_wait_ms: int = 500,
    max_bytes: int = 1 << 20,
    **more: Any,
) -> FetchRequest:
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        topics=[
            FetchTopic(
                topic="orders",
                topic_id=TOPIC_ID,
                partitions=[
                    FetchPartition(
                        partition=0, fetch_offset=offset, partition_max_bytes=max_bytes, **more
                    )
                ],
            )
        ],
    )


def produced(response: Any) -> Any:
    return response.responses[0].partition_responses[0]


def fetched(response: Any) -> Any:
    return response.responses[0].partitions[0]


def values_of(data: Any) -> list[Any]:
    view = memoryview(bytes(data))
    return [
        record
        for position, header in batches_in(view)
        for record in read_records(view[position : position + header.size])
    ]
