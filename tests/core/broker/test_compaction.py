"""A broker has its logs compacted: what it asks for, what it makes of the answer, who notices."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.core import traces
from kcluster.core.log.compaction.cleaning import carry_out
from kcluster.core.log.compaction.job import JOB_FILE
from kcluster.core.metadata import records as r
from kcluster.core.turn import Received, Request, Synced
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, SUPERVISOR
from kcluster.wire import bus
from kcluster.wire.frame import request_frame
from kcluster.wire.records import Record, batches, build_batch
from tests.core.broker.stage import TOPIC_ID, Member, Stage, fetch, fetched, produce, produced
from tests.core.broker.test_delete_records import trim

BACKOFF_MS = 1000
SETTINGS = {
    "log_segment_bytes": "300",
    "log_cleaner_backoff_ms": str(BACKOFF_MS),
    "log_cleaner_min_cleanable_ratio": "0",
    "log_segment_delete_delay_ms": "100",
}


def stage(brokers: int = 1, **configs: str) -> Stage:
    made = Stage(brokers, **SETTINGS)
    made.create(list(range(1, brokers + 1)), cleanup_policy="compact", **configs)
    made.deliver()
    return made


def keyed(key: bytes, value: bytes | None) -> bytes:
    record = Record(value, key, timestamp=1_700_000_000_000)
    return bytes(build_batch([record]))


def write(made: Stage, count: int, keys: int = 2, leader: int = 1) -> None:
    for n in range(count):
        made[leader].asks(produce(data=keyed(b"k%d" % (n % keys), b"%d" % n + bytes(40))), 9)
        made.deliver()
        made[leader].answers()


def asked(made: Stage, id: int = 1) -> bus.StartCompaction:
    """Let the next look come, and tell what the broker then asks its supervisor for."""
    made[id].heard(bus.StartCompaction)
    made.wait(BACKOFF_MS)
    [found] = made[id].heard(bus.StartCompaction)
    assert isinstance(found, bus.StartCompaction)
    return found


def work(member: Member) -> None:
    for operation in carry_out(member.disk):
        assert member.disk.perform(operation) == 0


def end(member: Member, job: bus.StartCompaction, status: int = 0) -> None:
    member.hears(SUPERVISOR, bus.CompactionEnded(job.number, status))


def compact(made: Stage, id: int = 1) -> traces.LogCompacted:
    job = asked(made, id)
    work(made[id])
    end(made[id], job)
    told: traces.LogCompacted = made[id].traced(traces.LogCompacted)[-1]
    return told


def offsets(part: Any) -> list[tuple[int, int, int]]:
    data = memoryview(bytes(part.records))
    return [(h.base_offset, h.last_offset, h.record_count) for _, h in batches(data)]


def test_a_dirty_log_is_compacted_and_read_from_its_first_record_on() -> None:
    made = stage()
    write(made, 20)
    told = compact(made)
    assert told.records_before == told.cleaned_end == 18
    assert told.records_after == 2
    made[1].asks(fetch(0), 12)
    assert offsets(fetched(made[1].answer())) == [
        (16, 16, 1),
        (17, 17, 1),
        (18, 18, 1),
        (19, 19, 1),
    ]
    assert made[1].log.log_start_offset == 0
    assert b"orders 0 18" in made[1].disk.read("cleaner-offset-checkpoint", 0, 99)
    made.wait(100)
    assert not [name for name in made[1].disk.files if name.endswith(".deleted")]


def test_where_it_was_compacted_to_is_known_after_a_restart() -> None:
    made = stage()
    write(made, 20)
    compact(made)
    made.restart(1)
    assert made[1].log.first_dirty_offset == 18
    made.wait(3 * BACKOFF_MS)
    assert not made[1].heard(bus.StartCompaction)


def test_a_topic_that_is_not_compacted_is_left_alone() -> None:
    made = Stage(1, **SETTINGS)
    made.create([1])
    write(made, 20)
    made.wait(3 * BACKOFF_MS)
    assert not made[1].heard(bus.StartCompaction)


def test_a_job_is_asked_for_until_its_end_is_heard() -> None:
    made = stage()
    write(made, 20)
    job = asked(made)
    assert asked(made) == asked(made) == job
    work(made[1])
    end(made[1], job)
    assert made[1].traced(traces.LogCompacted)
    end(made[1], job)
    assert len(made[1].traced(traces.LogCompacted)) == 1


def test_one_log_at_a_time() -> None:
    made = Stage(1, **SETTINGS)
    made.create([1], cleanup_policy="compact")
    other = bytes(reversed(TOPIC_ID))
    made.dictate(
        r.ConfigChanged(2, "more", "cleanup.policy", "compact"),
        r.TopicCreated("more", other),
        r.PartitionChanged(other, 0, [1], [1], 1, 0, 0),
    )
    write(made, 20)
    asked(made)
    size = made[1].disk.size(JOB_FILE)
    assert size > 0
    made.wait(5 * BACKOFF_MS)
    assert {job.number for job in made[1].heard(bus.StartCompaction)} == {1}


def test_a_compactor_that_fails_leaves_the_log_as_it_was_and_is_tried_again_later() -> None:
    made = stage()
    write(made, 20)
    before = made[1].records()
    job = asked(made)
    for number, operation in enumerate(carry_out(made[1].disk)):
        if number == 3:
            break
        made[1].disk.perform(operation)
    end(made[1], job, -9)
    assert "was not compacted" in made[1].traced(traces.Warned)[-1].text
    assert not [name for name in made[1].disk.files if name.endswith(".cleaned")]
    assert made[1].records() == before
    assert made[1].core.upkeep.compactions.failures == 1
    made.wait(2 * BACKOFF_MS)
    assert not made[1].heard(bus.StartCompaction)
    made.wait(3 * BACKOFF_MS)
    [again] = {job.number for job in made[1].heard(bus.StartCompaction)}
    assert again == job.number + 1


def test_damage_that_a_compactor_finds_takes_the_log_offline() -> None:
    made = stage()
    write(made, 20)
    job = asked(made)
    made[1].disk.files["orders-0/00000000000000000000.log"].data[70] ^= 1
    work(made[1])
    end(made[1], job)
    assert "CRC" in made[1].replica.offline


def test_a_topic_deleted_meanwhile_is_nobodys() -> None:
    made = stage()
    write(made, 20)
    job = asked(made)
    work(made[1])
    made.dictate(r.TopicDeleted(TOPIC_ID))
    made.create([1], cleanup_policy="compact")
    end(made[1], job)
    assert not made[1].traced(traces.LogCompacted)
    assert made[1].log.log_end_offset == 0
    assert not [name for name in made[1].disk.files if name.endswith((".cleaned", ".swap"))]


def test_a_topic_deleted_in_the_turn_of_its_swap_leaves_its_successor_alone() -> None:
    made = stage()
    write(made, 20)
    member = made[1]
    job = asked(made)
    work(member)
    member.holds_syncs = True
    end(member, job)
    member.holds_syncs = False
    syncs, member.syncs = member.syncs, []
    for sync in syncs:
        member.disk.perform(sync)
    records = [r.TopicDeleted(TOPIC_ID)]
    delta = bus.MetadataDelta(made.offset, made.offset + 1)
    made.records += records
    made.offset += 1
    member.run(
        *(Synced(sync.path, sync.token) for sync in syncs),
        Received(COORDINATOR, 1, delta, (r.encode_all(records),)),
    )
    assert "errno" not in str(member.traced(traces.Warned))
    made.create([1], cleanup_policy="compact")
    assert not member.replica.offline
    write(made, 20)
    assert compact(made).records_after == 2


def test_a_fetch_and_a_swap_in_one_turn_do_not_mix() -> None:
    made = stage()
    write(made, 20)
    member = made[1]
    job = asked(made)
    work(member)
    member.holds_syncs = True
    end(member, job)
    member.holds_syncs = False
    # The syncs come back in one turn with a fetch before and a fetch behind them.
    parts = request_frame(fetch(0), 12, 7, "test")
    frame = memoryview(bytearray(b"".join(bytes(part) for part in parts))[4:])
    member._asked[1, 7] = (1, 12)
    syncs, member.syncs = member.syncs, []
    assert syncs
    for sync in syncs:
        member.disk.perform(sync)
    events = (Synced(sync.path, sync.token) for sync in syncs)
    member.run(Request(1, frame), *events, Request(1, frame))
    first, second = member.answers()
    assert len(offsets(fetched(first))) == len(offsets(fetched(second))) == 20
    assert member.traced(traces.LogCompacted)
    member.asks(fetch(0), 12)
    assert len(offsets(fetched(member.answer()))) == 4


def test_a_follower_that_stands_inside_an_empty_batch_catches_up() -> None:
    made = stage(3)
    write(made, 5)
    dark = made[3]
    made.kill(3)
    made.change(isr=[1, 2])
    write(made, 21)
    compact(made)
    write(made, 4)
    compact(made)
    first = next(h for _, h in batches(memoryview(made[1].log.read_bytes(0, 999, 30)[0])))
    assert first.record_count == 0
    assert first.base_offset < dark.log.log_end_offset <= first.last_offset
    made.members[3] = dark
    made.restart(3)
    made.deliver()
    made.wait(1000)
    assert made[3].log.log_end_offset == made[1].log.log_end_offset == 30
    assert made[3].records()[-4:] == made[1].records()[-4:]
    assert not [w for w in made[3].traced(traces.Warned) if "refused" in w.text]


def test_a_record_without_a_key_is_refused_by_its_number() -> None:
    made = stage()
    data = bytes(build_batch([Record(b"1", b"a"), Record(b"2"), Record(b"3")]))
    made[1].asks(produce(data=data), 9)
    told = produced(made[1].answer())
    assert told.error_code == ErrorCode.INVALID_RECORD
    assert told.base_offset == -1
    assert [error.batch_index for error in told.record_errors] == [1, 2]
    assert "without key" in told.record_errors[0].batch_index_error_message
    assert made[1].log.log_end_offset == 0


@pytest.mark.parametrize("is_begun", [True, False])
def test_what_is_deleted_under_a_compactor_is_no_damage(is_begun: bool) -> None:
    made = Stage(1, **SETTINGS)
    made.create([1], cleanup_policy="compact,delete")
    write(made, 20)
    member = made[1]
    job = asked(made)
    operations = carry_out(member.disk)
    if is_begun:
        member.disk.perform(next(operations))
    member.asks(trim(9), 2)
    made.wait(200)
    for operation in operations:
        assert member.disk.perform(operation) == 0
    end(member, job)
    assert not member.replica.offline
    assert not [name for name in member.disk.files if name.endswith((".cleaned", ".swap"))]
    assert compact(made).records_after == 2
    assert len(member.records()) == 4
