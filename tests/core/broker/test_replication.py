"""Leaders and followers: what is lost, repeated, late, restarted, cut off."""

from __future__ import annotations

from typing import Any

from kcluster.core import traces
from kcluster.core.broker.upkeep import MarksDue, RetentionDue
from kcluster.core.metadata import records as r
from kcluster.core.replication import follower
from kcluster.core.turn import Received, Sync, Synced
from kcluster.errors import ErrorCode
from kcluster.model import SUPERVISOR
from kcluster.wire import bus
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from kcluster.wire.records import Record, build_batch
from tests.core.broker.stage import TOPIC_ID, Member, Stage, fetch, fetched, produce, produced


def trio(**settings: str) -> Stage:
    stage = Stage(3, **settings)
    stage.create([1, 2, 3], min_insync_replicas="2")
    stage.deliver()
    return stage


def latest(member: Any) -> Any:
    request = ListOffsetsRequest(
        replica_id=-1,
        topics=[
            ListOffsetsTopic(
                name="orders", partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)]
            )
        ],
    )
    member.asks(request, 7)
    return member.answer().topics[0].partitions[0]


def write(stage: Stage, leader: int, *values: bytes) -> None:
    stage[leader].asks(produce(*values), 9)


def test_a_lost_push_is_healed_by_the_gap_that_the_next_one_shows() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver(lambda source, target, m: isinstance(m, bus.Push) and target == 2)
    write(stage, 1, b"b")
    stage.deliver()
    assert stage[2].records() == [b"a", b"b"]
    assert [produced(answer).error_code for answer in stage[1].answers()] == [0, 0]


def test_a_lost_last_push_is_healed_by_a_probe() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver(lambda source, target, m: isinstance(m, bus.Push))
    assert stage[1].answers() == []
    stage.wait(2000)
    assert produced(stage[1].answer()).error_code == 0


def test_a_lost_acknowledgement_is_healed_by_a_probe() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver(lambda source, target, m: isinstance(m, bus.Ack))
    stage.wait(2000)
    assert produced(stage[1].answer()).error_code == 0


def test_a_lost_open_is_asked_again() -> None:
    stage = Stage(2)
    stage.create([1, 2])
    stage.deliver(lambda source, target, m: isinstance(m, bus.Open))
    write(stage, 1, b"a")
    stage.wait(1500)
    assert produced(stage[1].answer()).error_code == 0


def test_messages_that_come_twice_change_nothing() -> None:
    stage = trio()
    for value in (b"a", b"b", b"c"):
        write(stage, 1, value)
        while stage.wires:
            wire = stage.wires.pop(0)
            stage._pass_on(*wire, None)
            stage._pass_on(*wire, None)
    for id in (1, 2, 3):
        assert stage[id].records() == [b"a", b"b", b"c"]
    assert len(stage[1].answers()) == 3


def test_messages_in_reverse_order_end_in_the_same_log() -> None:
    stage = trio()
    for value in (b"a", b"b", b"c", b"d"):
        write(stage, 1, value)
    stage.wires.reverse()
    stage.deliver()
    stage.wait(2000)
    for id in (1, 2, 3):
        assert stage[id].records() == [b"a", b"b", b"c", b"d"]


def test_an_idle_cluster_falls_silent() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    stage.wait(1000)
    count = 0

    def counting(source: int, target: int, message: bus.Message) -> bool:
        nonlocal count
        count += 1
        return False

    for _ in range(4):
        stage.wait(1000, deliver=False)
        stage.deliver(counting)
    # Two followers state their position once in five seconds.
    assert count <= 4


def test_a_follower_behind_is_fed_from_the_file_within_its_credit() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.wires.clear()
    blob = b"x" * 500_000
    for _ in range(20):
        write(stage, 1, blob)
    unacknowledged = 0

    def watch(source: int, target: int, message: bus.Message) -> bool:
        nonlocal unacknowledged
        peer = stage[1].core.outgoing.peers.get(2)
        if peer is not None:
            unacknowledged = max(unacknowledged, peer.unacknowledged_bytes)
        return False

    stage.deliver(watch)
    stage.wait(1000)
    stage.deliver(watch)
    assert stage[2].records() == [blob] * 20
    assert unacknowledged <= 4 << 20
    assert stage[1].core.outgoing.peers[2].unacknowledged_bytes == 0


def test_a_follower_that_lags_leaves_the_isr_only_when_the_controller_says_so() -> None:
    stage = trio(replica_lag_time_max_ms="1000")
    drop = lambda source, target, m: 3 in (source, target)  # noqa: E731
    stage.deliver(drop)
    for _ in range(4):
        write(stage, 1, b"a")
        stage.deliver(drop)
        stage.wait(500, deliver=False)
        stage.deliver(drop)
    [change, *_] = stage[1].heard(bus.AlterPartition)
    assert sorted(change.changes[0].isr) == [1, 2]
    leader = stage[1].replica.leader
    # Invariant 4: until it is granted, the high watermark waits for broker 3.
    assert leader.maximal_isr == {1, 2, 3}
    assert stage[1].log.high_watermark == 0
    outcome = bus.IsrOutcome(TOPIC_ID, 0, 0, 0, 1, [1, 2])
    stage[1].hears(0, bus.PartitionAltered(change.request, [outcome]))
    assert stage[1].log.high_watermark == 4
    assert leader.maximal_isr == {1, 2}


def test_a_refused_change_is_rolled_back() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.deliver()
    [change] = stage[1].heard(bus.AlterPartition)
    leader = stage[1].replica.leader
    assert leader.maximal_isr == {1, 2}
    refusal = bus.IsrOutcome(TOPIC_ID, 0, ErrorCode.INELIGIBLE_REPLICA)
    stage[1].hears(0, bus.PartitionAltered(change.request, [refusal]))
    assert leader.maximal_isr == {1}
    assert stage[1].traced(traces.IsrRefused)


def test_an_unclear_answer_leaves_the_proposal_standing() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.deliver()
    [change] = stage[1].heard(bus.AlterPartition)
    refusal = bus.IsrOutcome(TOPIC_ID, 0, ErrorCode.INVALID_UPDATE_VERSION)
    stage[1].hears(0, bus.PartitionAltered(change.request, [refusal]))
    # An earlier copy may have been granted: the high watermark goes on waiting for broker 2.
    assert stage[1].replica.leader.maximal_isr == {1, 2}


def test_a_follower_outside_the_isr_joins_with_the_epoch_of_its_own_incarnation() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.deliver()
    [change] = stage[1].heard(bus.AlterPartition)
    image = stage[1].core.image
    assert change.changes[0].isr == [1, 2]
    assert change.changes[0].isr_broker_epochs == [
        image.brokers[1].broker_epoch,
        image.brokers[2].broker_epoch,
    ]
    # Without an answer it is asked again, and again the same.
    stage.wait(1600)
    again = stage[1].heard(bus.AlterPartition)
    assert again and again[0].changes == change.changes


def test_a_new_leader_truncates_the_old_one_by_epochs() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    # Only the leader has this one.
    write(stage, 1, b"lost")
    stage.wires.clear()
    stage.change(leader=2, isr=[1, 2, 3])
    stage.deliver()
    write(stage, 2, b"b")
    stage.deliver()
    for id in (1, 2, 3):
        assert stage[id].records() == [b"a", b"b"]
    assert stage[1].traced(traces.Truncated)


def test_truncation_is_a_dialogue_over_several_epochs() -> None:
    """KIP-279: two logs that grew apart in several epochs agree on their last common one."""
    stage = Stage(2)
    stage.create([1, 2], isr=[1, 2])
    stage.deliver()
    write(stage, 1, b"0")
    stage.deliver()
    # Epochs 1 and 3 are led by broker 1 alone, 2 and 4 by broker 2 alone.
    for leader in (1, 2, 1, 2):
        stage.change(leader=leader, isr=[leader], to=[leader])
        stage[leader].asks(produce(b"%d" % leader, acks=1), 9)
        stage.wires.clear()
    stage.tell(1)
    stage.wait(2000)
    assert stage[1].records() == stage[2].records()
    assert stage[1].log.end_offset_for_epoch(4) == stage[2].log.end_offset_for_epoch(4)


def test_a_new_leader_knows_no_latest_offset_before_its_epochs_start_is_committed() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    # Committed at the leader; the followers have not heard of it.
    stage.kill(1)
    stage.change(leader=2, isr=[2, 3], to=[2])
    assert latest(stage[2]).error_code == ErrorCode.OFFSET_NOT_AVAILABLE
    stage.tell(3)
    stage.deliver()
    answer = latest(stage[2])
    assert (answer.error_code, answer.offset) == (0, 1)


def test_a_follower_that_hears_of_its_leader_first_is_kept_waiting_not_refused() -> None:
    stage = trio()
    stage.change(leader=2, isr=[2, 3], to=[3])
    stage.deliver(lambda source, target, m: target == 1)
    assert not stage.waiting(bus.Refuse)
    stage.tell(2)
    stage.deliver(lambda source, target, m: 1 in (source, target))
    assert stage[3].replica.follower.phase is follower.Phase.STREAMING


def test_an_old_leader_cannot_commit() -> None:
    stage = trio()
    stage.change(leader=2, isr=[1, 2, 3], to=[2, 3])
    stage.deliver()
    write(stage, 1, b"zombie")
    stage.deliver()
    assert stage[1].answers() == []
    assert stage[1].log.high_watermark == 0
    assert stage[2].records() == stage[3].records() == []


def test_the_dead_are_not_believed() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver(lambda source, target, m: isinstance(m, bus.Ack) or target == 3)
    stage[1].hears(SUPERVISOR, bus.Died(2, 1))
    # Sent before it died, delivered afterwards.
    stream = 2
    ack = bus.Ack([bus.AckEntry(stream, 1, 0, 0)])
    stage[1].hears(2, ack, epoch=1)
    assert stage[1].log.high_watermark == 0


def test_a_broker_that_comes_back_catches_up_and_joins_again() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    disk = stage[3].disk
    stage.kill(3)
    stage.change(isr=[1, 2])
    write(stage, 1, b"b")
    stage.deliver()
    assert len(stage[1].answers()) == 2
    stage[1].heard(bus.AlterPartition)
    stage.start(3, incarnation=2, disk=disk, restart="crash")
    stage.deliver()
    [change] = stage[1].heard(bus.AlterPartition)
    assert sorted(change.changes[0].isr) == [1, 2, 3]
    assert stage[3].records() == [b"a", b"b"]


def test_a_crashed_follower_opens_where_its_log_ends() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    stage.restart(3)
    stage.deliver()
    write(stage, 1, b"b")
    stage.deliver()
    assert stage[3].records() == [b"a", b"b"]
    assert [produced(answer).error_code for answer in stage[1].answers()] == [0, 0]


def test_a_follower_below_the_log_start_begins_there() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.wires.clear()
    for value in (b"a", b"b", b"c"):
        write(stage, 1, value)
    member = stage[1]
    member.log.advance_log_start(member.turn, 2)
    member.run()
    stage.wait(1000)
    assert stage[2].log.log_start_offset == 2
    assert stage[2].records() == [b"c"]


def test_a_log_that_begins_afresh_has_its_high_watermark_there() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    follower = stage[2]
    follower.replica.truncate_towards(follower.turn, -1, 7)
    log = follower.log
    assert (log.log_start_offset, log.high_watermark, log.log_end_offset) == (7, 7, 7)


def send(stage: Stage, sequence: int, *values: bytes) -> None:
    """As the idempotent producer 7 does, to broker 1."""
    records = [Record(value) for value in values]
    data = build_batch(records, producer_id=7, producer_epoch=0, base_sequence=sequence)
    stage[1].asks(produce(data=data), 9)


def sequences(member: Member) -> list[tuple[int, int]]:
    """(first sequence, base offset) of the batches of producer 7 that it remembers."""
    known = member.log.producers.view().get(7)
    return [(batch[0], batch[2]) for batch in known[1]] if known else []


def test_a_follower_that_begins_at_the_log_start_knows_the_batches_before_it() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.wires.clear()
    for n in range(4):
        send(stage, n, b"%d" % n)
    send(stage, 4, b"4", b"5")
    member = stage[1]
    # Also in the middle of a batch, which is pushed whole.
    member.log.advance_log_start(member.turn, 5)
    member.run()
    stage.wait(1000)
    assert stage[2].log.log_start_offset == 5
    assert sequences(stage[2]) == [(n, n) for n in range(5)]
    stage.restart(2)
    stage.deliver()
    assert sequences(stage[2]) == [(n, n) for n in range(5)]


def test_retention_of_all_records_makes_no_follower_forget_their_producers() -> None:
    stage = trio()
    send(stage, 0, b"a")
    stage.deliver()
    stage.change(leader=2, leader_epoch=1)
    stage.deliver()
    leader = stage[2]
    assert leader.log.high_watermark == 1
    leader.log.roll(leader.turn)
    leader.log.advance_log_start(leader.turn, 1)
    leader.run()
    # Its last record is of an epoch that the leader no longer knows of.
    stage.restart(3, "clean")
    stage.wait(1000)
    assert stage[3].log.log_start_offset == stage[3].log.log_end_offset == 1
    assert sequences(stage[3]) == sequences(leader) == [(0, 0)]


def test_retention_is_the_leaders_and_followers_go_by_its_log_start() -> None:
    """Seed 800186: a follower whose clock was ahead lacked what its leader had."""
    stage = trio(log_retention_bytes="0")
    send(stage, 0, b"a")
    stage.deliver()
    stage.wait(1000)
    stage[2].run(RetentionDue())
    assert stage[2].log.high_watermark == 1
    assert stage[2].log.log_start_offset == 0
    stage[1].run(RetentionDue())
    assert stage[1].log.log_start_offset == 1
    stage.wait(1000)
    assert [stage[n].log.log_start_offset for n in (1, 2, 3)] == [1, 1, 1]


def test_a_follower_begins_with_the_batch_that_the_log_start_lies_in() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.wires.clear()
    write(stage, 1, b"a")
    write(stage, 1, b"b", b"c", b"d")
    member = stage[1]
    member.log.advance_log_start(member.turn, 2)
    member.run()
    stage.wait(1000)
    assert stage[2].records() == [b"b", b"c", b"d"]
    assert stage[2].log.log_end_offset == 4
    write(stage, 1, b"e")
    stage.wait(1000)
    assert stage[2].log.log_end_offset == 5
    assert stage[2].log.log_start_offset == 2


def test_a_follower_that_lost_its_first_segment_to_a_power_cut_starts_afresh() -> None:
    stage = trio()
    for value in (b"a", b"b"):
        write(stage, 1, value)
        stage.deliver()
    follower = stage[2]
    follower.log.roll(follower.turn)
    follower.run()
    write(stage, 1, b"c")
    stage.deliver()
    # Names of files are kept in any order by a disk that was not told to sync.
    first = f"orders-0/{0:020}"
    for path in [path for path in follower.disk.files if path.startswith(first)]:
        del follower.disk.files[path]
    stage.change(isr=[1, 3])
    stage.restart(2, "lossy")
    stage.deliver()
    stage.wait(1000)
    # It is proposed for the ISR, as the one that it was: nothing that it holds may go.
    leader = stage[1].replica.leader
    assert leader is not None and leader.maximal_isr == {1, 2, 3}
    assert stage[2].log.log_start_offset == 2
    stage.change(isr=[1, 3])
    stage.wait(1000)
    assert stage[2].log.log_start_offset == 0
    assert stage[2].records() == [b"a", b"b", b"c"]


def test_after_a_power_cut_only_what_was_synced_counts_as_committed() -> None:
    """Seed 901261: records that had been cut off came back, below the high watermark that was
    checkpointed since."""
    stage = trio()
    write(stage, 1, b"a", b"b")
    stage.deliver()
    stage.wait(1000)
    follower = stage[2]
    assert follower.log.high_watermark == 2
    follower.run(MarksDue())
    stage.restart(2, "lossy")
    assert (stage[2].log.high_watermark, stage[2].log.log_end_offset) == (0, 2)
    stage.wait(1000)
    stage.deliver()
    assert stage[2].log.high_watermark == 2
    # What is cut off before the next checkpoint is nothing that was lost.
    stage.restart(2, "lossy")
    follower = stage[2]
    follower.log.truncate_to(follower.turn, 1)
    follower.run()
    stage.restart(2)
    assert not stage[2].replica.offline


def test_an_eligible_leader_keeps_a_log_that_begins_behind_its_leader_s() -> None:
    stage = trio()
    for value in (b"a", b"b", b"c"):
        write(stage, 1, value)
        stage.deliver()
    follower = stage[2]
    follower.log.advance_log_start(follower.turn, 2)
    follower.run()
    stage.change(isr=[1], elr=[2, 3])
    stage.restart(2)
    stage.deliver()
    stage.wait(1000)
    # It was promised to hold everything committed, and would not, were it to start afresh.
    assert stage[2].log.log_start_offset == 2
    assert stage[2].log.log_end_offset == 3


def test_a_failed_write_takes_the_partition_offline_and_no_record_is_pushed() -> None:
    stage = trio()
    [path] = [
        p for p in stage[1].disk.files if p.startswith("orders-0/") and p.endswith(".log")
    ] or ["orders-0/00000000000000000000.log"]
    stage[1].disk.fail_next[path] = 5
    write(stage, 1, b"a")
    assert produced(stage[1].answer()).error_code == ErrorCode.KAFKA_STORAGE_ERROR
    assert not [push for push in stage.waiting(bus.Push) if push.entries[0].size]
    assert stage[1].heard(bus.LogDirFailed)[0].partitions == [(TOPIC_ID, 0)]
    write(stage, 1, b"b")
    assert produced(stage[1].answer()).error_code == ErrorCode.KAFKA_STORAGE_ERROR


def test_with_flush_messages_1_nothing_counts_before_fsync() -> None:
    stage = Stage(2)
    stage.create([1, 2], flush_messages="1")
    stage.deliver()
    stage[1].holds_syncs = stage[2].holds_syncs = True
    write(stage, 1, b"a")
    stage.deliver()
    assert stage[2].log.log_end_offset == 0
    stage[1].end_syncs()
    stage.deliver()
    assert stage[2].log.log_end_offset == 1
    assert stage[1].answers() == []
    stage[2].end_syncs()
    stage.deliver()
    assert produced(stage[1].answer()).error_code == 0


def test_a_sync_of_a_deleted_topic_makes_nothing_of_its_namesake_durable() -> None:
    stage = Stage(1)
    stage.create([1], flush_messages="1")
    member = stage[1]
    member.holds_syncs = True
    member.asks(produce(b"old"), 9)
    [old] = member.syncs
    namesake = bytes(reversed(TOPIC_ID))
    stage.dictate(r.TopicDeleted(TOPIC_ID))
    member.answers()
    stage.dictate(
        r.ConfigChanged(2, "orders", "flush.messages", "1"),
        r.TopicCreated("orders", namesake),
        r.PartitionChanged(namesake, 0, [1], [1], 1, 0, 0),
    )
    member.asks(produce(b"new"), 9)
    assert member.log.log_end_offset == 1
    member.run(Synced(old.path, old.token, 0))
    assert (member.log.flushed_end, member.answers()) == (0, [])
    member.end_syncs()
    assert produced(member.answer()).error_code == 0


def test_a_freeze_stops_isr_changes() -> None:
    stage = trio(replica_lag_time_max_ms="1000")
    for id in (1, 2, 3):
        stage[id].hears(SUPERVISOR, bus.Freeze())
    write(stage, 1, b"a")
    stage.wires.clear()
    stage.wait(3000, deliver=False)
    assert stage[1].heard(bus.AlterPartition) == []


def test_reads_below_the_high_watermark_go_on_without_a_quorum() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    stage.wait(50)
    stage.change(leader=2, isr=[2])
    stage[2].asks(fetch(0), 12)
    assert fetched(stage[2].answer()).high_watermark == 1
    write(stage, 2, b"b")
    assert produced(stage[2].answer()).error_code == ErrorCode.NOT_ENOUGH_REPLICAS


def test_flipped_bytes_are_neither_served_nor_replicated() -> None:
    stage = Stage(2)
    stage.create([1, 2], isr=[1])
    stage.wires.clear()
    write(stage, 1, b"precious")
    stage[1].hears(SUPERVISOR, bus.Stop(False))
    assert stage[1].core.has_stopped
    [path] = [path for path in stage[1].disk.files if path.endswith("0.log")]
    stage[1].disk.files[path].data[-3] ^= 1
    stage.restart(1, "clean")
    stage.change(leader=1, isr=[1])
    stage.deliver()
    stage[1].asks(fetch(0), 12)
    assert fetched(stage[1].answer()).error_code == ErrorCode.KAFKA_STORAGE_ERROR
    stage.wait(600)
    assert stage[2].log.log_end_offset == 0
    assert stage[1].heard(bus.LogDirFailed)


def test_nobody_leads_an_epoch_twice() -> None:
    """Invariant 13: what an earlier incarnation told in this epoch may be lost."""
    stage = Stage(1)
    stage.create([1])
    stage.restart(1)
    assert stage[1].replica.leader is None
    stage.change(leader=1, isr=[1])
    assert stage[1].replica.leader is not None


def test_a_log_that_was_cut_below_its_recovery_point_is_reported_as_damaged() -> None:
    stage = Stage(1)
    stage.create([1])
    for value in (b"a", b"b"):
        write(stage, 1, value)
    stage[1].hears(SUPERVISOR, bus.Stop(False))
    [path] = [path for path in stage[1].disk.files if path.endswith("0.log")]
    del stage[1].disk.files[path].data[-10:]
    stage.restart(1, "clean")
    [register] = stage[1].heard(bus.Register)
    assert register.restart == "clean"
    assert register.logs == [bus.LogEnd(TOPIC_ID, 0, 0, 1, True, "orders")]


def test_a_first_segment_that_is_gone_is_missed_from_the_second_one_on() -> None:
    """Without a word of where the log began it would look as if retention had deleted it: a
    replica that lacks what was committed would stay in the ELR (seed 951615)."""
    stage = Stage(1)
    stage.create([1], **{"segment.bytes": "14"})
    for value in (b"a", b"b"):
        write(stage, 1, value)
    stage[1].disk.remove("orders-0/00000000000000000000.log")
    stage.restart(1, "crash")
    [register] = stage[1].heard(bus.Register)
    [told] = register.logs
    assert told.is_damaged


def test_a_follower_whose_log_failed_holds_no_write_up() -> None:
    """It was caught up a moment ago; without a word from it the leader would wait for it, as for
    one about to join, for replica.lag.time.max.ms."""
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    [path] = [path for path in stage[2].disk.files if path.endswith("0.log")]
    stage[2].disk.fail_next[path] = 5
    write(stage, 1, b"b")
    stage.deliver()
    assert stage[2].heard(bus.LogDirFailed)
    assert len(stage[1].answers()) == 1, "b waits for who is still in the ISR"
    stage.change(isr=[1, 3], partition_epoch=1)
    stage.deliver()
    assert [produced(answer).error_code for answer in stage[1].answers()] == [0]
    assert stage[1].log.high_watermark == 2


def test_a_damaged_log_stays_marked_until_the_controller_knows_of_it() -> None:
    stage = Stage(1)
    stage.create([1])
    write(stage, 1, b"a", b"b")
    stage[1].hears(SUPERVISOR, bus.Stop(False))
    [path] = [path for path in stage[1].disk.files if path.endswith("0.log")]
    del stage[1].disk.files[path].data[-10:]
    mark, disk = "orders-0/partition.damage", stage[1].disk
    # It ends before its registration is answered: the next start has a log that looks whole.
    Member(stage, 1, 2, disk, "clean").run()
    assert mark in disk.files
    stage.start(1, incarnation=3, disk=disk, restart="crash")
    [register] = stage[1].heard(bus.Register)
    assert register.logs[0].is_damaged
    assert mark not in disk.files
    assert any("is damaged" in notice for notice in stage[1].core.replica_set.notices)


def test_a_sync_that_failed_and_a_push_in_one_turn_stop_the_log_and_not_the_broker() -> None:
    stage = trio()
    write(stage, 1, b"a")
    stage.deliver()
    follower = stage[2]
    follower.log.flush(follower.turn)
    [sync] = [operation for operation in follower.turn.disk if isinstance(operation, Sync)]
    write(stage, 1, b"b")
    [wire] = [wire for wire in stage.wires if wire[1] == 2]
    push = Received(1, 1, bus.decode(wire[2]).message, wire[3])
    follower.run(Synced(sync.path, sync.token, 5), push)
    assert follower.replica.offline
    assert "orders-0/partition.damage" in follower.disk.files
    assert follower.log.log_end_offset == 1
