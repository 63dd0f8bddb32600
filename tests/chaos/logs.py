"""Replicas as a load's scan finds them: real segment files, made batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kcluster.chaos.judge import Judge, Replica, Verdict
from kcluster.chaos.ledger import OK, Stream
from kcluster.chaos.replicas import from_files
from kcluster.chaos.seen import Seen
from kcluster.chaos.workload import Workload
from kcluster.model import TopicPartition
from kcluster.wire.records import Record, build_batch

TP = TopicPartition("load", 0)

WORKLOAD = Workload("c0ffee00", "load", 1, 2, 60)
"""Two producers, one partition: streams 0 and 1."""


def values(*sends: tuple[int, int]) -> list[bytes]:
    """Of (stream, sequence)."""
    return [WORKLOAD.value(stream, sequence) for stream, sequence in sends]


def in_order(count: int, stream: int = 0) -> list[bytes]:
    return values(*((stream, sequence) for sequence in range(count)))


def write(
    directory: Path,
    contents: Iterable[bytes],
    *,
    base_offset: int = 0,
    epoch: int = 0,
    of_batch: int = 5,
    batches_of_segment: int = 4,
) -> Path:
    """A partition's directory with these values, one behind the other."""
    directory.mkdir(parents=True)
    left = list(contents)
    offset = base_offset
    while left:
        path = directory / f"{offset:020}.log"
        with path.open("wb") as file:
            for _ in range(batches_of_segment):
                records = [Record(value, b"k", timestamp=1) for value in left[:of_batch]]
                if records:
                    file.write(build_batch(records, base_offset=offset, leader_epoch=epoch))
                offset += len(records)
                left = left[of_batch:]
    return directory


def sent(*counts: int, outcome: int = OK, told_from: int | None = None) -> list[Stream]:
    """Streams with so many sends each, all with one outcome."""
    streams = [Stream() for _ in range(WORKLOAD.streams)]
    for stream, count in zip(streams, counts, strict=False):
        for _ in range(count):
            stream.send()
        stream.settle(0, count, outcome, -1 if told_from is None else told_from)
    return streams


def judged(
    streams: list[Stream],
    directories: dict[int, Path],
    *,
    acks: int = -1,
    begin: int = 0,
    log_start: int = 0,
    end: int | None = None,
    out_of_sync: Iterable[int] = (),
    seen: Seen | None = None,
    is_drained: bool = False,
) -> tuple[Verdict, list[Replica]]:
    judge = Judge(WORKLOAD, streams, acks)
    replicas = [
        Replica(broker, from_files(directory, end), broker not in out_of_sync)
        for broker, directory in directories.items()
    ]
    judge.partition(TP, begin, log_start, replicas, seen, is_drained=is_drained)
    return judge.verdict, replicas
