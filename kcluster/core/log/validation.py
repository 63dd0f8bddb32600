"""What a produced record batch must be to be appended: decided by its header and its CRC.

Records are not walked: on the hot path one struct call looks at the header, and what it claims
is held against itself and the size. A producer that lies about single records inside a batch
with a good CRC harms those who read them, not the log. Compressed batches are not decompressed. The
records of a compacted topic are looked at (`check_keys`): each must have a key.

The order is safety.md's: size and length, magic, CRC before anything else is believed, then who
it pretends to be, counts, timestamps. Error codes are those of Kafka's LogValidator,
ProduceRequest and UnifiedLog.
"""

from __future__ import annotations

from typing import Final

from fastcrc import crc32

from kcluster.config import LONG_MAX, LogConfig
from kcluster.core.log.scan import Header
from kcluster.errors import ApiError, ErrorCode, InvalidRecords, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.record_walk import without_key
from kcluster.wire.records import (
    COMPRESSION_MASK,
    CONTROL,
    CRC_START,
    DELETE_HORIZON,
    HEADER,
    HEADER_BYTES,
    LEAST_RECORD_BYTES,
    LENGTH_OVERHEAD,
    LOG_APPEND_TIME,
    MAGIC,
    TRANSACTIONAL,
)

ZSTD: Final = 4
NO_PRODUCER: Final = -1
_PLAIN: Final = COMPRESSION_MASK | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON
"""None of these bits: an uncompressed batch of records, as most are."""


def validate(batch: memoryview, config: LogConfig, wall_ms: int) -> Header:
    """The header of `batch`, exactly one batch that may be appended. Raises ApiError."""
    size = len(batch)
    if size < HEADER_BYTES:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, f"a record batch of {size} bytes")
    header: Header = HEADER.unpack_from(batch)
    (
        base_offset, length, _, magic, crc, attributes, last_offset_delta, base_timestamp,
        max_timestamp, producer_id, producer_epoch, base_sequence, record_count,
    ) = header  # fmt: skip
    if length + LENGTH_OVERHEAD != size:
        _refuse_length(length, size)
    if magic != MAGIC:
        # The layout of magic 0 and 1 is another one; they were replaced in 2017 (KIP-724).
        code = ErrorCode.INVALID_RECORD if magic in (0, 1) else ErrorCode.CORRUPT_MESSAGE
        raise ApiError(code, f"a record batch of magic {magic}")
    if size > config.max_message_bytes:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"a record batch of {size} bytes, max.message.bytes is {config.max_message_bytes}",
        )
    if crc32.iscsi(batch[CRC_START:]) != crc:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, "the CRC of a record batch does not match")
    if attributes & _PLAIN:
        _check_attributes(attributes)
    if base_offset:
        raise ApiError(ErrorCode.INVALID_RECORD, f"base offset {base_offset}, not 0")
    if record_count <= 0 or last_offset_delta != record_count - 1:
        raise ApiError(
            ErrorCode.INVALID_RECORD,
            f"{record_count} records with a last offset delta of {last_offset_delta}",
        )
    if (
        record_count * LEAST_RECORD_BYTES > size - HEADER_BYTES
        and not attributes & COMPRESSION_MASK
    ):
        raise ApiError(
            ErrorCode.INVALID_RECORD, f"{record_count} records in {size - HEADER_BYTES} bytes"
        )
    if producer_id != NO_PRODUCER and (producer_id < 0 or producer_epoch < 0 or base_sequence < 0):
        raise ApiError(
            ErrorCode.INVALID_RECORD,
            f"producer {producer_id}, epoch {producer_epoch}, sequence {base_sequence}",
        )
    if not config.is_log_append_time:
        _check_timestamps(base_timestamp, max_timestamp, wall_ms, config)
    return header


def check_keys(batch: memoryview, header: Header, tp: TopicPartition) -> None:
    """Raises InvalidRecords when a record of a produced batch has no key, or when its records
    cannot be read: compaction would not know what to do with them. One refuses the batch."""
    try:
        keyless = without_key(header, batch)
    except RemoteProtocolError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from None
    if keyless:
        what = f"Compacted topic cannot accept message without key in topic partition {tp}."
        raise InvalidRecords([(index, what) for index in keyless])


def _refuse_length(length: int, size: int) -> None:
    claimed = length + LENGTH_OVERHEAD
    if HEADER_BYTES <= claimed < size:
        # KIP-98: a Produce request carries one batch for each partition.
        raise ApiError(ErrorCode.INVALID_RECORD, "more than one record batch")
    raise ApiError(ErrorCode.CORRUPT_MESSAGE, f"a batch of {claimed} bytes in {size} bytes")


def _check_attributes(attributes: int) -> None:
    if attributes & CONTROL:
        raise ApiError(ErrorCode.INVALID_RECORD, "clients may not write control batches")
    if attributes & TRANSACTIONAL:
        raise ApiError(ErrorCode.INVALID_TXN_STATE, "there is no transaction")
    if attributes & LOG_APPEND_TIME:
        raise ApiError(ErrorCode.INVALID_TIMESTAMP, "a producer may not stamp LogAppendTime")
    if attributes & DELETE_HORIZON:
        raise ApiError(ErrorCode.INVALID_RECORD, "only compaction sets a delete horizon")
    if attributes & COMPRESSION_MASK > ZSTD:
        raise ApiError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"codec {attributes & COMPRESSION_MASK}"
        )


def _check_timestamps(base: int, largest: int, wall_ms: int, config: LogConfig) -> None:
    """Of the first record and the largest; -1 is none (KIP-32, KIP-937)."""
    before_max_ms = config.timestamp_before_max_ms
    if (
        base < -1
        or largest < base
        or largest - wall_ms > config.timestamp_after_max_ms
        or (before_max_ms < LONG_MAX and 0 <= base < wall_ms - before_max_ms)
    ):
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamps from {base} to {largest} at {wall_ms}: outside of what"
            " message.timestamp.before.max.ms and message.timestamp.after.max.ms allow",
        )
