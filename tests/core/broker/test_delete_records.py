"""DeleteRecords: gone for readers at once, for restarts and other leaders by the answer."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.wire.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from kcluster.wire.records import Record, build_batch

from .stage import Member, Stage, fetch, fetched, produce

EARLIEST = -2


def trim(offset: int, topic: str = "orders", timeout_ms: int = 30_000) -> DeleteRecordsRequest:
    part = DeleteRecordsPartition(partition_index=0, offset=offset)
    return DeleteRecordsRequest(
        topics=[DeleteRecordsTopic(name=topic, partitions=[part])], timeout_ms=timeout_ms
    )


def trimmed(response: Any) -> tuple[int, int]:
    part = response.topics[0].partitions[0]
    return part.error_code, part.low_watermark


def filled(brokers: int = 1, **configs: str) -> Stage:
    """Ten batches of one record, committed everywhere."""
    stage = Stage(brokers)
    stage.create(list(range(1, brokers + 1)), **configs)
    stage.deliver()
    for number in range(10):
        record = Record(b"%d" % number, key=b"k")
        stage[1].asks(produce(data=bytes(build_batch([record]))), 9)
        stage.deliver()
    stage.wait(50)
    for id in range(1, brokers + 1):
        stage[id].answers()
    return stage


def earliest(member: Member) -> int:
    part = ListOffsetsPartition(partition_index=0, timestamp=EARLIEST)
    member.asks(
        ListOffsetsRequest(
            replica_id=-1, topics=[ListOffsetsTopic(name="orders", partitions=[part])]
        ),
        7,
    )
    return int(member.answer().topics[0].partitions[0].offset)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_lonely_leader_answers_at_once(version: int) -> None:
    stage = filled()
    stage[1].asks(trim(4), version)
    assert trimmed(stage[1].answer()) == (0, 4)
    assert earliest(stage[1]) == 4
    stage[1].asks(fetch(3), 11)
    assert fetched(stage[1].answer()).error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_minus_one_is_the_high_watermark() -> None:
    stage = filled()
    stage[1].asks(trim(-1), 2)
    assert trimmed(stage[1].answer()) == (0, 10)


def test_what_is_below_the_log_start_is_gone_already() -> None:
    stage = filled()
    stage[1].asks(trim(6), 2)
    stage[1].asks(trim(2), 2)
    assert [trimmed(answer) for answer in stage[1].answers()] == [(0, 6), (0, 6)]


@pytest.mark.parametrize("offset", [11, -2])
def test_offsets_that_are_not_there_are_out_of_range(offset: int) -> None:
    stage = filled()
    stage[1].asks(trim(offset), 2)
    assert trimmed(stage[1].answer()) == (ErrorCode.OFFSET_OUT_OF_RANGE, -1)
    assert earliest(stage[1]) == 0


def test_the_answer_waits_until_every_live_replica_has_moved() -> None:
    stage = filled(3)
    stage[1].asks(trim(7), 2)
    assert not stage[1].answers()
    stage.wait(20, deliver=False)
    stage.deliver(drop=lambda source, target, _: 3 in (source, target))
    assert stage[2].log.log_start_offset == 7
    assert not stage[1].answers(), "broker 3 has not heard of it"
    stage.wait(1200)
    assert trimmed(stage[1].answer()) == (0, 7)
    assert stage[3].log.log_start_offset == 7


def test_a_broker_that_is_fenced_is_waited_for_no_longer() -> None:
    stage = filled(3)
    stage.kill(3)
    stage[1].asks(trim(7), 2)
    stage.wait(100)
    assert not stage[1].answers()
    stage.dictate(r.BrokerFenced(3, stage[1].core.image.brokers[3].broker_epoch))
    stage.change(isr=[1, 2])
    stage.wait(20)
    assert trimmed(stage[1].answer()) == (0, 7)


def test_a_silent_replica_makes_it_time_out_and_the_records_are_gone_here() -> None:
    stage = filled(3)
    stage.kill(3)
    stage[1].asks(trim(7, timeout_ms=200), 2)
    stage.wait(250)
    assert trimmed(stage[1].answer()) == (ErrorCode.REQUEST_TIMED_OUT, -1)
    assert earliest(stage[1]) == 7


def test_a_killed_broker_does_not_bring_the_records_back() -> None:
    stage = filled(2)
    stage[1].asks(trim(7), 2)
    stage.wait(50)
    assert trimmed(stage[1].answer()) == (0, 7)
    for id in (1, 2):
        stage.restart(id, "crash")
    assert [stage[id].log.log_start_offset for id in (1, 2)] == [7, 7]
    assert stage[1].records() == [b"7", b"8", b"9"]


def test_a_power_cut_does_not_bring_the_records_back() -> None:
    stage = filled(3, flush_messages="1")
    stage[1].asks(trim(7), 2)
    stage.wait(1200)
    assert trimmed(stage[1].answer()) == (0, 7)
    for id in (1, 2, 3):
        stage[id].disk.lose_power()
        assert stage.restart(id, "lossy").log.log_start_offset == 7


def test_a_log_that_goes_offline_keeps_where_it_begins() -> None:
    stage = filled()
    stage[1].asks(trim(4), 2)
    assert trimmed(stage[1].answer()) == (0, 4)
    stage[1].disk.fail_next[f"orders-0/{0:020}.log"] = errno.EIO
    stage[1].asks(produce(data=bytes(build_batch([Record(b"x")]))), 9)
    assert stage[1].replica.offline
    stage.wait(61_000)  # Checkpoints are written meanwhile.
    assert stage.restart(1, "crash").log.log_start_offset == 4


def test_another_leader_does_not_bring_them_back_either() -> None:
    stage = filled(2)
    stage[1].asks(trim(7), 2)
    stage.wait(50)
    assert trimmed(stage[1].answer()) == (0, 7)
    stage.kill(1)
    stage.change(leader=2, isr=[2])
    assert earliest(stage[2]) == 7


def test_a_leader_that_resigns_says_so() -> None:
    stage = filled(2)
    stage[1].asks(trim(7), 2)
    stage.change(leader=2)
    assert trimmed(stage[1].answer()) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)


def test_whole_segments_leave_the_disk() -> None:
    stage = filled()
    replica = stage[1].replica
    replica.log.roll(stage[1].turn)
    stage[1].run()
    stage[1].asks(produce(b"10"), 9)
    stage[1].answers()
    stage[1].asks(trim(10), 2)
    assert trimmed(stage[1].answer()) == (0, 10)
    assert [base for base, _ in replica.log.segments()] == [10]


def test_a_truncation_below_the_log_start_takes_the_checkpoint_along() -> None:
    """Or a crash afterwards would take the log for an emptied one."""
    stage = filled(2)
    stage[1].asks(trim(7), 2)
    stage.wait(50)
    assert b"orders 0 7" in stage[2].disk.read("log-start-offset-checkpoint", 0, 1000)
    stage[2].holds_syncs = True
    stage[2].replica.log.truncate_to(stage[2].turn, 3)
    stage[2].run()
    assert b"orders 0 3" in stage[2].disk.read("log-start-offset-checkpoint", 0, 1000)


def test_a_topic_that_is_only_compacted_keeps_its_records() -> None:
    stage = filled(cleanup_policy="compact")
    stage[1].asks(trim(3), 2)
    assert trimmed(stage[1].answer()) == (ErrorCode.POLICY_VIOLATION, -1)


def test_a_topic_that_is_compacted_and_deleted_may_be_trimmed() -> None:
    stage = filled(cleanup_policy="compact,delete")
    stage[1].asks(trim(3), 2)
    assert trimmed(stage[1].answer()) == (0, 3)


def test_who_is_no_leader_or_knows_no_such_partition_refuses() -> None:
    stage = filled(2)
    stage[2].asks(trim(3), 2)
    assert trimmed(stage[2].answer()) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)
    stage[1].asks(trim(3, topic="gone"), 2)
    assert trimmed(stage[1].answer()) == (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1)
    stage[1].asks(trim(3, topic="__consumer_offsets"), 2)
    assert trimmed(stage[1].answer()) == (ErrorCode.INVALID_TOPIC_EXCEPTION, -1)
