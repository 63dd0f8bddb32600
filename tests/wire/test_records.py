"""Record batches: built, patched, read, and not believed."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.errors import RemoteProtocolError
from kcluster.wire import varint
from kcluster.wire.compression import Compression
from kcluster.wire.record_check import check_records
from kcluster.wire.records import (
    CONTROL,
    HEADER_BYTES,
    LOG_APPEND_TIME,
    TRANSACTIONAL,
    BatchBuilder,
    Record,
    batches,
    build_batch,
    check_crc,
    crc_of,
    patch,
    read_header,
    read_records,
)

every_codec = pytest.mark.parametrize(
    "codec", list(Compression), ids=lambda codec: codec.name.lower()
)

record_values = st.none() | st.binary(max_size=300)
some_records = st.lists(
    st.builds(
        Record,
        value=record_values,
        key=record_values,
        headers=st.lists(st.tuples(st.text(max_size=5), record_values), max_size=3),
        timestamp=st.integers(0, 2**42),
    ),
    min_size=1,
    max_size=20,
)


def number(records: list[Record], base_offset: int) -> list[Record]:
    return [
        Record(r.value, r.key, list(r.headers), r.timestamp, base_offset + index)
        for index, r in enumerate(records)
    ]


def listed(records: list[Record]) -> list[Record]:
    return [Record(r.value, r.key, list(r.headers), r.timestamp, r.offset) for r in records]


@settings(max_examples=60)
@given(records=some_records, codec=st.sampled_from(Compression), base=st.integers(0, 2**40))
def test_records_come_back_from_their_batch(
    records: list[Record], codec: Compression, base: int
) -> None:
    batch = build_batch(records, base_offset=base, compression=codec)
    assert listed(read_records(batch)) == number(records, base)
    assert check_records(batch) == max(record.timestamp for record in records)
    assert check_crc(batch, 0, len(batch))
    header = read_header(batch)
    assert header.size == len(batch)
    assert header.record_count == len(records)
    assert header.last_offset == base + len(records) - 1
    assert header.compression == codec


@settings(max_examples=30)
@given(records=some_records)
def test_aiokafka_reads_our_batches(records: list[Record]) -> None:
    batch = build_batch(records, base_offset=7, producer_id=5, producer_epoch=2, base_sequence=9)
    theirs = DefaultRecordBatch(bytes(batch))
    assert theirs.validate_crc()
    assert [
        (r.offset, r.timestamp, r.key, r.value, [tuple(h) for h in r.headers]) for r in theirs
    ] == [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in number(records, 7)]
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (5, 2, 9)


@every_codec
def test_our_reader_reads_aiokafkas_batches(codec: Compression) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(codec),
        is_transactional=0,
        producer_id=1,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for index in range(500):
        builder.append(index, 1000 + index, b"k%d" % index, b"v" * (index % 200), [("h", b"x")])
    batch = bytes(builder.build())
    assert check_crc(batch, 0, len(batch))
    assert listed(read_records(batch)) == [
        Record(b"v" * (index % 200), b"k%d" % index, [("h", b"x")], 1000 + index, index)
        for index in range(500)
    ]


@every_codec
def test_batches_of_kafkas_java_client_are_read(codec: Compression) -> None:
    """The files were written by MemoryRecords of Kafka 4.3.1: producer 4000, epoch 2, sequence
    7, leader epoch 5, base offset 1000; the same forty records in each codec."""
    path = Path(__file__).parent / "golden" / f"java-{codec.name.lower()}.hex"
    batch = bytearray.fromhex(path.read_text())
    expected = [
        Record(
            None if index == 5 else b"value %d " % index * 2,
            None if index % 2 else b"k%d" % index,
            [("h", b"x"), ("n", None)] if index % 3 == 0 else [],
            1_700_000_000_000 + index * 100,
            1000 + index,
        )
        for index in range(40)
    ]
    assert listed(read_records(batch)) == expected
    assert check_records(batch) == 1_700_000_003_900
    assert check_crc(batch, 0, len(batch))
    header = read_header(batch)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (4000, 2, 7)
    assert (header.base_offset, header.last_offset, header.leader_epoch) == (1000, 1039, 5)
    assert header.max_timestamp == 1_700_000_003_900
    if codec == Compression.NONE:
        for record in expected:
            record.offset = -1
        ours = build_batch(
            expected, base_offset=1000, leader_epoch=5, producer_id=4000, producer_epoch=2,
            base_sequence=7,
        )  # fmt: skip
        assert ours == batch


def test_patching_offset_and_epoch_leaves_the_crc_right() -> None:
    batch = build_batch([Record(b"a", timestamp=5)])
    before = read_header(batch)
    patch(batch, 0, 123, 4)
    after = read_header(batch)
    assert (after.base_offset, after.leader_epoch) == (123, 4)
    assert after.crc == before.crc
    assert check_crc(batch, 0, len(batch))


def test_patching_the_log_append_time_marks_the_batch_and_renews_the_crc() -> None:
    batch = build_batch([Record(b"a", timestamp=5), Record(b"b", timestamp=6)])
    frame = bytearray(100) + batch + bytearray(100)
    patch(memoryview(frame), 100, 50, 1, log_append_time=999)
    assert check_crc(frame, 100, len(batch))
    header = read_header(frame, 100)
    assert header.is_log_append_time
    assert header.max_timestamp == 999
    assert header.base_timestamp == 5
    assert [record.timestamp for record in read_records(frame, 100)] == [999, 999]


def test_batches_walks_whole_batches_and_stops_at_a_torn_one() -> None:
    first = build_batch([Record(b"a")], base_offset=0)
    second = build_batch([Record(b"b"), Record(b"c")], base_offset=1)
    found = list(batches(first + second + first[:-1]))
    assert [(position, header.base_offset) for position, header in found] == [
        (0, 0),
        (len(first), 1),
    ]
    assert list(batches(first[:60])) == []
    assert len(list(batches(first + second, len(first)))) == 1


def test_batches_refuses_what_it_cannot_step_over() -> None:
    batch = build_batch([Record(b"a")])
    old = bytearray(batch)
    old[16] = 1
    short = bytearray(batch)
    struct.pack_into(">i", short, 8, 48)
    negative = bytearray(batch)
    struct.pack_into(">i", negative, 8, -100)
    for bad in (old, short, negative):
        with pytest.raises(RemoteProtocolError):
            list(batches(bad))
        with pytest.raises(RemoteProtocolError):
            read_records(bad)


def test_every_flipped_byte_behind_the_crc_is_found() -> None:
    batch = build_batch([Record(b"abc", b"k", [("h", b"v")], 5)])
    for index in range(21, len(batch)):
        bad = bytearray(batch)
        bad[index] ^= 0x40
        assert not check_crc(bad, 0, len(bad))


@settings(max_examples=200)
@given(data=st.data())
def test_a_batch_with_flipped_bytes_is_refused_or_read_but_never_worse(
    data: st.DataObject,
) -> None:
    codec = data.draw(st.sampled_from(Compression))
    batch = build_batch(
        [Record(b"abc" * 9, b"k", [("h", b"v")], i) for i in range(5)], compression=codec
    )
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(0, len(batch) - 1))] = data.draw(st.integers(0, 255))
    for look in (read_records, check_records):
        with contextlib.suppress(RemoteProtocolError):
            look(batch)


def with_body(body: bytes, count: int, last_offset_delta: int | None = None) -> bytearray:
    """A batch of one record whose records' bytes are replaced."""
    builder = BatchBuilder()
    builder.append(0, None, b"")
    batch = builder.build()[:HEADER_BYTES] + body
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    struct.pack_into(">i", batch, 23, count - 1 if last_offset_delta is None else last_offset_delta)
    struct.pack_into(">i", batch, 57, count)
    struct.pack_into(">I", batch, 17, crc_of(batch, 0, len(batch)))
    return batch


def record_bytes(
    offset_delta: int = 0, *, size: int | None = None, rest: bytes = b"\1\1\0"
) -> bytes:
    body = b"\0\0" + varint.signed(offset_delta) + rest
    return varint.signed(len(body) if size is None else size) + body


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(record_bytes() * 2, 1, id="more records than said"),
        pytest.param(record_bytes(), 2, id="fewer records than said"),
        pytest.param(record_bytes(), 2**31 - 1, id="a count beyond the bytes"),
        pytest.param(record_bytes(), -1, id="a negative count"),
        pytest.param(record_bytes(size=-5), 1, id="a negative size"),
        pytest.param(record_bytes(size=100), 1, id="a size beyond the batch"),
        pytest.param(record_bytes(size=2), 1, id="a size below the least"),
        pytest.param(record_bytes(rest=b"\x03\1\0"), 1, id="a key of length -2"),
        pytest.param(record_bytes(rest=b"\x7e\1\0"), 1, id="a key beyond its record"),
        pytest.param(record_bytes(rest=b"\1\1\x7e"), 1, id="headers beyond their record"),
        pytest.param(record_bytes(rest=b"\1\1\1"), 1, id="a negative count of headers"),
        pytest.param(record_bytes(rest=b"\1\1\2\1\1"), 1, id="a header without a name"),
        pytest.param(record_bytes(rest=b"\1\1\0\0"), 1, id="bytes behind the headers"),
        pytest.param(b"\xff" * 12, 1, id="a varint without end"),
    ],
)
def test_records_that_lie_about_themselves_are_refused(body: bytes, count: int) -> None:
    batch = with_body(body, count)
    with pytest.raises(RemoteProtocolError):
        read_records(batch)
    with pytest.raises(RemoteProtocolError):
        check_records(batch)


def test_offset_deltas_must_count_from_zero() -> None:
    assert check_records(with_body(record_bytes(0) + record_bytes(1), 2)) == 0
    for deltas in ((0, 2), (1, 2), (0, 0), (1, 0)):
        body = b"".join(map(record_bytes, deltas))
        with pytest.raises(RemoteProtocolError, match="offset delta"):
            check_records(with_body(body, 2))
    with pytest.raises(RemoteProtocolError, match="less one"):
        check_records(with_body(record_bytes(0) + record_bytes(1), 2, last_offset_delta=5))


def test_compaction_may_leave_gaps_and_keep_the_end() -> None:
    builder = BatchBuilder()
    builder.append(5, b"k", b"v", offset_delta=3)
    builder.append(6, b"l", b"w", offset_delta=8)
    batch = builder.build(base_offset=100, last_offset_delta=20)
    assert [record.offset for record in read_records(batch)] == [103, 108]
    assert read_header(batch).last_offset == 120


def test_the_builder_knows_its_size() -> None:
    builder = BatchBuilder()
    for index in range(100):
        builder.append(index, None, bytes(index))
        assert builder.size == len(builder.build())


def test_a_bomb_in_a_batch_is_refused() -> None:
    batch = build_batch([Record(bytes(32 << 20))], compression=Compression.ZSTD)
    for look in (read_records, check_records):
        with pytest.raises(RemoteProtocolError, match="becomes more than"):
            look(batch)
    assert len(read_records(batch, limit=64 << 20)) == 1


def test_attributes_are_told_apart() -> None:
    header = read_header(build_batch([Record(b"")], attributes=TRANSACTIONAL | CONTROL))
    assert header.is_transactional
    assert header.is_control
    assert not header.is_log_append_time
    assert read_header(build_batch([Record(b"")], attributes=LOG_APPEND_TIME)).is_log_append_time


def test_sequences_wrap_to_zero() -> None:
    batch = build_batch([Record(b"")] * 3, producer_id=1, base_sequence=2**31 - 2)
    assert read_header(batch).last_sequence == 0
    assert read_header(build_batch([Record(b"")])).last_sequence == -1
