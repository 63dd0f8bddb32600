"""The records of a batch where they lie: for a broker that has to look at keys.

A compacted topic is the one place where a broker looks into batches: a produced record must
have a key, and compaction keeps of each key the last record. Neither needs a `Record`: a walk
says where each record starts and ends, so that those that stay are copied as they are.

    varint length | attributes | varint timestamp delta | varint offset delta
    | varint key length, key | varint value length, value | headers

Bounds are those of `records.read_records`: what a batch says about itself is held against its
bytes, and RemoteProtocolError is raised where the two differ.

Sources: KIP-98 (records), KIP-534 (delete horizon), Kafka's MemoryRecords.filterTo and
DefaultRecordBatch.writeEmptyHeader.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from kcluster.config import LONG_MAX
from kcluster.errors import RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire import varint
from kcluster.wire.compression import Compression, compress, decompress
from kcluster.wire.records import (
    COMPRESSION_MASK,
    DELETE_HORIZON,
    HEADER,
    HEADER_BYTES,
    LEAST_RECORD_BYTES,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    LONG_MIN,
    MAGIC,
    NULL_LENGTH,
    Buffer,
    crc_of,
)

Header = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""As `HEADER` unpacks it."""

Walked = tuple[int, int, int, int, bytes | None, bool]
"""(start, end, timestamp delta, offset delta, key, whether it has a value) of one record; start
and end are positions in the body."""

NO_TIMESTAMP: Final = -1

_CRC: Final = struct.Struct(">I")
_CRC_AT: Final = 17


def body_of(header: Header, batch: Buffer, limit: int | None = None) -> bytes:
    """The records' bytes of `batch`, which is whole, decompressed to `limit` bytes at most
    (`compression.limit_for` by default). Raises RemoteProtocolError."""
    codec = header[5] & COMPRESSION_MASK
    body = memoryview(batch)[HEADER_BYTES:]
    if codec:
        if codec > Compression.ZSTD:
            raise RemoteProtocolError(f"compression {codec} is not known")
        body = decompress(body, Compression(codec), limit)
    if not 0 <= header[12] * LEAST_RECORD_BYTES <= len(body):
        raise RemoteProtocolError(f"{header[12]} records in {len(body)} bytes")
    return bytes(body)


def walk(header: Header, body: bytes) -> list[Walked]:
    """All records of a batch, in order, their offset deltas rising within the batch's. Values
    are stepped over, and headers not looked at."""
    try:
        return list(_walk(header, body))
    except IndexError:
        raise RemoteProtocolError("a record is cut short") from None


def _walk(header: Header, body: bytes) -> Iterator[Walked]:
    last_delta, base_timestamp, count = header[6], header[7], header[12]
    if not LONG_MIN + 64 <= base_timestamp <= LONG_MAX - 64:
        raise RemoteProtocolError(f"a base timestamp of {base_timestamp}")
    read_signed = varint.read_signed
    read_signed_long = varint.read_signed_long
    size_of_all = len(body)
    before = -1
    start = 0
    for _ in range(count):
        # Varints of one byte are read in place: a call costs more than all the rest.
        size = body[start]
        if size < 0x80:
            size = size >> 1 ^ -(size & 1)
            at = start + 1
        else:
            size, at = read_signed(body, start)
        end = at + size
        if size < LEAST_RECORD_BYTES - 1 or end > size_of_all:
            raise RemoteProtocolError(f"a record of {size} bytes")
        timestamp = body[at + 1]
        if timestamp < 0x80:
            timestamp = timestamp >> 1 ^ -(timestamp & 1)
            at += 2
        else:
            timestamp, at = read_signed_long(body, at + 1)
            if not LONG_MIN <= base_timestamp + timestamp <= LONG_MAX:
                # No answer to ListOffsets could carry it.
                raise RemoteProtocolError("a record's timestamp has more than 64 bits")
        delta = body[at]
        if delta < 0x80:
            delta = delta >> 1 ^ -(delta & 1)
            at += 1
        else:
            delta, at = read_signed(body, at)
        if not before < delta <= last_delta:
            raise RemoteProtocolError(f"offset delta {delta} behind {before}, up to {last_delta}")
        before = delta
        length = body[at]
        key: bytes | None = None
        if length == NULL_LENGTH:
            at += 1
        else:
            if length < 0x80:
                length = length >> 1 ^ -(length & 1)
                at += 1
            else:
                length, at = read_signed(body, at)
            if length < 0 or at + length > end:
                raise RemoteProtocolError(f"a key of {length} bytes")
            key = body[at : at + length]
            at += length
        if at >= end:
            raise RemoteProtocolError("a record without a value's length")
        yield start, end, timestamp, delta, key, body[at] != NULL_LENGTH
        start = end
    if start != size_of_all:
        raise RemoteProtocolError("bytes behind the last record")


def look_into(header: Header, batch: Buffer) -> Iterator[Walked]:
    """The records of a batch one by one, for a broker that serves others meanwhile: of a
    compressed batch no more than LIMITS.decode_objects records and LIMITS.unpacked_batch_bytes,
    or as much as it could be uncompressed. Raises RemoteProtocolError, after some of them, too."""
    size = len(batch)
    count = header[12]
    if count > max(LIMITS.decode_objects, size // LEAST_RECORD_BYTES):
        raise RemoteProtocolError(f"{count} records in a batch of {size} bytes")
    body = body_of(header, batch, max(LIMITS.unpacked_batch_bytes, size))
    try:
        yield from _walk(header, body)
    except IndexError:
        raise RemoteProtocolError("a record is cut short") from None


def times(header: Header, batch: Buffer) -> Iterator[tuple[int, int]]:
    """(offset, timestamp in ms) of each record, under the bounds of `look_into`."""
    stamped = header[8] if header[5] & LOG_APPEND_TIME else None
    for _, _, timestamp, delta, _, _ in look_into(header, batch):
        yield header[0] + delta, header[7] + timestamp if stamped is None else stamped


def without_key(header: Header, batch: Buffer) -> list[int]:
    """Which records of a produced batch have no key, counted from 0. Raises RemoteProtocolError
    when they cannot be told, or are not as many as the batch says."""
    keyless: list[int] = []
    for index, record in enumerate(look_into(header, batch)):
        if record[3] != index:
            raise RemoteProtocolError("the offset deltas have gaps")
        if record[4] is None:
            keyless.append(index)
    return keyless


# --- writing --------------------------------------------------------------------------------


def empty_batch(
    base_offset: int,
    last_offset: int,
    leader_epoch: int,
    max_timestamp: int = NO_TIMESTAMP,
    *,
    attributes: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
) -> bytes:
    """A batch without records that stands for the offsets of those that are gone, both bounds
    inclusive. `producer` is (id, epoch, base sequence)."""
    header = (
        base_offset, HEADER_BYTES - LENGTH_OVERHEAD, leader_epoch, MAGIC, 0,
        attributes & LOG_APPEND_TIME, last_offset - base_offset, NO_TIMESTAMP, max_timestamp,
        *producer, 0,
    )  # fmt: skip
    return _sealed(header, b"")


def starts_empty_before(batch: Buffer, offset: int) -> bool:
    """Whether `batch` begins with an empty batch that begins before `offset`."""
    header: Header = HEADER.unpack_from(batch)
    return header[0] < offset and not header[12]


def start_empty_at(batch: Buffer, offset: int) -> bytes:
    """`batch` begins with an empty batch that holds `offset`: the same bytes with that one
    starting exactly there. What wrote there once is told by the rest of the log."""
    header: Header = HEADER.unpack_from(batch)
    last_offset = header[0] + header[6]
    assert header[12] == 0 and header[0] < offset <= last_offset
    cut = empty_batch(offset, last_offset, header[2], header[8], attributes=header[5])
    return cut + bytes(memoryview(batch)[header[1] + LENGTH_OVERHEAD :])


def with_records(
    header: Header, body: bytes, kept: Sequence[Walked], horizon_ms: int | None
) -> bytes:
    """The batch of `header` and `body` with the records `kept` only, in order and not none. Its
    offsets, epoch, producer and codec stay. `horizon_ms`, when given, is the time from which its
    tombstones may go: it takes the place of the base timestamp (KIP-534), and the records'
    timestamps are written relative to it, so that they stay what they were."""
    attributes, base_timestamp = header[5], header[7]
    shift = 0
    if horizon_ms is not None:
        shift = base_timestamp - horizon_ms
        attributes |= DELETE_HORIZON
        records = b"".join(_shifted(body, record, shift) for record in kept)
        base_timestamp = horizon_ms
    else:
        records = b"".join([body[start:end] for start, end, *_ in kept])
    max_timestamp = header[8]
    if not attributes & LOG_APPEND_TIME:
        max_timestamp = base_timestamp + shift + max(record[2] for record in kept)
    codec = attributes & COMPRESSION_MASK
    if codec:
        records = compress(records, Compression(codec))
    sealed = (
        header[0], HEADER_BYTES - LENGTH_OVERHEAD + len(records), header[2], MAGIC, 0, attributes,
        header[6], base_timestamp, max_timestamp, header[9], header[10], header[11], len(kept),
    )  # fmt: skip
    return _sealed(sealed, records)


def _shifted(body: bytes, record: Walked, shift: int) -> bytes:
    """The record with `shift` added to its timestamp delta."""
    start, end, timestamp, *_ = record
    _, at = varint.read_signed(body, start)
    _, behind = varint.read_signed_long(body, at + 1)
    rest = body[at : at + 1] + varint.signed(timestamp + shift) + body[behind:end]
    return varint.signed(len(rest)) + rest


def _sealed(header: Header, records: bytes) -> bytes:
    batch = bytearray(HEADER.pack(*header))
    batch += records
    _CRC.pack_into(batch, _CRC_AT, crc_of(batch, 0, len(batch)))
    return bytes(batch)
