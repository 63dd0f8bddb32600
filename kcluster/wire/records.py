"""Record batches of magic 2: the bytes that producers send, logs keep and consumers read.

    offset size
      0     8   base offset               } not covered by the CRC: the leader
      8     4   length of what follows    } assigns offset and epoch in place,
     12     4   partition leader epoch    } `patch`
     16     1   magic
     17     4   CRC-32C of all from 21 on
     21     2   attributes                  bits 0-2 compression, 3 LogAppendTime,
     23     4   last offset delta           4 transactional, 5 control, 6 delete horizon
     27     8   base timestamp, ms
     35     8   max timestamp, ms
     43     8   producer id, -1 for none
     51     2   producer epoch
     53     4   base sequence
     57     4   record count
     61         the records, compressed or not

A broker works on headers only, with one `struct` call each. Records are for clients, tests and
the controller: `read_records`, and `record_check.check_records`, look into a batch within bounds,
whatever it says about itself. What a batch must be to be appended is decided in `core/log`.

Sources: KIP-98 (message format), KIP-32 (timestamps); "Kafka protocol guide", Record Batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from fastcrc import crc32

from kcluster.config import LONG_MAX
from kcluster.errors import RemoteProtocolError
from kcluster.wire import varint
from kcluster.wire.compression import Compression, compress, decompress

Buffer = bytes | bytearray | memoryview

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES: Final = 61
LENGTH_OVERHEAD: Final = 12
"""Bytes of a batch that its `length` does not count."""
MAGIC: Final = 2
CRC_START: Final = 21
NULL_LENGTH: Final = 1
"""The varint of -1."""
LONG_MIN: Final = -LONG_MAX - 1
LEAST_RECORD_BYTES: Final = 7
"""A record without key, value and headers: seven varints of one byte."""

COMPRESSION_MASK: Final = 0x07
LOG_APPEND_TIME: Final = 0x08
TRANSACTIONAL: Final = 0x10
CONTROL: Final = 0x20
DELETE_HORIZON: Final = 0x40

_IN_TABLE: Final = varint.TABLE_SIZE // 2

_LENGTH: Final = struct.Struct(">i")
_OFFSET: Final = struct.Struct(">q")
_CRC: Final = struct.Struct(">I")
_ATTRIBUTES: Final = struct.Struct(">h")
_MAX_TIMESTAMP_START: Final = 35


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return self.length + LENGTH_OVERHEAD

    @property
    def last_offset(self) -> int:
        """Inclusive."""
        return self.base_offset + self.last_offset_delta

    @property
    def last_sequence(self) -> int:
        """Inclusive; sequences wrap to 0 behind 2**31 - 1."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def compression(self) -> int:
        """5 to 7 are no codec: compare with `Compression` before use."""
        return self.attributes & COMPRESSION_MASK

    @property
    def is_log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)


Header = tuple[str, bytes | None]


class Record(msgspec.Struct, gc=False):
    """One record. Timestamps are wall milliseconds; `offset` -1 when it has none yet."""

    value: bytes | None = None
    key: bytes | None = None
    headers: Sequence[Header] = ()
    timestamp: int = -1
    offset: int = -1


# --- headers ------------------------------------------------------------------------------


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Raises RemoteProtocolError when there are fewer than 61 bytes; believes all it reads."""
    try:
        return BatchHeader(*HEADER.unpack_from(buffer, position))
    except struct.error:
        raise RemoteProtocolError("a record batch is cut short") from None


def batches(buffer: Buffer, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
    """(position, header) of each whole batch from `position` on; stops at one that is cut short.

    A length below what a header needs, or another magic, raises RemoteProtocolError: from there
    on nothing can be found. CRCs are not looked at.
    """
    end = len(buffer)
    unpack_from = HEADER.unpack_from
    while end - position >= HEADER_BYTES:
        header = BatchHeader(*unpack_from(buffer, position))
        if header.magic != MAGIC:
            raise RemoteProtocolError(f"a batch of magic {header.magic}")
        if header.length < HEADER_BYTES - LENGTH_OVERHEAD:
            raise RemoteProtocolError(f"a batch of length {header.length}")
        following = position + LENGTH_OVERHEAD + header.length
        if following > end:
            return
        yield position, header
        position = following


def crc_of(buffer: Buffer, position: int, size: int) -> int:
    """CRC-32C of the part of the batch that it covers."""
    crc: int = crc32.iscsi(memoryview(buffer)[position + CRC_START : position + size])
    return crc


def check_crc(buffer: Buffer, position: int, size: int) -> bool:
    """Whether the `size` bytes at `position`, a whole batch, have the CRC they claim."""
    [claimed] = _CRC.unpack_from(buffer, position + 17)
    return bool(claimed == crc_of(buffer, position, size))


def patch(
    buffer: bytearray | memoryview,
    position: int,
    base_offset: int,
    leader_epoch: int,
    log_append_time: int | None = None,
) -> None:
    """What a leader writes into a batch before it appends it.

    Offset and epoch lie outside the CRC. `log_append_time` (ms) marks the batch with it and
    costs a new CRC (KIP-32).
    """
    _OFFSET.pack_into(buffer, position, base_offset)
    _LENGTH.pack_into(buffer, position + 12, leader_epoch)
    if log_append_time is None:
        return
    [attributes] = _ATTRIBUTES.unpack_from(buffer, position + CRC_START)
    _ATTRIBUTES.pack_into(buffer, position + CRC_START, attributes | LOG_APPEND_TIME)
    _OFFSET.pack_into(buffer, position + _MAX_TIMESTAMP_START, log_append_time)
    [length] = _LENGTH.unpack_from(buffer, position + 8)
    _CRC.pack_into(buffer, position + 17, crc_of(buffer, position, length + LENGTH_OVERHEAD))


# --- building -----------------------------------------------------------------------------


class BatchBuilder:
    """Collects records into one batch; knows its size before compression all along."""

    __slots__ = ("_parts", "base_timestamp", "count", "last_offset_delta", "max_timestamp", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.base_timestamp = -1
        """Of the first record, ms."""
        self.max_timestamp = -1
        self.count = 0
        self.last_offset_delta = -1
        self.size = HEADER_BYTES
        """Bytes of the batch as it stands, uncompressed."""

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header] = (),
        offset_delta: int | None = None,
    ) -> None:
        """`offset_delta` is the next one unless given; it must rise."""
        if not self.count:
            self.base_timestamp = timestamp
        self.max_timestamp = max(self.max_timestamp, timestamp)
        if offset_delta is None:
            offset_delta = self.last_offset_delta + 1
        assert offset_delta > self.last_offset_delta
        # What is small is looked up in place, twice the number as zigzag has it: the calls would
        # be a third of the time of a producer of small records.
        signed, table = varint.signed, varint.TABLE
        since = timestamp - self.base_timestamp
        body = b"".join(
            (
                b"\0",
                table[since << 1] if 0 <= since < _IN_TABLE else signed(since),
                table[offset_delta << 1] if offset_delta < _IN_TABLE else signed(offset_delta),
                b"\x01" if key is None else signed(len(key)) + key,
                b"\x01" if value is None else signed(len(value)) + value,
                b"\0" if not headers else _headers(headers),
            )
        )
        length = len(body)
        head = table[length << 1] if length < _IN_TABLE else signed(length)
        self._parts.append(head)
        self._parts.append(body)
        self.size += len(head) + length
        self.count += 1
        self.last_offset_delta = offset_delta

    def build(
        self,
        *,
        base_offset: int = 0,
        leader_epoch: int = -1,
        compression: Compression = Compression.NONE,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
        attributes: int = 0,
        last_offset_delta: int | None = None,
    ) -> bytearray:
        """The batch, writable so that it can be patched. `attributes` are the bits beside the
        compression; `last_offset_delta` may be larger than that of the last record (compaction
        keeps the end of what it shortens)."""
        records = b"".join(self._parts)
        if compression != Compression.NONE:
            records = compress(records, compression)
        batch = bytearray(HEADER_BYTES + len(records))
        batch[HEADER_BYTES:] = records
        HEADER.pack_into(
            batch,
            0,
            base_offset,
            len(batch) - LENGTH_OVERHEAD,
            leader_epoch,
            MAGIC,
            0,
            attributes | compression,
            self.last_offset_delta if last_offset_delta is None else last_offset_delta,
            self.base_timestamp,
            self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            self.count,
        )
        _CRC.pack_into(batch, 17, crc_of(batch, 0, len(batch)))
        return batch


def _headers(headers: Sequence[Header]) -> bytes:
    parts = [varint.signed(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        parts += (varint.signed(len(encoded)), encoded)
        parts.append(b"\x01" if value is None else varint.signed(len(value)) + value)
    return b"".join(parts)


def build_batch(
    records: Iterable[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    compression: Compression = Compression.NONE,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
) -> bytearray:
    """A batch of `records`, in order. Records with an offset keep their distance to
    `base_offset`; those without (-1) get the next one."""
    builder = BatchBuilder()
    for record in records:
        builder.append(
            record.timestamp,
            record.key,
            record.value,
            record.headers,
            None if record.offset < 0 else record.offset - base_offset,
        )
    return builder.build(
        base_offset=base_offset,
        leader_epoch=leader_epoch,
        compression=compression,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        attributes=attributes,
    )


# --- reading ------------------------------------------------------------------------------


def read_records(batch: Buffer, position: int = 0, limit: int | None = None) -> list[Record]:
    """The records of the batch at `position`, copied out of it, with their offsets.

    Raises RemoteProtocolError on anything that is not a sound batch, the CRC excepted.
    `limit` bounds the decompressed bytes (`compression.limit_for` by default).
    """
    header, body = body_of(batch, position, limit)
    try:
        records, at = _read_all(header, body)
    except IndexError:
        raise RemoteProtocolError("a record is cut short") from None
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"the name of a record header: {error}") from None
    check_end(at, body)
    return records


def _read_all(header: BatchHeader, body: bytes) -> tuple[list[Record], int]:
    """(records, position behind them).

    Varints of one and two bytes are read in place: a call for each would be most of the time of
    a consumer of small records (1 against 7 us a record).
    """
    read_signed, read_signed_long = varint.read_signed, varint.read_signed_long
    append_time = header.max_timestamp if header.is_log_append_time else None
    base_timestamp, base_offset = header.base_timestamp, header.base_offset
    records: list[Record] = []
    end = len(body)
    at = 0
    for _ in range(header.record_count):
        size = body[at]
        if size < 0x80:
            size = size >> 1 ^ -(size & 1)
            at += 1
        elif (second := body[at + 1]) < 0x80:
            size = size & 0x7F | second << 7
            size = size >> 1 ^ -(size & 1)
            at += 2
        else:
            size, at = read_signed(body, at)
        stop = at + size
        if size < LEAST_RECORD_BYTES - 1 or stop > end:
            raise RemoteProtocolError(f"a record of {size} bytes")
        timestamp = body[at + 1]
        if timestamp < 0x80:
            timestamp = timestamp >> 1 ^ -(timestamp & 1)
            at += 2
        else:
            timestamp, at = read_signed_long(body, at + 1)
        delta = body[at]
        if delta < 0x80:
            delta = delta >> 1 ^ -(delta & 1)
            at += 1
        elif (second := body[at + 1]) < 0x80:
            delta = delta & 0x7F | second << 7
            delta = delta >> 1 ^ -(delta & 1)
            at += 2
        else:
            delta, at = read_signed(body, at)
        length = body[at]
        key: bytes | None = None
        if length == NULL_LENGTH:
            at += 1
        elif length < 0x80 and not length & 1:
            begin = at + 1
            at = begin + (length >> 1)
            key = body[begin:at]
        else:
            key, at = _field(body, at, stop)
        length = body[at]
        value: bytes | None = None
        if length < 0x80 and not length & 1:
            begin = at + 1
            at = begin + (length >> 1)
            value = body[begin:at]
        elif length >= 0x80 and (second := body[at + 1]) < 0x80 and not length & 1:
            begin = at + 2
            at = begin + ((length & 0x7F | second << 7) >> 1)
            value = body[begin:at]
        else:
            value, at = _field(body, at, stop)
        headers: Sequence[Header] = ()
        if body[at]:
            headers, at = _read_headers(body, at, stop)
        else:
            at += 1
        if at != stop:
            # Also when a field reached beyond its record.
            raise RemoteProtocolError("a record's fields do not fill its length")
        timestamp = base_timestamp + timestamp if append_time is None else append_time
        if not LONG_MIN <= timestamp <= LONG_MAX:
            # No answer to ListOffsets could carry it.
            raise RemoteProtocolError("a record's timestamp has more than 64 bits")
        records.append(Record(value, key, headers, timestamp, base_offset + delta))
    return records, at


def body_of(batch: Buffer, position: int, limit: int | None) -> tuple[BatchHeader, bytes]:
    """The header and the records' bytes, decompressed; the record count fits into them.

    A copy: indexing bytes is a third quicker than a memoryview, and each record's parts must be
    copied out anyway.
    """
    header = read_header(batch, position)
    if header.magic != MAGIC:
        raise RemoteProtocolError(f"a batch of magic {header.magic}")
    view = memoryview(batch)
    if header.length < HEADER_BYTES - LENGTH_OVERHEAD or position + header.size > len(view):
        raise RemoteProtocolError(f"a batch of length {header.length}")
    if header.compression > Compression.ZSTD:
        raise RemoteProtocolError(f"compression {header.compression} is not known")
    body = view[position + HEADER_BYTES : position + header.size]
    if header.compression:
        body = decompress(body, Compression(header.compression), limit)
    if not 0 <= header.record_count * LEAST_RECORD_BYTES <= len(body):
        raise RemoteProtocolError(f"{header.record_count} records in {len(body)} bytes")
    return header, bytes(body)


def check_end(at: int, body: bytes) -> None:
    """Nothing lies behind the last record."""
    if at != len(body):
        raise RemoteProtocolError("bytes behind the last record")


def _read_headers(body: bytes, at: int, stop: int) -> tuple[list[Header], int]:
    count, at = varint.read_signed(body, at)
    if not 0 < count <= (stop - at) // 2:
        raise RemoteProtocolError(f"{count} headers in a record")
    headers: list[Header] = []
    for _ in range(count):
        name, at = _field(body, at, stop)
        if name is None:
            raise RemoteProtocolError("a record header without a name")
        content, at = _field(body, at, stop)
        headers.append((name.decode(), content))
    return headers, at


def _field(body: bytes, at: int, stop: int) -> tuple[bytes | None, int]:
    size, at = varint.read_signed(body, at)
    if size < 0:
        if size != -1:
            raise RemoteProtocolError(f"a field of {size} bytes")
        return None, at
    end = at + size
    if end > stop:
        raise RemoteProtocolError("a field reaches beyond its record")
    return body[at:end], end
