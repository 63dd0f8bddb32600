"""Producer state: what is next, what is a copy, what is neither."""

from __future__ import annotations

import struct

import pytest
from fastcrc import crc32
from hypothesis import given
from hypothesis import strategies as st

from kcluster.core.log.producers import Producers
from kcluster.core.log.scan import Header
from kcluster.errors import ApiError, CorruptLogError, ErrorCode

LAST = 2**31 - 1


def header(producer: int, epoch: int, sequence: int, count: int) -> Header:
    return (0, 0, 0, 2, 0, 0, count - 1, 0, 0, producer, epoch, sequence, count)


def put(
    state: Producers, sequence: int, count: int = 1, *, producer: int = 1, epoch: int = 0,
    offset: int = 0, timestamp: int = 0,
) -> None:  # fmt: skip
    state.update(header(producer, epoch, sequence, count), offset, timestamp)


def check(state: Producers, sequence: int, count: int = 1, *, producer: int = 1, epoch: int = 0):
    return state.check(producer, epoch, sequence, (sequence + count - 1) & LAST)


def refusal(state: Producers, sequence: int, **more: int) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        check(state, sequence, **more)
    return caught.value.code


def test_an_unknown_producer_may_begin_with_any_sequence() -> None:
    assert check(Producers(), 4711) is None


def test_the_last_five_batches_are_recognised_with_their_offsets() -> None:
    state = Producers()
    for n in range(7):
        put(state, n * 3, 3, offset=100 + n * 10)
    for n in range(2, 7):
        found = check(state, n * 3, 3)
        assert found is not None
        assert found[2:4] == (100 + n * 10, 102 + n * 10)
    assert refusal(state, 3, count=3) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, 21, 3) is None


def test_part_of_a_batch_is_no_copy_of_it() -> None:
    state = Producers()
    put(state, 0, 3)
    assert refusal(state, 0, count=2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert refusal(state, 1, count=2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_gap_is_out_of_order() -> None:
    state = Producers()
    put(state, 0)
    assert refusal(state, 2) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_sequences_wrap_to_zero() -> None:
    state = Producers()
    put(state, LAST - 1, 2)
    assert check(state, 0) is None
    state = Producers()
    put(state, LAST - 1, 4, offset=50)
    assert check(state, 2) is None
    found = check(state, LAST - 1, 4)
    assert found is not None
    assert found[:4] == (LAST - 1, 1, 50, 53)


def test_a_new_producer_epoch_begins_with_sequence_zero() -> None:
    state = Producers()
    put(state, 0, 5)
    assert refusal(state, 5, epoch=1) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, 0, epoch=1) is None
    put(state, 0, epoch=1)
    assert refusal(state, 5, epoch=0) == ErrorCode.INVALID_PRODUCER_EPOCH


def test_the_producer_silent_for_longest_makes_room() -> None:
    state = Producers(limit=2)
    put(state, 0, producer=1)
    put(state, 0, producer=2)
    put(state, 1, producer=1)
    put(state, 0, producer=3)
    assert sorted(state.view()) == [1, 3]


def test_a_producer_expires_after_its_last_batch() -> None:
    state = Producers()
    put(state, 0, producer=1, timestamp=1000)
    put(state, 0, producer=2, timestamp=1500)
    assert state.expire(1999, 1000) == 0
    assert state.expire(2000, 1000) == 1
    assert list(state.view()) == [2]


def test_a_snapshot_has_kafkas_bytes() -> None:
    state = Producers()
    put(state, 7, 3, producer=9, epoch=2, offset=100, timestamp=555)
    entry = struct.pack(">qhiqiqiq", 9, 2, 9, 102, 2, 555, -1, -1)
    body = struct.pack(">i", 1) + entry
    assert state.encode() == struct.pack(">hI", 1, crc32.iscsi(body)) + body


@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, LAST), st.integers(1, 9)),
        max_size=40,
    )
)
def test_a_snapshot_holds_the_whole_state(steps: list[tuple[int, int, int, int]]) -> None:
    state, offset = Producers(limit=3), 0
    for producer, epoch, sequence, count in steps:
        put(state, sequence, count, producer=producer, epoch=epoch, offset=offset)
        offset += count
    copy = Producers.decode(state.encode(), limit=3)
    assert copy.view() == state.view()
    assert list(copy.view()) == list(state.view()), "and who is the next to be forgotten"


def test_a_damaged_snapshot_is_refused() -> None:
    state = Producers()
    put(state, 0)
    good = state.encode()
    for bad in (b"", good[:-1], good + b"x", good[:20] + b"\xff" + good[21:], b"\0\2" + good[2:]):
        with pytest.raises(CorruptLogError):
            Producers.decode(bad)


def test_what_is_known_below_an_offset_and_the_batches_from_there_on_make_the_whole_state() -> None:
    appended = [(1, 0), (2, 0), (1, 1), (3, 0), (1, 2), (2, 1), (1, 3), (1, 4), (1, 5), (2, 2)]
    whole = Producers()
    for offset, (producer, sequence) in enumerate(appended):
        put(whole, sequence, producer=producer, offset=offset)
    for start in range(len(appended) + 1):
        state = Producers.decode(whole.below(start).encode())
        assert not state.reaches(start)
        assert state.reaches(start - 1) == (start > 1)
        for offset, (producer, sequence) in enumerate(appended[start:], start):
            put(state, sequence, producer=producer, offset=offset)
        assert state.view() == whole.view()
        assert state.ids() == whole.ids()
