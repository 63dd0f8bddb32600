"""Records where they lie: found as `read_records` finds them, and copied as they are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.errors import RemoteProtocolError
from kcluster.wire import record_walk
from kcluster.wire.compression import Compression
from kcluster.wire.record_walk import (
    body_of,
    empty_batch,
    start_empty_at,
    starts_empty_before,
    times,
    walk,
    with_records,
    without_key,
)
from kcluster.wire.records import (
    HEADER,
    Record,
    batches,
    build_batch,
    check_crc,
    patch,
    read_header,
    read_records,
)

BASE_MS = 1_700_000_000_000

records = st.lists(
    st.builds(
        Record,
        value=st.none() | st.binary(max_size=300),
        key=st.none() | st.binary(max_size=80),
        headers=st.just(()) | st.just([("trace", b"1"), ("none", None)]),
        timestamp=st.integers(BASE_MS - 10**9, BASE_MS + 10**9),
    ),
    min_size=1,
    max_size=12,
)
codecs = st.sampled_from(Compression)


@given(records, codecs)
def test_a_walk_finds_what_a_read_finds(given_records: list[Record], codec: Compression) -> None:
    batch = build_batch(given_records, base_offset=70, compression=codec)
    header = HEADER.unpack_from(batch)
    walked = walk(header, body_of(header, batch))
    read = read_records(batch)
    assert [(70 + w[3], w[4], w[5]) for w in walked] == [
        (r.offset, r.key, r.value is not None) for r in read
    ]
    assert [header[7] + w[2] for w in walked] == [r.timestamp for r in read]
    keyless = [index for index, record in enumerate(read) if record.key is None]
    assert without_key(header, batch) == keyless


@given(records, codecs, st.booleans())
def test_times_are_those_that_a_read_finds(
    given_records: list[Record], codec: Compression, is_stamped: bool
) -> None:
    batch = build_batch(given_records, base_offset=70, compression=codec)
    if is_stamped:
        patch(batch, 0, 70, 3, BASE_MS + 5)
    found = list(times(HEADER.unpack_from(batch), batch))
    assert found == [(record.offset, record.timestamp) for record in read_records(batch)]


@pytest.mark.parametrize("codec", list(Compression)[1:])
def test_a_broker_looks_into_a_batch_as_far_as_its_bounds_go(
    codec: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(record_walk.LIMITS)(decode_objects=1000, unpacked_batch_bytes=50_000)
    monkeypatch.setattr(record_walk, "LIMITS", limits)

    def look(count: int, value_bytes: int) -> list[int]:
        some = [Record(bytes(value_bytes), b"k", timestamp=1)] * count
        batch = build_batch(some, compression=codec)
        return without_key(HEADER.unpack_from(batch), batch)

    assert look(1000, 1) == []
    assert look(1, 49_000) == []
    with pytest.raises(RemoteProtocolError, match="1001 records"):
        look(1001, 1)
    with pytest.raises(RemoteProtocolError, match="becomes more than"):
        look(1, 51_000)


def test_an_uncompressed_batch_is_bounded_by_its_size_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = type(record_walk.LIMITS)(decode_objects=10, unpacked_batch_bytes=10)
    monkeypatch.setattr(record_walk, "LIMITS", limits)
    batch = build_batch([Record(b"v", b"k", timestamp=1)] * 500)
    assert without_key(HEADER.unpack_from(batch), batch) == []


@given(records, codecs, st.data())
def test_what_is_kept_is_what_it_was(
    given_records: list[Record], codec: Compression, data: st.DataObject
) -> None:
    batch = build_batch(
        given_records, base_offset=70, leader_epoch=3, compression=codec,
        producer_id=9, producer_epoch=1, base_sequence=5,
    )  # fmt: skip
    header = HEADER.unpack_from(batch)
    body = body_of(header, batch)
    walked = walk(header, body)
    which = sorted(data.draw(st.sets(st.sampled_from(range(len(walked))), min_size=1)))
    horizon = data.draw(st.none() | st.integers(0, 2**62))
    made = with_records(header, body, [walked[index] for index in which], horizon)
    assert check_crc(made, 0, len(made))
    assert read_records(made) == [read_records(batch)[index] for index in which]
    was, now = read_header(batch), read_header(made)
    assert (now.base_offset, now.last_offset, now.leader_epoch) == (70, was.last_offset, 3)
    assert (now.producer_id, now.producer_epoch, now.base_sequence) == (9, 1, 5)
    assert now.last_sequence == was.last_sequence
    assert now.max_timestamp == max(record.timestamp for record in read_records(made))
    assert now.base_timestamp == (was.base_timestamp if horizon is None else horizon)
    # Once more, as the next pass does it: the horizon is not moved.
    header = HEADER.unpack_from(made)
    body = body_of(header, made)
    assert read_records(with_records(header, body, walk(header, body), None)) == read_records(made)


def test_an_empty_batch_is_that_of_kafkas_cleaner() -> None:
    batch = empty_batch(
        5, 9, 3, 1_700_000_000_000, producer=(4000, 2, 17)
    )  # fmt: skip
    assert batch.hex() == (
        "0000000000000005"  # base offset
        "00000031"  # length: a header and nothing else
        "00000003"  # leader epoch
        "02"
        f"{batch[17:21].hex()}"
        "0000"  # attributes
        "00000004"  # last offset delta
        "ffffffffffffffff"  # no base timestamp
        "0000018bcfe56800"  # the largest of those that are gone
        "0000000000000fa0" "0002" "00000011"  # producer
        "00000000"  # records
    )  # fmt: skip
    assert check_crc(batch, 0, len(batch))
    assert read_records(batch) == []
    header = read_header(batch)
    assert (header.last_offset, header.last_sequence) == (9, 21)


def test_an_empty_batch_may_start_later() -> None:
    follows = bytes(build_batch([Record(b"1", b"a")], base_offset=10, leader_epoch=3))
    data = empty_batch(5, 9, 3, 77) + follows
    assert starts_empty_before(data, 6)
    assert not starts_empty_before(data, 5)
    assert not starts_empty_before(follows, 11)
    for offset in range(6, 10):
        cut = start_empty_at(memoryview(data), offset)
        [(_, first), (position, _)] = batches(cut)
        assert (first.base_offset, first.last_offset, first.record_count) == (offset, 9, 0)
        assert (first.leader_epoch, first.max_timestamp) == (3, 77)
        assert check_crc(cut, 0, first.size)
        assert cut[position:] == follows


@settings(max_examples=400)
@given(records, codecs, st.data())
def test_damaged_bytes_are_refused_and_nothing_worse(
    given_records: list[Record], codec: Compression, data: st.DataObject
) -> None:
    batch = build_batch(given_records, compression=codec)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(21, len(batch) - 1))
        batch[at] = data.draw(st.integers(0, 255))
    header = HEADER.unpack_from(batch)
    try:
        walked = walk(header, body_of(header, batch))
    except RemoteProtocolError:
        return
    assert len(walked) == header[12]
    assert all(before[1] == after[0] for before, after in pairwise(walked))


@pytest.mark.parametrize("count", [-1, 2, 1 << 30])
def test_a_count_that_lies_is_refused(count: int) -> None:
    batch = build_batch([Record(b"1", b"a")])
    header = (*HEADER.unpack_from(batch)[:12], count)
    with pytest.raises(RemoteProtocolError):
        walk(header, body_of(header, batch))


def test_offsets_of_a_produced_batch_have_no_gaps() -> None:
    batch = build_batch([Record(b"1", b"a", offset=0), Record(b"2", b"b", offset=2)])
    header = HEADER.unpack_from(batch)
    with pytest.raises(RemoteProtocolError):
        without_key(header, batch)
