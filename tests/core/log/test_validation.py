"""Which produced batches are refused, with Kafka's codes, and leave nothing behind."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from kcluster.config import LogConfig
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.compression import Compression
from kcluster.wire.records import HEADER, Record, build_batch, crc_of, read_header
from tests.core.log.bench import WALL_MS, Bench, batch

FIELDS = (
    "base_offset", "length", "leader_epoch", "magic", "crc", "attributes", "last_offset_delta",
    "base_timestamp", "max_timestamp", "producer_id", "producer_epoch", "base_sequence", "count",
)  # fmt: skip


def forged(data: bytearray | None = None, **fields: int) -> bytearray:
    """A batch whose header lies, under a CRC that holds."""
    data = data or batch(3)
    values = list(HEADER.unpack_from(data))
    for name, value in fields.items():
        values[FIELDS.index(name)] = value
    HEADER.pack_into(data, 0, *values)
    if "crc" not in fields:
        struct.pack_into(">I", data, 17, crc_of(data, 0, len(data)))
    return data


REFUSED: dict[str, tuple[Callable[[], bytearray], ErrorCode]] = {
    "wrong crc": (lambda: forged(crc=1), ErrorCode.CORRUPT_MESSAGE),
    "too short for a header": (lambda: batch()[:60], ErrorCode.CORRUPT_MESSAGE),
    "longer than it is": (lambda: forged(length=500), ErrorCode.CORRUPT_MESSAGE),
    "negative length": (lambda: forged(length=-5), ErrorCode.CORRUPT_MESSAGE),
    "cut short": (lambda: batch(3)[:-1], ErrorCode.CORRUPT_MESSAGE),
    "two batches": (lambda: batch() + batch(), ErrorCode.INVALID_RECORD),
    "magic 1": (lambda: forged(magic=1), ErrorCode.INVALID_RECORD),
    "magic 3": (lambda: forged(magic=3), ErrorCode.CORRUPT_MESSAGE),
    "control": (lambda: forged(attributes=0x20), ErrorCode.INVALID_RECORD),
    "transactional": (lambda: forged(attributes=0x10), ErrorCode.INVALID_TXN_STATE),
    "stamped": (lambda: forged(attributes=0x08), ErrorCode.INVALID_TIMESTAMP),
    "delete horizon": (lambda: forged(attributes=0x40), ErrorCode.INVALID_RECORD),
    "codec 5": (lambda: forged(attributes=5), ErrorCode.UNSUPPORTED_COMPRESSION_TYPE),
    "base offset": (lambda: forged(base_offset=7), ErrorCode.INVALID_RECORD),
    "no records": (lambda: forged(count=0, last_offset_delta=-1), ErrorCode.INVALID_RECORD),
    "negative count": (lambda: forged(count=-3), ErrorCode.INVALID_RECORD),
    "delta is not count - 1": (lambda: forged(last_offset_delta=5), ErrorCode.INVALID_RECORD),
    "more records than bytes": (
        lambda: forged(count=10_000, last_offset_delta=9_999), ErrorCode.INVALID_RECORD,
    ),
    "producer without sequence": (
        lambda: forged(producer_id=1, producer_epoch=0), ErrorCode.INVALID_RECORD,
    ),
    "producer without epoch": (
        lambda: forged(producer_id=1, base_sequence=0), ErrorCode.INVALID_RECORD,
    ),
    "producer -2": (lambda: forged(producer_id=-2), ErrorCode.INVALID_RECORD),
    "in the future": (
        lambda: forged(max_timestamp=WALL_MS + 3_600_001), ErrorCode.INVALID_TIMESTAMP,
    ),
    "largest below the first": (
        lambda: forged(max_timestamp=WALL_MS - 1), ErrorCode.INVALID_TIMESTAMP,
    ),
    "timestamp -2": (lambda: forged(base_timestamp=-2), ErrorCode.INVALID_TIMESTAMP),
    "too large": (lambda: batch(size=1_048_588), ErrorCode.MESSAGE_TOO_LARGE),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_batch_is_refused_and_nothing_is_staged(name: str) -> None:
    bench = Bench()
    make, code = REFUSED[name]
    with pytest.raises(ApiError) as caught:
        bench.produce(make())
    assert caught.value.code == code
    assert not bench.turn.disk
    assert bench.log.log_end_offset == 0
    assert len(bench.log.producers) == 0


def test_a_batch_of_exactly_max_message_bytes_is_taken() -> None:
    data = batch(size=1000)
    bench = Bench(LogConfig(max_message_bytes=len(data)))
    assert bench.produce(data).base_offset == 0
    bench.config = bench.log.config = LogConfig(max_message_bytes=len(data) - 1)
    with pytest.raises(ApiError):
        bench.produce(batch(size=1000))


def test_a_timestamp_before_the_bound_is_refused() -> None:
    bench = Bench(LogConfig(timestamp_before_max_ms=1000))
    bench.produce(batch(timestamp=WALL_MS - 1000))
    with pytest.raises(ApiError) as caught:
        bench.produce(batch(timestamp=WALL_MS - 1001))
    assert caught.value.code == ErrorCode.INVALID_TIMESTAMP


def test_records_without_a_timestamp_are_taken() -> None:
    Bench().produce(build_batch([Record(b"x", timestamp=-1)]))


def test_a_compressed_batch_may_hold_more_records_than_a_seventh_of_its_bytes() -> None:
    records = [Record(b"same", timestamp=WALL_MS)] * 5000
    data = build_batch(records, compression=Compression.ZSTD)
    assert len(data) < 5000 * 7
    assert Bench().produce(data).last_offset == 4999


def test_log_append_time_stamps_the_batch_under_a_new_crc() -> None:
    bench = Bench(LogConfig(is_log_append_time=True))
    data = batch(2, timestamp=5)
    appended = bench.produce(data, epoch=3)
    header = read_header(data)
    assert appended.log_append_time == header.max_timestamp == WALL_MS
    assert header.is_log_append_time
    assert header.crc == crc_of(data, 0, len(data))


def test_offset_and_epoch_are_patched_in_place_outside_the_crc() -> None:
    bench = Bench()
    bench.produce(batch(5))
    data = batch(2)
    bench.produce(data, epoch=9)
    header = read_header(data)
    assert (header.base_offset, header.leader_epoch) == (5, 9)
    assert header.crc == crc_of(data, 0, len(data))
