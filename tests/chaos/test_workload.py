from __future__ import annotations

import pytest

from kcluster.chaos.workload import (
    FOREIGN,
    OTHER,
    VALUE_BYTES_MIN,
    Workload,
    sequence_of,
    stream_of,
    token_of,
)
from kcluster.core.client.partitioner import partition_of_key

WORKLOAD = Workload("c0ffee00", "load", 6, 3, 100)


def test_each_key_goes_to_the_partition_of_its_stream_by_kafkas_partitioner() -> None:
    for stream in range(WORKLOAD.streams):
        assert partition_of_key(WORKLOAD.key(stream), 6) == WORKLOAD.partition(stream)
    assert len({WORKLOAD.key(stream) for stream in range(WORKLOAD.streams)}) == 18


@pytest.mark.parametrize("place", [(0, 0), (17, 1), (5, 1_000_000)])
def test_a_value_says_which_send_it_is(place: tuple[int, int]) -> None:
    value = WORKLOAD.value(*place)
    assert len(value) == 100
    token = WORKLOAD.token(value)
    assert (stream_of(token), sequence_of(token)) == place
    assert token == token_of(*place)


def test_values_of_others_are_told_from_damaged_ones() -> None:
    assert WORKLOAD.token(None) == OTHER
    assert WORKLOAD.token(b"") == OTHER
    assert WORKLOAD.token(Workload("decade00", "load", 6, 3, 100).value(1, 1)) == OTHER
    value = WORKLOAD.value(2, 3)
    assert WORKLOAD.token(value[:-1]) == FOREIGN
    assert WORKLOAD.token(value.replace(b"....", b"..x.", 1)) == FOREIGN
    assert WORKLOAD.token(WORKLOAD.value(18, 0)) == FOREIGN
    assert WORKLOAD.token(b"c0ffee00 -1 0 ") == FOREIGN
    assert WORKLOAD.token(b"c0ffee00 ") == FOREIGN


def test_a_value_is_never_too_small_for_what_it_says() -> None:
    small = Workload("c0ffee00", "load", 100, 100, 1)
    assert small.size == VALUE_BYTES_MIN
    assert small.token(small.value(9_999, 10**11)) == token_of(9_999, 10**11)
