"""Looks into the cores after every turn and tells the ledger what the turn touched.

The only place that knows where a core keeps what the invariants are about. Reads, never writes.
A replica whose few numbers are as they were is passed over, so that a turn costs what it did.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from kcluster.check.deletions import ANY_SIZE, Deletions
from kcluster.check.invariants import Ledger
from kcluster.check.seen import BatchSeen, Position, RecordSeen, ReplicaSeen, require
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Event, Received, StoodStill
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, ZERO_TOPIC_ID, TopicId, TopicPartition
from kcluster.sim.claims import Claims
from kcluster.sim.clients import SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.peek import peek
from kcluster.sim.process import Asked, Process
from kcluster.wire import bus
from kcluster.wire.message import Message
from kcluster.wire.messages.fetch import FetchRequest
from kcluster.wire.messages.produce import ProduceRequest
from kcluster.wire.records import Record, batches, read_header, read_records

COMPACTIONS_A_LOOK = 4
"""A compacted log is gone through anew after so many: what one has lost is missing later, too."""

BATCHES_KEPT = 1024
"""Of those looked at last: the same bytes come from every replica, and to every reader."""

UNKNOWN_TOPIC = TopicId(b"\xff" * 16)


class Watch:
    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.ledger = Ledger()
        self._claims = Claims(cluster, self.ledger.elections)
        self.deletions = Deletions()
        self.keyed_topics: set[str] = set()
        """Topics that may become compacted: what their records say is kept from the start."""
        self.answer_hooks: list[Callable[[int, Message, Any], None]] = []
        """Told (broker, request, response) of replies that leave."""
        self._replicas: dict[tuple[int, TopicPartition], ReplicaSeen] = {}
        self._stamps: dict[int, dict[Any, object]] = {}
        """By process, of each of its replicas."""
        self._states: dict[TopicPartition, r.PartitionChanged] = {}
        self._images: dict[int, int] = {}
        self._controller = 0
        self._alive: frozenset[int] = frozenset()
        """Brokers that were not fenced, after the controller's last turn."""
        self._at = 0
        """The process whose turn is looked at."""
        self._unsure: dict[int, int] = {}
        """The turn in which a process was told that it stood still; until it has an answer."""
        cluster.watchers.append(self._turned)
        cluster.ended_hooks.append(self._ended)

    def client(self, client: SimClient) -> None:
        client.leaving = self._leaving

    # --- processes ------------------------------------------------------------------------

    def _turned(self, process: Process, events: list[Event]) -> None:
        self._at = process.id
        self._claims.heard(process, events)
        for event in events:
            if isinstance(event, StoodStill):
                self._unsure[process.id] = process.turns
            elif (
                isinstance(event, Received)
                and isinstance(event.message, bus.HeartbeatReply)
                # Not in the turn of the news itself: that answers what was asked long ago.
                and self._unsure.get(process.id, process.turns) < process.turns
            ):
                del self._unsure[process.id]
        if process.id == COORDINATOR:
            self._look_at_controller(process, events)
        else:
            self._claims.broker(process, process.core, events)
            self._look_at_broker(process)

    def _ended(self, process: Process, reason: str) -> None:
        self.ledger.running.pop(process.id, None)
        self._claims.ended(process)
        self._unsure.pop(process.id, None)
        self._images.pop(process.id, None)
        for replica in self._stamps.pop(process.id, ()):
            self._replicas.pop((process.id, replica.tp), None)

    def _look_at_broker(self, process: Process) -> None:
        core: Any = process.core
        self.ledger.running[process.id] = process.incarnation
        if process.was_damaged:
            self.ledger.damaged.add(process.id)
        id = process.id
        stamps = self._stamps.setdefault(id, {})
        for tp, replica in core.replicas.items():
            stamp = stamp_of(replica)
            if stamps.get(replica) == stamp:
                continue
            if replica not in stamps:
                # Before what took the place of another is compared with what that one had.
                self._forget_gone(id, core, stamps)
            stamps[replica] = stamp
            if replica.state is None and not replica.offline:
                continue  # opened, and metadata has not said yet what it is
            key = id, tp
            is_keyed = tp.topic in self.keyed_topics
            is_first = key not in self._replicas
            seen = replica_seen(process, tp, replica, is_keyed=is_keyed, is_first=is_first)
            if seen is None:
                # What it held in the turn in which its log went offline, nobody looked at.
                before = self._replicas.pop(key, None)
                self.ledger.partition(bytes(replica.topic_id), tp).replicas.pop(id, None)
                if before is not None and replica.offline:
                    # But a consumer may have been told by it that the log begins further on: as in
                    # Kafka, a log start counts for readers before it is on any disk.
                    start = replica.log.log_start_offset
                    last = replace(before, log_start_offset=start, size_bytes=ANY_SIZE)
                    self._look_at_start(process, last)
                continue
            if self._replicas.get(key) != seen:
                self._replicas[key] = seen
                self._claims.replica(process, replica)
                log = replica.log
                self.ledger.replica(
                    seen,
                    lambda start, end, log=log, keys=seen.is_compacted: batches_of(  # type: ignore[misc]
                        log, start, end, has_keys=keys
                    ),
                )
            # Also when nothing but its place in the ISR has changed.
            self._look_at_start(process, seen)
        if len(stamps) > len(core.replicas):
            self._forget_gone(id, core, stamps)
        self._look_at_image(process, core.image)

    def _forget_gone(self, id: int, core: Any, stamps: dict[Any, object]) -> None:
        """Replicas that were deleted: one of the same name has nothing of theirs."""
        for replica in [each for each in stamps if core.replicas.get(each.tp) is not each]:
            del stamps[replica]
            self._replicas.pop((id, replica.tp), None)
            self.ledger.partition(bytes(replica.topic_id), replica.tp).replicas.pop(id, None)

    def _look_at_start(self, process: Process, seen: ReplicaSeen) -> None:
        truth = self.ledger.partition(seen.topic_id, seen.tp)
        state = truth.state
        self.deletions.start_moved(
            seen, truth.committed, process.wall_ms,
            is_counted_on=state is not None and process.id in (*state.isr, *state.elr),
            has_lost=process.restart == "lossy" or process.was_damaged,
        )  # fmt: skip

    def _look_at_image(self, process: Process, image: ClusterImage) -> None:
        if self._images.get(process.id) == image.next_offset:
            return
        self._images[process.id] = image.next_offset
        digest = zlib.crc32(r.encode_all(image.records()))
        self.ledger.image(f"process {process.id}", image.next_offset, digest)

    def _look_at_controller(self, process: Process, events: list[Event]) -> None:
        core: Any = process.core
        image: ClusterImage = core.image
        if self._controller != process.incarnation:
            self._controller = process.incarnation
            self._states.clear()
            self._alive = frozenset()
            self.ledger.controller_restarted()
        if core.log.committed_offset:
            self._look_at_image(process, core.log.image)
        alive = frozenset(broker.id for broker in image.alive())
        # Who joins an ISR may be fenced later in the same turn, and keep its place while the
        # cluster starts.
        was_alive, self._alive = self._alive, alive
        registered = self.ledger.registered
        self.ledger.registered = {id: broker.incarnation for id, broker in image.brokers.items()}
        before = dict(self._states)
        states = {
            TopicPartition(topic.name, index): state
            for topic in image.topics.values()
            for index, state in topic.partitions.items()
        }
        self._claims.controller(core, events, before, states, registered)
        for tp, state in states.items():
            if before.get(tp) is not state:
                self._states[tp] = state
                self.ledger.partition_state(tp, state, alive | was_alive)

    # --- what others ask ------------------------------------------------------------------

    def state(self, tp: TopicPartition) -> r.PartitionChanged | None:
        """The controller's, as of the last of its turns that changed it."""
        return self._states.get(tp)

    def topic_id(self, tp: TopicPartition) -> bytes:
        """Of the newest topic of that name that the controller knew."""
        state = self._states.get(tp)
        return bytes(state.topic_id) if state is not None else UNKNOWN_TOPIC

    def leads(self, broker: int) -> bool:
        """Whether the controller has it lead anything."""
        return any(state.leader == broker for state in self._states.values())

    def is_of_earlier_epoch(self, broker: int, tp: TopicPartition, offset: int) -> bool:
        """Whether what is committed at `offset` was not written by the role that a broker has."""
        core: Any = self.cluster.processes[broker].core
        replica = core.replicas.get(tp) if core is not None else None
        if replica is None or offset < 0:
            return False
        batch = self.ledger.partition(bytes(replica.topic_id), tp).at(offset)
        return batch is not None and batch.leader_epoch < replica.leader_epoch

    # --- clients --------------------------------------------------------------------------

    def _topic_id(self, tp: TopicPartition, topic_id: bytes) -> bytes:
        """Of the replica that answers; unknown when it is gone already."""
        if topic_id != ZERO_TOPIC_ID:
            return topic_id
        core: Any = self.cluster.processes[self._at].core
        replica = core.replicas.get(tp) if core is not None else None
        return bytes(replica.topic_id) if replica is not None else UNKNOWN_TOPIC

    def _leaving(self, request: Message, response: Any, which: Asked) -> None:
        """Of the process whose turn has just ended."""
        self._claims.answered(self._at, request, response, which)
        for hook in self.answer_hooks:
            hook(self._at, request, response)
        if isinstance(request, ProduceRequest):
            topic = request.topic_data[0]
            tp = TopicPartition(topic.name, topic.partition_data[0].index)
            told = response.responses[0].partition_responses[0]
            records = topic.partition_data[0].records
            if told.error_code != ErrorCode.NONE or records is None:
                return
            self._sure(which)
            if request.acks == -1 and told.base_offset >= 0:
                count = sum(header.record_count for _, header in batches(memoryview(records)))
                topic_id = self._topic_id(tp, topic.topic_id)
                self.ledger.acknowledged(tp, told.base_offset, count, topic_id)
        elif isinstance(request, FetchRequest) and response.responses:
            wanted = request.topics[0]
            tp = TopicPartition(wanted.topic, wanted.partitions[0].partition)
            told = response.responses[0].partitions[0]
            if told.error_code == ErrorCode.NONE and told.records:
                self._sure(which)
                topic_id = self._topic_id(tp, wanted.topic_id)
                truth = self.ledger.named(tp, topic_id)
                has_keys = truth is not None and truth.compacted is not None
                seen = list(_seen(memoryview(bytes(told.records)), has_keys))
                self.ledger.consumed(tp, seen, topic_id)

    def _sure(self, which: Asked) -> None:
        """What was asked before it stood still may be answered at once: the answer is right as of
        a moment when the request was under way."""
        is_new = which in self.cluster.processes[self._at].asked_since_gap
        require(
            self._at not in self._unsure or not is_new, 19, "who stood still asks before it serves",
            lambda: f"process {self._at} has not heard whether its broker epoch holds",
        )  # fmt: skip


def stamp_of(replica: Any) -> object:
    """Another one whenever what is seen of a replica may be: cheaper than to look."""
    log, leader = replica.log, replica.leader
    if log is None:
        return None
    return (
        replica.topic_id, replica.offline, replica.leader_epoch, log.log_start_offset,
        log.written_end, log.high_watermark, log.compactions, id(log.config), id(replica.state),
        None if leader is None else (id(leader), leader.isr, leader.maximal_isr),
    )  # fmt: skip


def replica_seen(
    process: Process,
    tp: TopicPartition,
    replica: Any,
    *,
    is_keyed: bool = False,
    is_first: bool = False,
) -> ReplicaSeen | None:
    """None for one that is offline. `is_keyed`: to be judged as one that is compacted; `is_first`:
    for the first time since its log was opened."""
    if replica.offline or replica.log is None or replica.state is None:
        return None
    log, leader = replica.log, replica.leader
    return ReplicaSeen(
        broker=process.id,
        incarnation=process.incarnation,
        tp=tp,
        topic_id=bytes(replica.topic_id),
        is_leader=leader is not None,
        leader_epoch=replica.leader_epoch,
        log_start_offset=log.log_start_offset,
        log_end_offset=log.written_end,
        high_watermark=log.high_watermark,
        isr=frozenset(leader.isr) if leader is not None else frozenset(),
        maximal_isr=frozenset(leader.maximal_isr) if leader is not None else frozenset(),
        min_isr=min(log.config.min_insync_replicas, len(replica.state.replicas)),
        is_compacted=is_keyed or log.config.is_compacted,
        compactions=log.compactions // COMPACTIONS_A_LOOK,
        size_bytes=log.size_bytes,
        flushed_end=log.flushed_end,
        partition_epoch=leader.partition_epoch if leader is not None else -1,
        positions=_positions(process.id, leader) if leader is not None else (),
        producers_end=_producers_end(log),
        producers=_last_offsets(log) if is_first else None,
        is_settled=not process.died_in_turn,
    )


def _positions(me: int, leader: Any) -> tuple[Position, ...]:
    return (
        Position(me, 0, leader.position, True),
        *(
            Position(id, follower.incarnation, follower.log_end, follower.stream is not None)
            for id, follower in leader.followers.items()
        ),
    )


def _producers_end(log: Any) -> int:
    """Producers are in the order of their last appends. What is staged is known, too, before it is
    written: who is killed in a turn may be seen like that."""
    producers = log.producers._producers
    end: int = producers[next(reversed(producers))].batches[-1][3] + 1 if producers else 0
    return end if end > log.log_end_offset else min(end, log.written_end)


def _last_offsets(log: Any) -> dict[int, int]:
    return {id: batches[-1][3] for id, (_, batches) in log.producers.view().items()}


def batches_of(
    log: Any, start: int, end: int, *, has_keys: bool | None = None
) -> Iterator[BatchSeen]:
    """Of the log between two offsets, from the file; `has_keys`: with their records."""
    if has_keys is None:
        has_keys = log.config.is_compacted
    while start < end:
        data = peek(log, start, 1 << 20, end)
        if not data and has_keys:
            # A high watermark of long ago may lie inside what has become one empty batch.
            data = peek(log, start, 1, log.written_end)
            first = read_header(data)
            is_beyond = not first.record_count and first.base_offset <= start < end
            require(
                is_beyond and first.last_offset >= end, 15, "offsets without holes",
                f"nothing from {start} to {end} in {log.tp}",
            )  # fmt: skip
            return
        require(bool(data), 15, "offsets without holes", f"nothing at {start} in {log.tp}")
        for batch in _seen(memoryview(data), has_keys):
            if batch.last_offset >= start:
                yield batch
            start = max(start, batch.last_offset + 1)


def _seen(data: memoryview, has_keys: bool) -> Iterator[BatchSeen]:
    """With their records where these are what is compared."""
    for position, header in batches(data):
        yield _batch_seen(bytes(data[position : position + header.size]), has_keys)


@functools.lru_cache(maxsize=BATCHES_KEPT)
def _batch_seen(whole: bytes, has_keys: bool) -> BatchSeen:
    header = read_header(whole)
    return BatchSeen(
        header.base_offset,
        header.last_offset,
        header.leader_epoch,
        zlib.crc32(whole),
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.max_timestamp,
        tuple(record_seen(record) for record in read_records(whole)) if has_keys else (),
    )


def record_seen(record: Record) -> RecordSeen:
    parts = (record.timestamp, record.value, list(record.headers))
    digest = zlib.crc32(repr(parts).encode())
    return RecordSeen(record.offset, record.key, digest, record.value is None)
