"""Bugs of logs and of what they serve, put back: producers, failed writes, reads, compaction."""

from __future__ import annotations

from typing import Any

from kcluster.core.broker.broker import BrokerCore
from kcluster.core.broker.controller_channel import ControllerChannel
from kcluster.core.broker.handlers import produce
from kcluster.core.log import cutting, reading
from kcluster.core.log.compaction import plan
from kcluster.core.log.partition_log import PartitionLog
from kcluster.core.log.producers import Producers
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.sim.mutant import Mutant, Patch, always, by_name, patch
from kcluster.wire.records import HEADER


def _acks_what_is_written(was: Any) -> Any:
    def append(broker: Any, replica: Any, data: Any, part: Any, acks: int, *rest: Any) -> Any:
        return was(broker, replica, data, part, 1 if acks == -1 else acks, *rest)

    return append


def _answers_copies_at_once(was: Any) -> Any:
    def append(broker: Any, replica: Any, data: Any, part: Any, acks: int, version: int,
               delayed: Any, turn: Any) -> Any:  # fmt: skip
        before = replica.log.log_end_offset, delayed.open if delayed is not None else 0
        was(broker, replica, data, part, acks, version, delayed, turn)
        if replica.log.log_end_offset == before[0] and delayed is not None:
            for index in range(before[1], delayed.open):
                delayed.parts[index - delayed.open] = None
            delayed.open = before[1]

    return append


def _refuses_afterwards(was: Any) -> Any:
    def append(broker: Any, replica: Any, data: Any, part: Any, acks: int, *rest: Any) -> Any:
        leader = replica.leader
        if acks != produce.ALL or leader is None or leader.has_enough_replicas:
            return was(broker, replica, data, part, acks, *rest)
        was(broker, replica, data, part, 0, rest[0], None, *rest[2:])
        raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)

    return append


def _takes_a_torn_snapshot_for_an_empty_one(was: Any) -> Any:
    def decode(cls: Any, data: bytes, *rest: Any) -> Any:
        try:
            return was.__func__(cls, data, *rest)
        except CorruptLogError:
            return cls(*rest)

    return classmethod(decode)


_STAGING: list[Any] = []
"""Headers and base offsets of the batches that are being staged."""


def _notes_what_it_stages(was: Any) -> Any:
    _STAGING.clear()

    def stage(self: Any, turn: Any, batch: Any, *rest: Any) -> Any:
        _STAGING.append((HEADER.unpack_from(batch), self.log_end_offset))
        try:
            return was(self, turn, batch, *rest)
        finally:
            _STAGING.pop()

    return stage


def _snapshots_the_batch_that_rolls(was: Any) -> Any:
    def take_snapshot(self: Any, turn: Any) -> Any:
        before = self.producers
        self.producers = Producers.decode(before.encode())
        for header, base_offset in _STAGING:
            if header[9] >= 0:
                self.producers.update(header, base_offset, header[8])
        was(self, turn)
        self.producers = before

    return take_snapshot


def _goes_on_after_an_error(was: Any) -> Any:
    def fail(self: Any, failure: str, *rest: Any, **options: Any) -> Any:
        return None if failure.startswith("write to") else was(self, failure, *rest, **options)

    return fail


def _keeps_the_bytes(was: Any) -> Any:
    def undo_staged(log: Any, turn: Any) -> None:
        log.log_end_offset = log.written_end

    return undo_staged


def _covers_what_came_meanwhile(was: Any) -> Any:
    def synced(self: Any, event: Any) -> Any:
        moved = was(self, event)
        if moved:
            self.flushed_end = self.written_end
        return moved

    return synced


def _reads_sealed_segments_to_their_end(was: Any) -> Any:
    def read(self: Any, offset: int, max_bytes: int, upto: int, *rest: Any, **options: Any) -> Any:
        segment = self.chain.items[self.chain.locate(max(upto - 1, offset))]
        if segment is not self.chain.active:
            upto = max(upto, segment.end_offset)
        return was(self, offset, max_bytes, upto, *rest, **options)

    return read


def _gives_no_more_than_asked(was: Any) -> Any:
    def read(self: Any, offset: int, max_bytes: int, upto: int, at_least_one: bool = True,
             **options: Any) -> Any:  # fmt: skip
        result = was(self, offset, max_bytes, upto, at_least_one, **options)
        if result.size > max_bytes:
            return reading.ReadResult([], 0, offset, offset)
        return result

    return read


def _compacts_what_is_not_committed(was: Any) -> Any:
    def plan_beyond(log: Any, turn: Any) -> Any:
        high_watermark = log.high_watermark
        log.high_watermark = log.written_end
        try:
            return was(log, turn)
        finally:
            log.high_watermark = high_watermark

    return plan_beyond


LOG_MUTANTS = by_name(
    Mutant(
        "followers-know-no-producers",
        "a follower does not keep what producers sent, so that the next leader takes copies",
        "14", (), patch(PartitionLog, "replay_producer", always(None)),
    ),
    Mutant(
        "believes-a-torn-snapshot",
        "a producer snapshot that a power cut has torn is taken for an empty one",
        "14", ("KAFKA-9892",),
        patch(Producers, "decode", _takes_a_torn_snapshot_for_an_empty_one),
    ),
    Mutant(
        "snapshot-of-what-is-to-come",
        "the producer snapshot of a roll already has the batch that comes behind it",
        "14", ("KAFKA-6683",),
        (
            Patch(PartitionLog, "_stage", _notes_what_it_stages),
            Patch(PartitionLog, "take_snapshot", _snapshots_the_batch_that_rolls),
        ),
    ),
    Mutant(
        "truncation-keeps-producers",
        "what was truncated is still known of its producers",
        "14", ("KAFKA-12153",), patch(Producers, "reaches", always(False)),
    ),
    Mutant(
        "acks-all-at-write",
        "acks=all is answered when the leader has written",
        "15", (), patch(produce, "_append", _acks_what_is_written),
    ),
    Mutant(
        "appends-after-an-error",
        "a log takes appends after a write to it has failed",
        "15, rule 1", ("KAFKA-10778",), patch(PartitionLog, "fail", _goes_on_after_an_error),
    ),
    Mutant(
        "gives-offsets-twice",
        "the bytes of a failed append stay in the file, and its offsets are given again",
        "15", ("KAFKA-7866",),
        (
            Patch(PartitionLog, "fail", _goes_on_after_an_error),
            Patch(cutting, "undo_staged", _keeps_the_bytes),
        ),
    ),
    Mutant(
        "copies-do-not-wait",
        "a copy of an idempotent batch is answered before its original is committed",
        "15, rule 5", (), patch(produce, "_append", _answers_copies_at_once),
    ),
    Mutant(
        "refuses-after-the-append",
        "NOT_ENOUGH_REPLICAS is said of what is in the log",
        "6, rule 12", (), patch(produce, "_append", _refuses_afterwards),
    ),
    Mutant(
        "reads-to-the-end-of-a-segment",
        "consumers read a segment that was rolled to its end, above the high watermark",
        "16", ("KAFKA-9196",), patch(PartitionLog, "read", _reads_sealed_segments_to_their_end),
    ),
    Mutant(
        "gives-no-more-than-asked",
        "a fetch whose limit is smaller than the next batch returns nothing",
        "rule 11", (), patch(PartitionLog, "read", _gives_no_more_than_asked),
    ),
    Mutant(
        "compacts-above-high-watermark",
        "compaction takes records for superseded by what is not committed",
        "3, 16", (), patch(plan, "plan", _compacts_what_is_not_committed),
    ),
    Mutant(
        "sync-covers-too-much",
        "a sync that returns counts for what was written after it had begun",
        "18", (), patch(PartitionLog, "synced", _covers_what_came_meanwhile),
    ),
    Mutant(
        "serves-after-standing-still",
        "a broker that stood still for longer than its session serves before it asks",
        "19", ("etcd #20418",), patch(ControllerChannel, "stood_still", always(None)),
    ),
    Mutant(
        "names-the-dead",
        "Metadata is not held for the election, and names a leader that is known to be dead",
        "rule 9", (),
        (
            Patch(BrokerCore, "is_dead", always(False)),
            Patch(BrokerCore, "has_dead", always(False)),
        ),
    ),
)  # fmt: skip
