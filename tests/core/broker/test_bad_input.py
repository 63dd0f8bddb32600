"""What a client may ask of a broker that costs more than it says."""

from __future__ import annotations

import struct
import weakref

import pytest

from kcluster.core.broker import broker as broker_module
from kcluster.core.turn import Received, Request, StoodStill
from kcluster.errors import ErrorCode
from kcluster.limits import LIMITS
from kcluster.model import SUPERVISOR
from kcluster.wire import bus
from kcluster.wire.frame import request_frame
from kcluster.wire.message import decode
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from tests.core.broker.stage import Stage, batch, fetch, fetched, produce, produced

TOPIC = "orders"


@pytest.fixture
def stage() -> Stage:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a", b"b", acks=1), 9)
    assert produced(stage[1].answer()).error_code == 0
    return stage


def test_api_versions_of_the_future_is_told_what_is_served(stage: Stage) -> None:
    frame = bytearray(struct.pack(">hhih", 18, 99, 7, -1) + b"\0whatever its body holds")
    stage[1].run(Request(1, memoryview(frame)))
    [reply] = stage[1].replies
    answer = decode(ApiVersionsResponse, bytes(reply.parts[0])[8:], 0)  # type: ignore[arg-type]
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert [api.api_key for api in answer.api_keys] == [ApiVersionsRequest.KEY]


def test_a_partition_named_a_thousand_times_is_read_once(stage: Stage) -> None:
    request = fetch(0)
    request.topics[0].partitions *= 1000
    request.topics *= 2
    stage[1].asks(request, 12)
    answer = stage[1].answer()
    parts = [part for topic in answer.responses for part in topic.partitions]
    assert len(parts) == 1
    assert parts[0].high_watermark == 2


def test_offsets_of_a_partition_are_looked_up_once_or_not_at_all(stage: Stage) -> None:
    twice = [ListOffsetsPartition(timestamp=0), ListOffsetsPartition(timestamp=-1)]
    topic = ListOffsetsTopic(name=TOPIC, partitions=twice)
    stage[1].asks(ListOffsetsRequest(replica_id=-1, topics=[topic]), 7)
    [answer] = stage[1].answer().topics
    assert [part.error_code for part in answer.partitions] == [ErrorCode.INVALID_REQUEST] * 2


def test_a_resource_named_twice_is_described_once(stage: Stage) -> None:
    one = DescribeConfigsResource(resource_type=2, resource_name=TOPIC)
    stage[1].asks(DescribeConfigsRequest(resources=[one] * 500), 4)
    [result] = stage[1].answer().results
    assert result.configs


def test_a_request_names_no_more_than_a_cluster_may_have(stage: Stage) -> None:
    request = fetch(0)
    wanted = request.topics[0]
    wanted.partitions *= LIMITS.request_objects // 2
    request.topics *= 2
    stage[1].asks(request, 12)
    assert stage[1].closed == [1], "a topic more is one too many"
    request = fetch(0)
    request.topics[0].partitions *= LIMITS.cluster_partitions
    stage[1].asks(request, 12)
    assert fetched(stage[1].answer()).error_code == 0


def test_no_more_is_described_than_there_may_be(stage: Stage) -> None:
    one = DescribeConfigsResource(resource_type=2, resource_name=TOPIC)
    stage[1].asks(DescribeConfigsRequest(resources=[one] * LIMITS.cluster_partitions), 4)
    assert len(stage[1].answer().results) == 1
    stage[1].asks(DescribeConfigsRequest(resources=[one] * LIMITS.request_objects), 4)
    assert stage[1].closed == [1]


def test_a_request_that_waits_does_not_keep_its_frame(stage: Stage) -> None:
    class Frame(bytearray):
        """One that can be seen to go."""

    request = fetch(2, min_bytes=1000, max_wait_ms=10_000)
    request.rack_id = "r" * 100_000
    frame = Frame(b"".join(request_frame(request, 12, 7, "test"))[4:] + bytes(100_000))
    gone = weakref.ref(frame)
    stage[1].run(Request(1, memoryview(frame)))
    assert stage[1].core.connections.waiting(1) == 1
    del frame
    assert gone() is None
    [waiter] = stage[1].core.replicas[next(iter(stage[1].core.replicas))].leader.fetches
    assert not waiter.request.rack_id


def test_requests_held_until_a_broker_may_serve_are_bounded_in_bytes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = type(broker_module.LIMITS)(held_request_bytes=2500)
    monkeypatch.setattr(broker_module, "LIMITS", limits)
    member = stage[1]
    member.run(StoodStill(10_000))
    for connection in (1, 2, 3):
        data = batch(bytes(900))
        frame = bytearray(b"".join(request_frame(produce(data=data), 9, 7, "test"))[4:])
        member.run(Request(connection, memoryview(frame)))
    assert member.closed == [3]


def test_a_control_connection_that_was_answered_leaves_nothing_behind(stage: Stage) -> None:
    member = stage[1]
    frame = b"".join(request_frame(fetch(0), 12, 7, "test"))[4:]
    for connection in range(SUPERVISOR - 1, SUPERVISOR - 100, -1):
        member.run(Received(connection, 0, bus.KafkaRequest(), [frame]))
    assert len(member.heard(bus.KafkaResponse)) == 99
    assert min(member.core.connections._calls) > 0
    # A TCP connection is forgotten when it ends.
    member.asks(fetch(0), 12)
    assert fetched(member.answer()).error_code == 0
