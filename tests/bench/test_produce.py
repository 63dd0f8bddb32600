from __future__ import annotations

import pytest

from kcluster.bench import produce
from kcluster.bench.compare import Outcome, Target, mb_per_s, ratio
from kcluster.bench.produce import Load, Round
from kcluster.wire.frame import parse_request_header
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from kcluster.wire.records import check_crc, read_records


@pytest.mark.parametrize("size", [2_000, 16_384, 65_536, 1_000_000])
def test_batches_are_as_large_as_whole_records_allow_and_sound(size: int) -> None:
    batches, records = produce.build(Load(batch_bytes=size, record_bytes=1000))
    for batch in batches:
        assert size - 1100 < len(batch) <= size
        assert check_crc(batch, 0, len(batch))
        assert [len(record.value or b"") for record in read_records(batch)] == [1000] * records


def test_a_record_larger_than_the_batch_is_a_batch_of_its_own() -> None:
    _, records = produce.build(Load(batch_bytes=100, record_bytes=1000))
    assert records == 1


def test_the_ready_head_is_what_the_codec_reads() -> None:
    [batch, *_], _ = produce.build(Load(batch_bytes=3000, record_bytes=100))
    head = produce.produce_head("a-topic", 3, -1, len(batch))
    frame = memoryview(bytearray(head + batch))
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    header, position = parse_request_header(frame[4:])
    assert (header.api_key, header.api_version) == (0, produce.VERSION)
    request = decode(ProduceRequest, frame[4:], produce.VERSION, position)
    assert (request.acks, request.topic_data[0].name) == (-1, "a-topic")
    [data] = request.topic_data[0].partition_data
    assert (data.index, bytes(data.records)) == (3, bytes(batch))


def test_an_answer_has_its_error_where_it_is_looked_for() -> None:
    answer = ProduceResponse(
        responses=[
            TopicProduceResponse(
                name="a-topic", partition_responses=[PartitionProduceResponse(error_code=77)]
            )
        ]
    )
    frame = b"\0\0\0\0" + encode(answer, produce.VERSION)
    at = produce.error_position("a-topic")
    assert len(frame) == produce.answer_size("a-topic")
    assert int.from_bytes(frame[at : at + 2], "big") == 77


def test_figures_are_medians_and_the_ratio_is_between_them() -> None:
    def outcome(*megabytes: int) -> Outcome:
        rounds = [Round(1.0, 1, each * 1_000_000, 1, 0, 0) for each in megabytes]
        return Outcome(Target("x", []), rounds, 1, 1)

    ours = outcome(10, 40, 20)
    assert ours.median(mb_per_s) == 20
    assert ours.spread(mb_per_s) == 1.5
    assert ratio([ours, outcome(5, 5, 9)]) == 4
