"""Whether the records of a batch are what its header says, without making any of them."""

from __future__ import annotations

from kcluster.errors import RemoteProtocolError
from kcluster.wire import varint
from kcluster.wire.records import LEAST_RECORD_BYTES, Buffer, body_of, check_end


def check_records(batch: Buffer, position: int = 0, limit: int | None = None) -> int:
    """Walk the records of the batch at `position`; their largest timestamp in ms (-1 for none).

    Raises RemoteProtocolError unless there are as many as the header says, with offset deltas
    0, 1, 2 and so on up to its last, and nothing behind them. Keys and values are stepped over.
    """
    header, body = body_of(batch, position, limit)
    if header.last_offset_delta != header.record_count - 1:
        raise RemoteProtocolError("the last offset delta is not the record count less one")
    at = 0
    largest = -1
    end = len(body)
    try:
        for expected in range(header.record_count):
            size, at = varint.read_signed(body, at)
            stop = at + size
            if size < LEAST_RECORD_BYTES - 1 or stop > end:
                raise RemoteProtocolError(f"a record of {size} bytes")
            timestamp, inner = varint.read_signed_long(body, at + 1)
            delta, inner = varint.read_signed(body, inner)
            if delta != expected:
                raise RemoteProtocolError(f"offset delta {delta} where {expected} is due")
            if _skip_rest(body, inner, stop) != stop:
                raise RemoteProtocolError("a record's fields do not fill its length")
            largest = max(largest, header.base_timestamp + timestamp)
            at = stop
    except IndexError:
        raise RemoteProtocolError("a record is cut short") from None
    check_end(at, body)
    return largest


def _skip_field(body: bytes, at: int, stop: int, least: int) -> int:
    size, at = varint.read_signed(body, at)
    if size < least or at + size > stop:
        raise RemoteProtocolError(f"a field of {size} bytes")
    return at + max(size, 0)


def _skip_rest(body: bytes, at: int, stop: int) -> int:
    """The position behind key, value and headers."""
    at = _skip_field(body, _skip_field(body, at, stop, -1), stop, -1)
    count, at = varint.read_signed(body, at)
    if not 0 <= count <= (stop - at) // 2:
        raise RemoteProtocolError(f"{count} headers in a record")
    for _ in range(count):
        at = _skip_field(body, _skip_field(body, at, stop, 0), stop, -1)
    return at
