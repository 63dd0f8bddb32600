"""Frames and headers, with golden bytes for what clients really send."""

from __future__ import annotations

import struct

import pytest
from kio.schema.request_header.v1.header import RequestHeader as KioHeader1
from kio.schema.request_header.v2.header import RequestHeader as KioHeader2
from kio.serial import entity_reader

from kcluster.errors import RemoteProtocolError
from kcluster.wire.apis import APIS
from kcluster.wire.frame import (
    RequestHeader,
    parse_request_header,
    parse_response_header,
    request_frame,
    response_frame,
)
from kcluster.wire.message import decode, encode_parts
from kcluster.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from kcluster.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from kcluster.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)

API_VERSIONS_V3 = bytes.fromhex(
    "00000025"  # 37 bytes follow
    "0012 0003 00000001 0007 72646b61666b61 00"  # key, version, correlation, rdkafka, no tags
    "0b 6c696272646b61666b61 07 322e31362e31 00".replace(" ", "")  # librdkafka 2.16.1
)
METADATA_V1 = bytes.fromhex(
    "0000001a 0003 0001 00000007 0005 6b636c7573 00000001 0005 746f706963".replace(" ", "")
)


def test_the_golden_frames_are_written() -> None:
    versions = request_frame(ApiVersionsRequest("librdkafka", "2.16.1"), 3, 1, "rdkafka")
    assert b"".join(versions) == API_VERSIONS_V3
    metadata = request_frame(MetadataRequest([MetadataRequestTopic(name="topic")]), 1, 7, "kclus")
    assert b"".join(metadata) == METADATA_V1


def test_the_golden_frames_are_read() -> None:
    frame = memoryview(API_VERSIONS_V3)[4:]
    header, position = parse_request_header(frame)
    assert header == RequestHeader(18, 3, 1, "rdkafka")
    assert decode(ApiVersionsRequest, frame, 3, position) == ApiVersionsRequest(
        "librdkafka", "2.16.1"
    )
    header, position = parse_request_header(memoryview(METADATA_V1)[4:])
    assert header == RequestHeader(3, 1, 7, "kclus")


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_headers_are_what_kio_reads(api) -> None:
    for version in range(api.versions.low, api.versions.high + 1):
        [frame] = request_frame(api.request(), version, 42, "me")
        theirs = KioHeader2 if api.is_flexible(version) else KioHeader1
        value, end = entity_reader(theirs)(frame[4:], 0)
        assert (value.request_api_key, value.request_api_version) == (api.key, version)
        assert (value.correlation_id, value.client_id) == (42, "me")
        header, position = parse_request_header(memoryview(frame)[4:])
        assert header == RequestHeader(api.key, version, 42, "me")
        assert header.api is api
        assert position == end
        assert struct.unpack_from(">i", frame)[0] == len(frame) - 4


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_responses_are_read_back(api) -> None:
    for version in range(api.versions.low, api.versions.high + 1):
        body = encode_parts(api.response(), version)
        frame = b"".join(response_frame(api.key, version, 77, body))
        assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
        correlation_id, position = parse_response_header(frame[4:], api.key, version)
        assert correlation_id == 77
        assert position == (5 if api.is_flexible(version) and api.key != 18 else 4)
        assert decode(api.response, frame[4:], version, position) == api.response()


def test_the_response_to_api_versions_keeps_the_oldest_header() -> None:
    body = encode_parts(ApiVersionsResponse(api_keys=[ApiVersion(18, 0, 4)]), 3)
    frame = b"".join(response_frame(18, 3, 5, body))
    assert frame[4:10] == b"\0\0\0\x05\0\0"


def test_a_client_id_may_be_null_or_empty() -> None:
    for client_id in (None, ""):
        [frame] = request_frame(MetadataRequest(), 9, 1, client_id)
        assert parse_request_header(memoryview(frame)[4:])[0].client_id == client_id


def test_large_records_are_not_copied_into_the_frame() -> None:
    batch = bytes(1 << 20)
    request = ProduceRequest(
        topic_data=[TopicProduceData(name="t", partition_data=[PartitionProduceData(0, batch)])]
    )
    parts = request_frame(request, 9, 1, "me")
    assert any(part is batch for part in parts)
    assert struct.unpack_from(">i", parts[0])[0] == sum(map(len, parts)) - 4


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("", id="nothing"),
        pytest.param("0003 0001 00000007", id="no client id"),
        pytest.param("0003 0001 00000007 0005 6b63", id="a client id cut short"),
        pytest.param("0003 0001 00000007 fffe", id="a client id of length -2"),
        pytest.param("0003 0001 00000007 0002 c328", id="a client id that is not UTF-8"),
        pytest.param("0004 0001 00000007 ffff", id="a key that was removed"),
        pytest.param("7fff 0000 00000007 ffff", id="a key that never was"),
        pytest.param("ffff 0000 00000007 ffff", id="a negative key"),
        pytest.param("0003 000e 00000007 ffff", id="a version too high"),
        pytest.param("0000 0002 00000007 ffff", id="a version advertised and not served"),
        pytest.param("0016 0006 00000007 ffff 00", id="an unstable version"),
        pytest.param("0003 ffff 00000007 ffff", id="a negative version"),
        pytest.param("0012 ffff 00000007 ffff", id="a negative version of ApiVersions"),
        pytest.param("0003 0009 00000007 ffff", id="no tagged fields where some are due"),
        pytest.param("0003 0009 00000007 ffff 01 00 05 61", id="a tagged field cut short"),
        pytest.param("0003 0009 00000007 ffff ffffffffff01", id="a count that does not end"),
        pytest.param("0003 0009 00000007 ffff 11" + "0000" * 17, id="17 tagged fields"),
    ],
)
def test_headers_that_are_none_are_refused(frame: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_request_header(memoryview(bytes.fromhex(frame.replace(" ", ""))))


def test_sixteen_tagged_fields_in_a_header_are_skipped() -> None:
    head = bytes.fromhex("0003000900000007ffff") + b"\x10"
    tags = b"".join(bytes((tag, 2)) + b"xy" for tag in range(16))
    header, position = parse_request_header(memoryview(head + tags))
    assert header.correlation_id == 7
    assert position == len(head + tags)


def test_api_versions_is_let_through_in_a_version_that_is_not_served() -> None:
    header, _ = parse_request_header(memoryview(bytes.fromhex("0012006300000001ffff00")))
    assert header.api_version == 99
    assert not header.api.serves(header.api_version)


@pytest.mark.parametrize("frame", [b"", b"\0\0\0", b"\0\0\0\x01", b"\0\0\0\x01\x01\0\x05"])
def test_response_headers_cut_short_are_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_response_header(frame, 3, 9)
