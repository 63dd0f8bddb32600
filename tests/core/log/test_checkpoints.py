"""Kafka's small text files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcluster.core.log.checkpoints import format_offsets, parse_offsets
from kcluster.core.log.partition_metadata import format_metadata, parse_metadata
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition

TOPICS = st.text("abcXYZ019._-", min_size=1, max_size=20)


@given(
    st.dictionaries(
        st.builds(TopicPartition, TOPICS, st.integers(0, 2**31 - 1)), st.integers(0, 2**63 - 1)
    )
)
def test_offsets_come_back(offsets: dict[TopicPartition, int]) -> None:
    assert parse_offsets(format_offsets(offsets)) == offsets


OFFSETS = {TopicPartition("t", 1): 7, TopicPartition("t", 0): 5}


def test_the_format_is_kafkas_with_a_checksum_as_its_last_entry() -> None:
    assert format_offsets(OFFSETS) == b"0\n3\nt 0 5\nt 1 7\n#crc32c 0 161295798\n"


def test_no_flipped_bit_and_no_cut_makes_another_checkpoint() -> None:
    data = format_offsets(OFFSETS)
    damaged = [data[:size] for size in range(1, len(data))]
    damaged += [flipped(data, bit) for bit in range(8 * len(data))]
    for one in damaged:
        with pytest.raises(CorruptLogError):
            parse_offsets(one)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize(
    "data", [b"1\n0\n", b"0\n1\n", b"0\n1\nt 0\n", b"0\n1\nt -1 5\n", b"\xff", b"0\n1\nt 0 5\n"]
)
def test_a_damaged_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptLogError):
        parse_offsets(data)


def test_a_missing_checkpoint_is_empty() -> None:
    assert parse_offsets(b"") == {}


@given(st.binary(min_size=16, max_size=16))
def test_the_topic_id_comes_back(topic_id: bytes) -> None:
    assert parse_metadata(format_metadata(topic_id)) == topic_id


def test_kafkas_own_partition_metadata_is_read() -> None:
    parsed = parse_metadata(b"version: 0\ntopic_id: 6P6CY3pUSu6T6WYE-dc5fQ\n")
    assert format_metadata(parsed) == b"version: 0\ntopic_id: 6P6CY3pUSu6T6WYE-dc5fQ"


@pytest.mark.parametrize(
    "data",
    [b"", b"version: 1\ntopic_id: 6P6CY3pUSu6T6WYE-dc5fQ", b"version: 0\ntopic_id: ab", b"x"],
)
def test_damaged_partition_metadata_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptLogError):
        parse_metadata(data)
