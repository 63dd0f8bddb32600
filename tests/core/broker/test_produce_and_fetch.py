"""One broker and its clients; then two, and the whole way of a batch."""

from __future__ import annotations

from kcluster.core.broker.upkeep import RetentionDue
from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.wire import bus
from kcluster.wire.messages.produce import ProduceRequest
from tests.core.broker.stage import (
    TOPIC_ID,
    TP,
    Stage,
    batch,
    fetch,
    fetched,
    produce,
    produced,
    values_of,
)


def single(**configs: str) -> Stage:
    stage = Stage(1)
    stage.create([1], **configs)
    return stage


def pair(**configs: str) -> Stage:
    stage = Stage(2)
    stage.create([1, 2], **configs)
    stage.deliver()
    return stage


def test_a_single_broker_takes_a_batch_and_gives_it_back() -> None:
    stage = single()
    stage[1].asks(produce(b"a", b"b", acks=1), 9)
    part = produced(stage[1].answer())
    assert (part.error_code, part.base_offset) == (0, 0)
    stage[1].asks(fetch(0), 12)
    part = fetched(stage[1].answer())
    assert part.high_watermark == 2
    assert [record.value for record in values_of(part.records)] == [b"a", b"b"]


def test_all_versions_of_produce_and_fetch_are_served() -> None:
    stage = single()
    for version in range(3, 14):
        request = produce(b"x")
        request.topic_data[0].topic_id = TOPIC_ID
        stage[1].asks(request, version)
        assert produced(stage[1].answer()).base_offset == version - 3
    for version in range(4, 19):
        request = fetch(0)
        request.topics[0].topic_id = TOPIC_ID
        stage[1].asks(request, version)
        part = fetched(stage[1].answer())
        assert part.error_code == 0
        assert len(values_of(part.records)) == 11


def test_acks_all_is_answered_when_the_follower_holds_the_batch() -> None:
    stage = pair()
    stage[1].asks(produce(b"a"), 9)
    assert stage[1].answers() == []
    assert stage[1].log.high_watermark == 0
    stage.deliver()
    assert produced(stage[1].answer()).error_code == 0
    assert stage[2].records() == [b"a"]
    assert stage[1].log.high_watermark == 1


def test_the_high_watermark_reaches_followers_without_data() -> None:
    stage = pair()
    stage[1].asks(produce(b"a"), 9)
    stage.deliver()
    assert stage[2].log.high_watermark == 0
    stage.wait(20)
    assert stage[2].log.high_watermark == 1


def test_acks_1_does_not_wait_for_followers() -> None:
    stage = pair()
    stage[1].asks(produce(b"a", acks=1), 9)
    assert produced(stage[1].answer()).error_code == 0


def test_acks_0_is_not_answered_and_an_error_closes_the_connection() -> None:
    stage = single()
    stage[1].asks(produce(b"a", acks=0), 9)
    assert stage[1].answers() == []
    assert stage[1].closed == []
    assert stage[1].records() == [b"a"]
    stage[1].asks(produce(acks=0, data=b"rubbish"), 9)
    assert stage[1].answers() == []
    assert stage[1].closed == [1]


def test_all_batches_of_a_turn_travel_in_one_push_and_one_acknowledgement() -> None:
    stage = pair()
    member = stage[1]
    from kcluster.core.turn import Request
    from kcluster.wire.frame import request_frame

    events = []
    for n in range(5):
        frame = b"".join(bytes(p) for p in request_frame(produce(b"%d" % n), 9, n, "test"))
        member._asked[1, n] = (0, 9)
        events.append(Request(1, memoryview(bytearray(frame[4:]))))
    member.run(*events)
    [push] = stage.waiting(bus.Push)
    assert len(push.entries) == 1
    while stage.waiting(bus.Push):
        stage._pass_on(*stage.wires.pop(0), None)
    [ack] = stage.waiting(bus.Ack)
    assert [entry.log_end_offset for entry in ack.entries] == [5]
    stage.deliver()
    assert [produced(answer).base_offset for answer in member.answers()] == [0, 1, 2, 3, 4]


def test_produce_waits_no_longer_than_it_asked_for() -> None:
    stage = pair()
    stage[1].asks(produce(b"a", timeout_ms=1000), 9)
    stage.wait(1200, deliver=False)
    assert produced(stage[1].answer()).error_code == ErrorCode.REQUEST_TIMED_OUT
    # What it waited for comes about afterwards, and nobody is told twice.
    stage.deliver()
    assert stage[1].log.high_watermark == 1
    assert stage[1].answers() == []


def test_too_small_an_isr_is_refused_before_anything_is_appended() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1], min_insync_replicas="2")
    stage[1].asks(produce(b"a"), 9)
    assert produced(stage[1].answer()).error_code == ErrorCode.NOT_ENOUGH_REPLICAS
    assert stage[1].log.log_end_offset == 0


def test_the_high_watermark_stands_still_below_min_isr() -> None:
    stage = Stage(3)
    stage.create([1, 2, 3], min_insync_replicas="2")
    stage.deliver()
    stage[1].asks(produce(b"a"), 9)
    # The ISR shrinks below the minimum before any follower has acknowledged.
    stage.change(isr=[1])
    stage.deliver()
    assert stage[1].answers() == []
    assert stage[1].log.high_watermark == 0
    stage.change(isr=[1, 2])
    stage.deliver()
    assert produced(stage[1].answer()).error_code == 0


def test_min_isr_is_never_more_than_the_number_of_replicas() -> None:
    stage = Stage(1)
    stage.create([1], min_insync_replicas="2")
    stage[1].asks(produce(b"a"), 9)
    assert produced(stage[1].answer()).error_code == 0


def test_a_lost_leadership_ends_the_wait_and_names_the_new_leader() -> None:
    stage = pair()
    stage[1].asks(produce(b"a"), 10)
    stage.change(leader=2, isr=[1, 2])
    response = stage[1].answer()
    part = produced(response)
    assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (part.current_leader.leader_id, part.current_leader.leader_epoch) == (2, 1)
    assert [(node.node_id, node.port) for node in response.node_endpoints] == [(2, 9092)]


def test_a_duplicate_waits_for_the_high_watermark_as_its_original_did() -> None:
    stage = pair()
    data = batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0)
    stage[1].asks(produce(data=data), 9, correlation=1)
    stage[1].asks(produce(data=data), 9, correlation=2)
    assert stage[1].answers() == []
    stage.deliver()
    assert [produced(answer).base_offset for answer in stage[1].answers()] == [0, 0]
    assert stage[1].records() == [b"a"]


def test_transactional_batches_and_replica_fetches_are_refused() -> None:
    stage = single()
    request = ProduceRequest(
        transactional_id="t", acks=-1, topic_data=produce(b"a").topic_data, timeout_ms=1
    )
    stage[1].asks(request, 9)
    assert produced(stage[1].answer()).error_code == ErrorCode.INVALID_TXN_STATE
    request = fetch(0)
    request.replica_id = 2
    stage[1].asks(request, 12)
    assert stage[1].answer().error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED


def test_fetch_waits_for_bytes_and_no_longer_than_max_wait() -> None:
    stage = single()
    stage[1].asks(fetch(0, max_wait_ms=400), 12, correlation=1)
    assert stage[1].answers() == []
    stage[1].asks(produce(b"a", acks=1), 9, connection=2)
    waited, written = stage[1].answers()
    if hasattr(written.responses[0], "partitions"):
        waited, written = written, waited
    assert len(fetched(written if hasattr(written.responses[0], "partitions") else waited).records)
    stage[1].asks(fetch(1, max_wait_ms=400), 12, correlation=3)
    stage.wait(300)
    assert stage[1].answers() == []
    stage.wait(200)
    assert not fetched(stage[1].answer()).records


def test_a_consumer_sees_nothing_above_the_high_watermark() -> None:
    stage = pair()
    stage[1].asks(produce(b"a", acks=1), 9)
    stage[1].answers()
    stage[1].asks(fetch(0, max_wait_ms=0), 12)
    part = fetched(stage[1].answer())
    assert (part.high_watermark, part.last_stable_offset, bytes(part.records)) == (0, 0, b"")
    # Between high watermark and log end there is nothing yet; beyond, it is out of range.
    stage[1].asks(fetch(1, max_wait_ms=0), 12)
    assert fetched(stage[1].answer()).error_code == 0
    stage[1].asks(fetch(2, max_wait_ms=0), 12)
    assert fetched(stage[1].answer()).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_fetch_gives_at_least_one_batch_and_never_half_of_one() -> None:
    stage = single()
    for _ in range(3):
        stage[1].asks(produce(b"x" * 100, acks=1), 9)
    stage[1].answers()
    stage[1].asks(fetch(0, max_bytes=1), 12)
    assert len(values_of(fetched(stage[1].answer()).records)) == 1
    stage[1].asks(fetch(0, max_bytes=450), 12)
    assert len(values_of(fetched(stage[1].answer()).records)) == 2


def test_a_read_that_ends_within_a_segment_does_not_go_on_in_the_next() -> None:
    stage = Stage(1)
    stage.create([1], segment_bytes="300")
    for size in (10, 100, 10, 10, 100, 10):
        stage[1].asks(produce(b"x" * size, acks=1), 9)
    assert len(stage[1].log.segments()) > 1
    stage[1].answers()
    for max_bytes in range(1, 800, 7):
        stage[1].asks(fetch(0, max_bytes=max_bytes), 12)
        offsets = [record.offset for record in values_of(fetched(stage[1].answer()).records)]
        assert offsets == list(range(len(offsets)))


def test_epochs_fence_clients_old_and_new() -> None:
    stage = pair()
    stage.change(leader=1, isr=[1, 2])
    for epoch, error in (
        (0, ErrorCode.FENCED_LEADER_EPOCH),
        (1, ErrorCode.NONE),
        (2, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        stage[1].asks(fetch(0, max_wait_ms=0, current_leader_epoch=epoch), 12)
        assert fetched(stage[1].answer()).error_code == error


def test_who_has_no_replica_names_the_leader() -> None:
    stage = Stage(3)
    stage.create([1, 2])
    stage[3].asks(fetch(0, max_wait_ms=0), 16)
    response = stage[3].answer()
    assert fetched(response).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert fetched(response).current_leader.leader_id == 1
    assert response.node_endpoints[0].port == 9091


def test_a_session_is_never_made_and_never_found() -> None:
    stage = single()
    request = fetch(0, max_wait_ms=0)
    request.session_epoch = 0
    stage[1].asks(request, 12)
    assert stage[1].answer().session_id == 0
    request.session_id, request.session_epoch = 3, 4
    stage[1].asks(request, 12)
    assert stage[1].answer().error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_unknown_topics_partitions_and_ids_have_their_errors() -> None:
    stage = single()
    request = produce(b"a")
    request.topic_data[0].name = "other"
    stage[1].asks(request, 9)
    assert produced(stage[1].answer()).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    request.topic_data[0].topic_id = bytes(15) + b"x"
    stage[1].asks(request, 13)
    assert produced(stage[1].answer()).error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_answers_leave_in_the_order_of_the_requests() -> None:
    stage = pair()
    stage[1].asks(produce(b"a"), 9, correlation=1)
    stage[1].asks(fetch(9, max_wait_ms=0), 12, correlation=2)
    assert stage[1].answers() == []
    stage.deliver()
    first, second = stage[1].answers()
    assert produced(first).error_code == 0
    assert fetched(second).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_a_topic_of_another_broker_is_not_served_here() -> None:
    stage = Stage(2)
    stage.create([2])
    stage[1].asks(produce(b"a"), 10)
    part = produced(stage[1].answer())
    assert part.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert part.current_leader.leader_id == 2


def test_a_topic_made_again_under_its_name_begins_empty() -> None:
    stage = single()
    stage[1].asks(produce(b"old", acks=1), 9)
    other = bytes(16 * [7])
    stage.dictate(
        r.TopicDeleted(TOPIC_ID),
        r.TopicCreated("orders", other),
        r.PartitionChanged(other, 0, [1], [1], 1, 0, 0),
    )
    assert stage[1].replica.topic_id == other
    assert stage[1].log.log_end_offset == 0
    assert [n for n in stage[1].disk.list("") if "orders" in n] == ["orders-0"]


def test_a_directory_that_metadata_does_not_know_is_set_aside() -> None:
    stage = single()
    stage[1].asks(produce(b"precious", acks=1), 9)
    stage.records, stage.offset = [], 100
    disk = stage[1].disk
    member = stage.members[1] = type(stage[1])(stage, 1, 2, disk, "crash")
    member.run()
    member.hears(0, bus.Registered(2, 100, 101), r.encode_all([]))
    [name] = [n for n in disk.list("") if "orders" in n]
    assert name.endswith("-stray")
    assert TP not in member.core.replicas


def test_what_retention_deletes_leaves_the_disk_after_the_delay() -> None:
    stage = single(retention_bytes="0", file_delete_delay_ms="1000")
    member = stage[1]
    member.asks(produce(b"a", acks=1), 9)
    member.answer()
    member.run(RetentionDue())
    assert member.log.log_start_offset == 1
    assert any(name.endswith(".log.deleted") for name in member.disk.list("orders-0"))
    stage.wait(1000)
    assert not any(name.endswith(".deleted") for name in member.disk.list("orders-0"))
