"""Reads of a log: where batches are, as spans of files or as bytes, and which record a timestamp
means.

A read at the tail touches no file: both of its ends are remembered batch starts. Elsewhere an
index entry and one walk over at most `index.interval.bytes` find an end.

Functions over a PartitionLog, which is their only caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from kcluster.core.log.scan import Header
from kcluster.core.log.segment import Segment
from kcluster.core.turn import Span
from kcluster.errors import ApiError, CorruptLogError, ErrorCode, RemoteProtocolError
from kcluster.wire import record_walk
from kcluster.wire import records as wire_records
from kcluster.wire.records import LENGTH_OVERHEAD, Record

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog

REPLAY_BYTES = 1 << 20


class ReadResult(NamedTuple):
    spans: list[Span]
    """Whole batches, in order."""
    size: int
    """Bytes of all spans."""
    first_offset: int
    """Base offset of the first batch: at or below the offset that was asked for."""
    next_offset: int
    """Exclusive end: where to go on."""


def read(
    log: PartitionLog,
    offset: int,
    max_bytes: int,
    upto: int,
    at_least_one: bool,
    skips_empty: bool = False,
) -> ReadResult:
    if not log.log_start_offset <= offset <= log.log_end_offset:
        raise ApiError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{log.tp}: {offset} is not in {log.log_start_offset}..{log.log_end_offset}",
        )
    upto = min(upto, log.written_end)
    if offset >= upto:
        return ReadResult([], 0, offset, offset)
    try:
        return locate(log, offset, max_bytes, upto, at_least_one, skips_empty)
    except CorruptLogError as error:
        log.fail(str(error), is_damage=True)
        raise


def locate(
    log: PartitionLog,
    offset: int,
    max_bytes: int,
    upto: int,
    at_least_one: bool,
    skips_empty: bool = False,
) -> ReadResult:
    """`read` within the log, and the log goes on after a CorruptLogError."""
    chain = log.chain
    spans: list[Span] = []
    total = 0
    has_skipped = False
    first_offset = next_offset = offset
    for number in range(chain.locate(offset), len(chain)):
        segment = chain.items[number]
        if segment.base_offset >= upto:
            break
        start, base_offset = segment.find(max(offset, segment.base_offset))
        end, end_offset = _end_of(segment, upto)
        if end <= start:
            break
        if skips_empty and not spans and start < segment.empties_end:
            # Skipped is not unseen: a flipped bit must not hide a record.
            behind, behind_offset = _behind_empty(segment, start, end)
            if behind > start:
                has_skipped = True
                if not segment.is_checked(start, behind):
                    segment.check(start, behind, base_offset, log.epochs)
                start, base_offset = behind, behind_offset
            if start == end:
                if end_offset < segment.end_offset:
                    break
                continue
        budget = max_bytes - total
        if end - start > budget:
            end, end_offset = segment.cut(start, start + max(budget, 0))
            if end - start > budget and (spans or not at_least_one):
                break
        if not segment.is_checked(start, end):
            segment.check(start, end, base_offset, log.epochs)
        if not spans:
            first_offset = base_offset
        spans.append(Span(segment.path, start, end - start))
        total += end - start
        next_offset = end_offset
        if total >= max_bytes or end_offset < segment.end_offset:
            # Cut short: what follows in the next segment is not what comes next.
            break
    if has_skipped and not spans:
        # Nothing but empty batches: they are what moves a reader's position.
        return locate(log, offset, max_bytes, upto, at_least_one)
    return ReadResult(spans, total, first_offset, next_offset)


def _behind_empty(segment: Segment, start: int, end: int) -> tuple[int, int]:
    """(position, base offset) of the first batch in [`start`, `end`) with records; (`end`, -1)
    when there is none."""
    for position, header in segment.headers(start, end):
        if header[12]:
            return position, header[0]
    return end, -1


def _end_of(segment: Segment, upto: int) -> tuple[int, int]:
    """(position, offset) of the last batch end at or before `upto`, which is written."""
    if upto >= segment.end_offset:
        return segment.written_size, segment.end_offset
    position, offset = segment.find(upto)
    if position == segment.written_size:
        # The written end: what is staged behind it is not in the file.
        return position, upto
    return position, offset


def read_bytes(log: PartitionLog, offset: int, max_bytes: int, upto: int) -> tuple[bytes, int]:
    result = read(log, offset, max_bytes, upto, True)
    parts = [log.files.read(span.path, span.position, span.size) for span in result.spans]
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) != result.size:
        log.fail(f"{result.size} bytes from {offset} on are no longer there", is_damage=True)
        raise CorruptLogError(log.failure)
    return data, result.next_offset


def read_records(log: PartitionLog, offset: int, upto: int) -> Iterator[Record]:
    while offset < min(upto, log.written_end):
        data, following = read_bytes(log, offset, REPLAY_BYTES, upto)
        if following <= offset:
            return
        for position, _ in wire_records.batches(data):
            for record in wire_records.read_records(data, position):
                if offset <= record.offset < upto:
                    yield record
        offset = following


def verify_segment(log: PartitionLog, base_offset: int) -> None:
    for segment in log.chain:
        if segment.base_offset == base_offset and segment.unchecked_size:
            end = min(segment.unchecked_size, segment.written_size)
            try:
                segment.check(0, end, base_offset, log.epochs)
            except CorruptLogError as error:
                log.fail(str(error), is_damage=True)
                raise


def offset_for_timestamp(log: PartitionLog, timestamp: int) -> tuple[int, int, int] | None:
    for segment in log.chain:
        if segment.end_offset <= log.log_start_offset or not segment.written_size:
            continue
        if segment.largest_timestamp()[0] < timestamp:
            continue
        start, _ = segment.find(max(segment.older_below(timestamp), log.log_start_offset))
        for position, header in segment.headers(start, segment.written_size):
            if header[8] < timestamp or not header[12]:
                continue
            for offset, found in _times(log, segment, position, header):
                if found >= timestamp and offset >= log.log_start_offset:
                    return offset, found, header[2]
    return None


def max_timestamp(log: PartitionLog) -> tuple[int, int]:
    best, first = -1, -1
    bounds = sorted(
        (-segment.largest_timestamp()[0], segment.base_offset, segment)
        for segment in log.chain
        if segment.written_size and segment.end_offset > log.log_start_offset
    )
    for bound, _, segment in bounds:
        if bound >= 0 or -bound < best:
            break
        timestamp, offset = _largest_of(log, segment)
        if timestamp > best or (timestamp == best >= 0 and offset < first):
            best, first = timestamp, offset
    return first, best


def _largest_of(log: PartitionLog, segment: Segment) -> tuple[int, int]:
    """(timestamp, offset) of the first record with the largest timestamp of those of a segment
    that are not below the log start."""
    timestamp, offset = segment.largest_timestamp()
    at, _ = segment.find(offset)
    _, header = next(segment.headers(at, segment.written_size))
    if not header[12] or header[0] < log.log_start_offset:
        # Of what is gone: an empty batch keeps its age, a batch cut by the log start its youngest.
        found = _latest_batch(log, segment)
        if found is None:
            return -1, -1
        at, header, timestamp = found
    for record_offset, record_ms in _times(log, segment, at, header):
        if record_ms == timestamp and record_offset >= log.log_start_offset:
            return timestamp, record_offset
    # A header that lies about its records: the end of the batch stands for them.
    return timestamp, header[0] + header[6]


def _latest_batch(log: PartitionLog, segment: Segment) -> tuple[int, Header, int] | None:
    """(position, header, largest timestamp of what is left of it), by a walk; None for none."""
    found: tuple[int, Header, int] | None = None
    start, _ = segment.find(max(log.log_start_offset, segment.base_offset))
    for at, header in segment.headers(start, segment.written_size):
        timestamp = header[8] if header[12] else -1
        if header[12] and header[0] < log.log_start_offset:
            times = _times(log, segment, at, header)
            timestamp = max(
                (ms for offset, ms in times if offset >= log.log_start_offset), default=-1
            )
        if timestamp >= 0 and (found is None or timestamp > found[2]):
            found = at, header, timestamp
    return found


def _times(
    log: PartitionLog, segment: Segment, position: int, header: Header
) -> Iterator[tuple[int, int]]:
    """(offset, timestamp) of the records of one batch; no more of them when they cannot be read,
    which is their producer's fault and no damage: the CRC of what he sent holds."""
    size = header[1] + LENGTH_OVERHEAD
    end = position + size
    if not segment.is_checked(position, end):
        try:
            segment.check(position, end, header[0], log.epochs)
        except CorruptLogError as error:
            log.fail(str(error), is_damage=True)
            raise
    data = log.files.read(segment.path, position, size)
    with suppress(RemoteProtocolError):
        yield from record_walk.times(header, data)
