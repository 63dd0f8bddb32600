"""Looks into the cores after every turn and tells the ledger what the turn touched.

The only place that knows where a core keeps what the invariants are about. Reads, never writes.
A replica whose few numbers are as they were is passed over, so that a turn costs what it did.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from kcluster.check.invariants import Ledger
from kcluster.check.seen import BatchSeen, RecordSeen, ReplicaSeen, require
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Event, Received, StoodStill
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.sim.clients import SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.process import Process
from kcluster.wire import bus
from kcluster.wire.message import Message
from kcluster.wire.messages.fetch import FetchRequest
from kcluster.wire.messages.produce import ProduceRequest
from kcluster.wire.records import Record, batches, read_header, read_records


class Watch:
    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.ledger = Ledger()
        self._replicas: dict[tuple[int, TopicPartition], ReplicaSeen] = {}
        self._states: dict[TopicPartition, r.PartitionChanged] = {}
        self._images: dict[int, int] = {}
        self._controller = 0
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
            self._look_at_controller(process)
        else:
            self._look_at_broker(process)

    def _ended(self, process: Process, reason: str) -> None:
        self.ledger.running.pop(process.id, None)
        self._unsure.pop(process.id, None)
        self._images.pop(process.id, None)
        for key in [key for key in self._replicas if key[0] == process.id]:
            del self._replicas[key]

    def _look_at_broker(self, process: Process) -> None:
        core: Any = process.core
        self.ledger.running[process.id] = process.incarnation
        for tp, replica in core.replicas.items():
            seen = replica_seen(process, tp, replica)
            if seen is None or self._replicas.get((process.id, tp)) == seen:
                continue
            self._replicas[process.id, tp] = seen
            log = replica.log
            self.ledger.replica(seen, lambda start, end, log=log: batches_of(log, start, end))  # type: ignore[misc]
        self._look_at_image(process, core.image)

    def _look_at_image(self, process: Process, image: ClusterImage) -> None:
        if self._images.get(process.id) == image.next_offset:
            return
        self._images[process.id] = image.next_offset
        digest = zlib.crc32(r.encode_all(image.records()))
        self.ledger.image(f"process {process.id}", image.next_offset, digest)

    def _look_at_controller(self, process: Process) -> None:
        core: Any = process.core
        image: ClusterImage = core.image
        if self._controller != process.incarnation:
            self._controller = process.incarnation
            self._states.clear()
            self.ledger.controller_restarted()
        if core.log.committed_offset:
            self._look_at_image(process, core.log.image)
        alive = frozenset(broker.id for broker in image.alive())
        self.ledger.registered = {id: broker.incarnation for id, broker in image.brokers.items()}
        for topic in image.topics.values():
            for index, state in topic.partitions.items():
                tp = TopicPartition(topic.name, index)
                if self._states.get(tp) is not state:
                    self._states[tp] = state
                    self.ledger.partition_state(tp, state, alive)

    # --- clients --------------------------------------------------------------------------

    def _leaving(self, request: Message, response: Any) -> None:
        """Of the process whose turn has just ended."""
        if isinstance(request, ProduceRequest):
            topic = request.topic_data[0]
            tp = TopicPartition(topic.name, topic.partition_data[0].index)
            told = response.responses[0].partition_responses[0]
            records = topic.partition_data[0].records
            if told.error_code != ErrorCode.NONE or records is None:
                return
            self._sure()
            if request.acks == -1 and told.base_offset >= 0:
                count = sum(header.record_count for _, header in batches(memoryview(records)))
                self.ledger.acknowledged(tp, told.base_offset, count, topic.topic_id)
        elif isinstance(request, FetchRequest) and response.responses:
            wanted = request.topics[0]
            tp = TopicPartition(wanted.topic, wanted.partitions[0].partition)
            told = response.responses[0].partitions[0]
            if told.error_code == ErrorCode.NONE and told.records:
                self._sure()
                truth = self.ledger.named(tp, wanted.topic_id)
                has_keys = truth is not None and truth.compacted is not None
                seen = _seen(memoryview(bytes(told.records)), has_keys)
                self.ledger.consumed(tp, seen, wanted.topic_id)

    def _sure(self) -> None:
        require(
            self._at not in self._unsure, 19, "who stood still asks before it serves",
            f"process {self._at} has not heard whether its broker epoch holds",
        )  # fmt: skip


def replica_seen(process: Process, tp: TopicPartition, replica: Any) -> ReplicaSeen | None:
    """None for one that is offline."""
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
        is_compacted=log.config.is_compacted,
        compactions=log.compactions,
    )


def batches_of(log: Any, start: int, end: int) -> Iterator[BatchSeen]:
    """Of the log between two offsets, from the file."""
    while start < end:
        data, _ = log.read_bytes(start, 1 << 20, end)
        if not data and log.config.is_compacted:
            # A high watermark of long ago may lie inside what has become one empty batch.
            data, _ = log.read_bytes(start, 1, log.written_end)
            first = read_header(data)
            is_beyond = not first.record_count and first.base_offset <= start < end
            require(
                is_beyond and first.last_offset >= end, 15, "offsets without holes",
                f"nothing from {start} to {end} in {log.tp}",
            )  # fmt: skip
            return
        require(bool(data), 15, "offsets without holes", f"nothing at {start} in {log.tp}")
        for batch in _seen(memoryview(data), log.config.is_compacted):
            if batch.last_offset >= start:
                yield batch
            start = max(start, batch.last_offset + 1)


def _seen(data: memoryview, has_keys: bool) -> Iterator[BatchSeen]:
    """With their records where these are what is compared."""
    for position, header in batches(data):
        whole = data[position : position + header.size]
        yield BatchSeen(
            header.base_offset,
            header.last_offset,
            header.leader_epoch,
            zlib.crc32(whole),
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            tuple(record_seen(record) for record in read_records(whole)) if has_keys else (),
        )


def record_seen(record: Record) -> RecordSeen:
    parts = (record.timestamp, record.value, list(record.headers))
    digest = zlib.crc32(repr(parts).encode())
    return RecordSeen(record.offset, record.key, digest, record.value is None)
