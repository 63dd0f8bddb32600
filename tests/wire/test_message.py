"""The codec engine: round trips, and what it does with bytes that are none of ours."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.errors import RemoteProtocolError
from kcluster.wire import varint
from kcluster.wire.message import Message, decode, decode_from, encode, encode_parts, size_of
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.create_topics import CreatableTopicResult, CreateTopicsResponse
from kcluster.wire.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
)
from kcluster.wire.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from kcluster.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from tests.wire.samples import ALL_CLASSES, classes_and_versions, sample

every_message = pytest.mark.parametrize(
    ("cls", "version"),
    [pytest.param(c, v, id=f"{c.__name__}-{v}") for c, v in classes_and_versions()],
)


@every_message
def test_what_was_encoded_decodes_to_the_same(cls: type[Message], version: int) -> None:
    random = Random(f"{cls.__name__} {version}")
    for _ in range(10):
        message = sample(cls, version, random)
        data = encode(message, version)
        decoded, end = decode_from(cls, data, version)
        assert decoded == message
        assert end == len(data)
        parts = encode_parts(message, version)
        assert b"".join(parts) == data
        assert sum(map(size_of, parts)) == len(data)


@every_message
def test_every_cut_of_a_message_is_refused(cls: type[Message], version: int) -> None:
    message = sample(cls, version, Random(7))
    data = encode(message, version)
    for size in {*range(0, len(data), max(1, len(data) // 40)), max(0, len(data) - 1)}:
        if size == len(data):
            continue
        with pytest.raises(RemoteProtocolError):
            decode(cls, data[:size], version)


@settings(max_examples=300)
@given(data=st.binary(max_size=200), random=st.randoms(use_true_random=False))
def test_noise_is_refused_or_decoded_but_never_worse(data: bytes, random: Random) -> None:
    cls, version = random.choice(list(classes_and_versions()))
    try:
        message = decode(cls, data, version)
    except RemoteProtocolError:
        return
    decode(cls, encode(message, version), version)


@settings(max_examples=300)
@given(random=st.randoms(use_true_random=False))
def test_a_flipped_byte_is_refused_or_decoded_but_never_worse(random: Random) -> None:
    cls, version = random.choice(list(classes_and_versions()))
    data = bytearray(encode(sample(cls, version, random), version))
    if data:
        data[random.randrange(len(data))] = random.randrange(256)
    try:
        decode(cls, data, version)
    except RemoteProtocolError:
        return


def test_records_are_views_of_the_input() -> None:
    batch = bytes(range(256)) * 64
    request = ProduceRequest(
        acks=-1,
        topic_data=[TopicProduceData(partition_data=[PartitionProduceData(records=batch)])],
    )
    for version in (3, 9, 13):
        frame = bytearray(encode(request, version))
        start = frame.index(batch)
        records = decode(ProduceRequest, frame, version).topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        assert records == batch
        records[0] = 99  # as a leader writes the base offset into it
        assert frame[start] == 99


@dataclass
class FakeSpan:
    size: int


def test_a_span_stays_a_part_of_its_own_and_counts() -> None:
    span = FakeSpan(1000)
    head = bytes(9000)
    response = FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic="t",
                partitions=[
                    PartitionData(partition_index=0, records=span),
                    PartitionData(partition_index=1, records=[head, span]),
                    PartitionData(partition_index=2, records=b"small"),
                    PartitionData(partition_index=3, records=None),
                    PartitionData(partition_index=4, records=b""),
                ],
            )
        ]
    )
    for version in (4, 12, 17):
        parts = encode_parts(response, version)
        assert [part for part in parts if part is span] == [span, span]
        assert any(part is head for part in parts)
        whole = b"".join(bytes(p.size) if isinstance(p, FakeSpan) else p for p in parts)
        assert sum(map(size_of, parts)) == len(whole)
        decoded, end = decode_from(FetchResponse, whole, version)
        assert end == len(whole)
        records = [partition.records for partition in decoded.responses[0].partitions]
        assert [None if one is None else len(one) for one in records] == [1000, 10_000, 5, None, 0]


def test_bytes_behind_a_message_are_left_alone() -> None:
    data = encode(ApiVersionsRequest(), 0) + b"newer"
    assert decode_from(ApiVersionsRequest, data, 0)[1] == 0


def test_a_count_beyond_the_bytes_left_is_refused_before_anything_is_made() -> None:
    data = struct.pack(">i", 2**31 - 1) + bytes(100)
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="does not fit"):
            decode(MetadataRequest, data, 1)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_compact_counts_and_lengths_of_four_billion_are_refused() -> None:
    for body in (
        b"\xff\xff\xff\xff\x0f",  # topics: 2**32 - 2 of them
        b"\x02" + bytes(16) + b"\xff\xff\xff\xff\x0f",  # a name as long
    ):
        with pytest.raises(RemoteProtocolError):
            decode(MetadataRequest, body + bytes(100), 12)


def test_the_budget_of_objects_holds_for_the_whole_message() -> None:
    topics = [MetadataRequestTopic(name="t") for _ in range(100)]
    data = encode(MetadataRequest(topics=topics), 1)
    assert decode(MetadataRequest, data, 1, objects=100).topics == topics
    with pytest.raises(RemoteProtocolError, match="more elements"):
        decode(MetadataRequest, data, 1, objects=99)


def test_nested_arrays_share_one_budget() -> None:
    partitions = [PartitionProduceData(index=i) for i in range(10)]
    request = ProduceRequest(topic_data=[TopicProduceData(partition_data=partitions)] * 3)
    data = encode(request, 9)
    decode(ProduceRequest, data, 9, objects=33)
    with pytest.raises(RemoteProtocolError):
        decode(ProduceRequest, data, 9, objects=32)


def test_null_is_refused_where_the_version_does_not_allow_it() -> None:
    assert decode(MetadataRequest, b"\xff\xff\xff\xff", 1).topics is None
    with pytest.raises(RemoteProtocolError, match="must not be null"):
        decode(MetadataRequest, b"\xff\xff\xff\xff", 0)


def test_lengths_below_minus_one_are_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(MetadataRequest, b"\xff\xff\xff\xfe", 1)
    with pytest.raises(RemoteProtocolError):
        decode(MetadataRequest, b"\0\0\0\x01\xff\xfe", 1)


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(MetadataRequest, b"\0\0\0\x01\0\x02\xc3\x28", 1)


def test_a_version_that_a_class_does_not_have_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(ApiVersionsRequest, b"", 99)


def test_unknown_tagged_fields_are_skipped() -> None:
    plain = encode(ApiVersionsRequest("kcluster", "1"), 3)
    assert plain[-1] == 0
    tagged = plain[:-1] + b"\x02" + b"\x00\x03abc" + b"\xff\x01\x00"
    decoded, end = decode_from(ApiVersionsRequest, tagged, 3)
    assert decoded == ApiVersionsRequest("kcluster", "1")
    assert end == len(tagged)


def test_unknown_tagged_fields_beside_known_ones_are_skipped() -> None:
    response = ApiVersionsResponse(finalized_features_epoch=5)
    data = encode(response, 3)
    assert data.endswith(b"\x01\x01\x08" + struct.pack(">q", 5))
    data = data[:-11] + b"\x02" + data[-10:] + b"\x63\x04four"
    decoded, end = decode_from(ApiVersionsResponse, data, 3)
    assert decoded == response
    assert end == len(data)


def test_tagged_fields_count_against_the_budget() -> None:
    many = b"\x01\x01" + varint.unsigned(1000) + b"\x63\0" * 1000
    decode(ApiVersionsRequest, many, 3, objects=1000)
    with pytest.raises(RemoteProtocolError, match="more elements"):
        decode(ApiVersionsRequest, many, 3, objects=999)
    many = encode(ApiVersionsResponse(), 3)[:-1] + varint.unsigned(1000) + b"\x63\0" * 1000
    decode(ApiVersionsResponse, many, 3, objects=1000)
    with pytest.raises(RemoteProtocolError, match="more elements"):
        decode(ApiVersionsResponse, many, 3, objects=999)


def test_a_known_tagged_field_must_fill_its_size() -> None:
    data = encode(ApiVersionsResponse(finalized_features_epoch=5), 3)
    longer = data[:-9] + b"\x09" + data[-8:] + b"\0"
    with pytest.raises(RemoteProtocolError):
        decode(ApiVersionsResponse, longer, 3)


def test_a_tagged_field_beyond_the_end_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(ApiVersionsRequest, b"\x01\x01\x01\x00\x05abc", 3)
    with pytest.raises(RemoteProtocolError):
        decode(ApiVersionsResponse, b"\0\0\x01\0\0\0\0\x01\x09\x05abc", 3)


def test_a_tagged_field_that_holds_its_default_stays_off_the_wire() -> None:
    plain = CreateTopicsResponse(topics=[CreatableTopicResult(name="t")])
    refused = CreateTopicsResponse(
        topics=[CreatableTopicResult(name="t", topic_config_error_code=29)]
    )
    assert len(encode(refused, 5)) == len(encode(plain, 5)) + 4  # tag, size, INT16


def test_a_nullable_struct_is_told_by_one_byte() -> None:
    without = encode(DescribeTopicPartitionsRequest(), 0)
    assert without == b"\x01" + struct.pack(">i", 2000) + b"\xff\0"
    having = encode(DescribeTopicPartitionsRequest(cursor=Cursor("t", 3)), 0)
    assert having == b"\x01" + struct.pack(">i", 2000) + b"\x01\x02t\0\0\0\x03\0" + b"\0"


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        (CreatableTopicResult(name=None), "CreateTopicsResponse v7: topics.name = None"),
        (CreatableTopicResult(error_code=1 << 20), "topics.error_code = 1048576"),
        (CreatableTopicResult(name=b"t"), "topics.name = b't'"),
    ],
)
def test_what_cannot_be_encoded_is_named(topic: CreatableTopicResult, named: str) -> None:
    response = CreateTopicsResponse(topics=[CreatableTopicResult(name="fine"), topic])
    with pytest.raises((AttributeError, struct.error)) as caught:
        encode(response, 7)
    assert named in caught.value.__notes__[0]


def test_structs_do_not_share_their_default_lists() -> None:
    for cls in ALL_CLASSES:
        one, other = cls(), cls()
        for name in cls.__struct_fields__:
            value = getattr(one, name)
            if isinstance(value, list):
                assert value is not getattr(other, name)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**28 - 1, 2**28, 2**32 - 1])
def test_unsigned_varints_come_back(value: int) -> None:
    data = varint.unsigned(value)
    assert varint.read_unsigned(data + b"\xff", 0) == (value, len(data))


@pytest.mark.parametrize("value", [0, -1, 1, 63, -64, 64, -65, 2**31 - 1, -(2**31)])
def test_signed_varints_come_back(value: int) -> None:
    data = varint.signed(value)
    assert varint.read_signed(data, 0) == (value, len(data))
    assert varint.read_signed_long(data, 0) == (value, len(data))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**40])
def test_long_varints_come_back(value: int) -> None:
    data = varint.signed(value)
    assert varint.read_signed_long(data, 0) == (value, len(data))


def test_varints_that_do_not_end_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="5 bytes"):
        varint.read_unsigned(b"\x80" * 6, 0)
    with pytest.raises(RemoteProtocolError, match="32 bits"):
        varint.read_unsigned(b"\xff\xff\xff\xff\x7f", 0)
    with pytest.raises(RemoteProtocolError, match="10 bytes"):
        varint.read_signed_long(b"\x80" * 11, 0)
    with pytest.raises(RemoteProtocolError, match="64 bits"):
        varint.read_signed_long(b"\xff" * 9 + b"\x7f", 0)
    with pytest.raises(IndexError):
        varint.read_unsigned(b"\x80", 0)
