"""What a replica holds, batch by batch: read from its files, or fetched from its broker.

    files   <log directory>/<topic>-<partition>/*.log, from the first segment on: Kafka's layout
    Fetch   to the replica itself: Kafka serves consumers from followers (KIP-392) when they ask
            with version 11 or higher

Both end at the offset they are given, exclusive. Nothing is believed: CRCs are computed, and
offsets follow each other without a gap.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kcluster.chaos.reach import Asker
from kcluster.core.client.consumer import FETCH_VERSION
from kcluster.core.log.scan import checked_batches
from kcluster.core.turn import Volume
from kcluster.errors import CorruptLogError, ErrorCode, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from kcluster.wire.records import LENGTH_OVERHEAD, Buffer, batches, check_crc

FETCH_BYTES: Final = 1 << 20
FETCH_MS: Final = 10_000
BEHIND_S: Final = 15.0
"""How long a follower may take to hear of the high watermark, or not to answer."""
AGAIN_S: Final = 0.05


class Unreadable(Exception):
    """This replica cannot be read from here; why."""


class Batch(NamedTuple):
    base_offset: int
    last_offset: int
    """Inclusive."""
    leader_epoch: int
    crc: int
    """Of all the rest of it: two batches that agree in these four are the same bytes."""
    read: Callable[[], Buffer]
    """The whole batch."""


# --- files ----------------------------------------------------------------------------------


class _Segment:
    """One file, to be read only: `core.turn.Files` of nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._fd)

    def read(self, path: str, position: int, size: int) -> bytes:
        return os.pread(self._fd, size, position)

    def size(self, path: str) -> int:
        return os.fstat(self._fd).st_size

    def list(self, directory: str) -> list[str]:
        return [self._path.name]

    def volume(self) -> Volume:
        return Volume(str(self._path), -1, -1)


def from_files(directory: Path, end_offset: int | None) -> Iterator[Batch]:
    """All batches of a partition's directory that begin below `end_offset` (None: all). None for
    one that is missing. Raises CorruptLogError at the first that is damaged."""
    expected = -1
    for path in sorted(directory.glob("*.log")):
        if not path.stem.isdecimal():
            continue
        base_offset = int(path.stem)
        if end_offset is not None and base_offset >= end_offset:
            return
        if expected not in (-1, base_offset):
            raise CorruptLogError(f"{path}: the segment before it ends at {expected}")
        try:
            segment = _Segment(path)
        except FileNotFoundError:
            continue  # retention took it meanwhile
        expected = base_offset
        span = 0, segment.size("")
        for position, header in checked_batches(segment, str(path), span, base_offset):
            expected = header[0] + header[6] + 1

            def read(
                segment: _Segment = segment,
                position: int = position,
                size: int = header[1] + LENGTH_OVERHEAD,
            ) -> Buffer:
                return segment.read("", position, size)

            yield Batch(header[0], expected - 1, header[2], header[4], read)
            # What lies behind may be half written at this moment.
            if end_offset is not None and expected >= end_offset:
                return


# --- Fetch ----------------------------------------------------------------------------------


def from_broker(
    asker: Asker,
    broker: int,
    tp: TopicPartition,
    begin_offset: int,
    end_offset: int,
    behind_s: float = BEHIND_S,
) -> Iterator[Batch]:
    """From one broker's replica, leader or not. Raises Unreadable when it does not give it, or
    nothing new comes for `behind_s`."""
    offset = begin_offset
    deadline = time.monotonic() + behind_s
    while offset < end_offset:
        data = _fetch(asker, broker, tp, offset)
        code = ErrorCode.REQUEST_TIMED_OUT if data is None else ErrorCode(data.error_code)
        before = offset
        if data is not None and not code and data.records:
            for batch in _batches(tp, broker, data.records):
                if batch.last_offset >= offset:
                    yield batch
                    offset = batch.last_offset + 1
                    if offset >= end_offset:
                        return
        if offset > before:
            deadline = time.monotonic() + behind_s
        elif code in _REFUSALS:
            raise Unreadable(f"its broker does not serve it to consumers ({code.name})")
        elif time.monotonic() > deadline:
            raise Unreadable(f"broker {broker} gave {tp} up to {offset} only ({code.name})")
        else:
            time.sleep(AGAIN_S)


_REFUSALS: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    }
)


def _fetch(asker: Asker, broker: int, tp: TopicPartition, offset: int) -> PartitionData | None:
    wanted = FetchPartition(
        partition=tp.partition, fetch_offset=offset, partition_max_bytes=FETCH_BYTES
    )
    request = FetchRequest(
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=FETCH_BYTES,
        topics=[FetchTopic(topic=tp.topic, partitions=[wanted])],
    )
    answer = asker.ask(broker, request, FETCH_VERSION, FetchResponse, FETCH_MS)
    if answer is None or answer.error_code or not answer.responses:
        return None
    data: PartitionData = answer.responses[0].partitions[0]
    return data


def _batches(tp: TopicPartition, broker: int, records: Buffer) -> Iterator[Batch]:
    view = memoryview(records)
    try:
        for position, header in batches(view):
            content = view[position : position + header.size]
            if not check_crc(view, position, header.size):
                raise CorruptLogError(
                    f"broker {broker} served {tp}: CRC of the batch at {header.base_offset}"
                )
            yield Batch(
                header.base_offset,
                header.last_offset,
                header.leader_epoch,
                header.crc,
                lambda content=content: content,  # type: ignore[misc]
            )
    except RemoteProtocolError as error:
        raise CorruptLogError(f"broker {broker} served {tp}: {error}") from None
