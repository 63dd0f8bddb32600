"""Indexes against lists of pairs."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from kcluster.core.log.index import OffsetIndex, TimeIndex

RISING = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), max_size=50).map(
    lambda pairs: list(
        zip(sorted({a for a, _ in pairs}), sorted({b for _, b in pairs}), strict=False)
    )
)


def offset_index(pairs: list[tuple[int, int]]) -> OffsetIndex:
    index = OffsetIndex()
    for pair in pairs:
        index.append(*pair)
    return index


@given(RISING, st.integers(0, 2**31 - 1))
def test_floor_is_the_last_entry_not_above(pairs: list[tuple[int, int]], wanted: int) -> None:
    index = offset_index(pairs)
    assert index.floor(wanted) == sum(offset <= wanted for offset, _ in pairs) - 1
    assert index.floor_position(wanted) == sum(at <= wanted for _, at in pairs) - 1


@given(RISING)
def test_offset_index_file_is_kafkas_big_endian_pairs(pairs: list[tuple[int, int]]) -> None:
    data = offset_index(pairs).encode()
    assert data == b"".join(struct.pack(">ii", *pair) for pair in pairs)
    decoded = OffsetIndex.decode(data)
    assert decoded is not None
    assert list(zip(decoded.offsets, decoded.positions, strict=True)) == pairs


@given(RISING, st.integers(0, 2**31 - 1))
def test_truncated_offset_index_points_below_the_size(pairs: list, size: int) -> None:
    index = offset_index(pairs)
    index.truncate(size)
    assert list(index.positions) == [at for _, at in pairs if at < size]
    assert len(index.offsets) == len(index.positions)


@given(
    st.lists(st.tuples(st.integers(-1, 2**62), st.integers(0, 9)), max_size=40),
    st.integers(-1, 2**62),
)
def test_time_index_keeps_rising_timestamps_only(steps: list, wanted: int) -> None:
    index, kept, offset = TimeIndex(), [], 0
    for timestamp, step in steps:
        offset += step + 1
        index.append_if_later(timestamp, offset)
        if timestamp >= 0 and (not kept or timestamp > kept[-1][0]):
            kept.append((timestamp, offset))
    assert list(zip(index.timestamps, index.offsets, strict=True)) == kept
    assert index.encode() == b"".join(struct.pack(">qi", *entry) for entry in kept)
    assert index.floor(wanted) == sum(t < wanted for t, _ in kept) - 1
    decoded = TimeIndex.decode(index.encode())
    assert decoded is not None
    assert list(zip(decoded.timestamps, decoded.offsets, strict=True)) == kept


def test_sealing_adds_the_largest_timestamp_unless_it_is_there() -> None:
    index = TimeIndex()
    index.append_if_later(100, 1)
    assert index.encode(100, 5) == struct.pack(">qi", 100, 1)
    assert index.encode(101, 5) == struct.pack(">qiqi", 100, 1, 101, 5)
    assert len(index) == 1


def test_a_file_that_is_not_whole_or_does_not_rise_is_not_an_index() -> None:
    assert OffsetIndex.decode(bytes(7)) is None
    assert TimeIndex.decode(bytes(13)) is None
    assert OffsetIndex.decode(struct.pack(">iiii", 5, 1, 5, 2)) is None
    assert OffsetIndex.decode(struct.pack(">iiii", 5, 2, 6, 2)) is None
    assert TimeIndex.decode(struct.pack(">qiqi", 5, 2, 4, 3)) is None
