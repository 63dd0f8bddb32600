"""Coordinators that move, shards that are loaded, logs that fail: groups of real brokers."""

from __future__ import annotations

from kcluster.core.groups.shard import LOAD_WAIT_MS, Phase
from kcluster.core.metadata import records as r
from kcluster.core.traces import GroupsLoaded, Warned
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, OFFSETS_TOPIC, TopicId
from kcluster.wire import bus
from kcluster.wire.group_records import OffsetCommitKey, encode_key
from kcluster.wire.messages.describe_groups import DescribeGroupsRequest
from kcluster.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kcluster.wire.messages.list_groups import ListGroupsRequest
from kcluster.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from kcluster.wire.records import Record, build_batch
from tests.core.broker.groups_stage import (
    OFFSETS,
    OFFSETS_ID,
    Groups,
    commit,
    errors_of,
    everything,
    fetch,
    join,
    member,
    sync,
)
from tests.core.broker.stage import TOPIC_ID, batch

# --- somebody else's, and not yet ---------------------------------------------------------


def test_a_broker_that_never_led_a_partition_of_groups_coordinates_none() -> None:
    groups = Groups(2)
    for request, version in everything():
        answer = groups.ask(request, version, to=2)
        assert errors_of(answer) == {ErrorCode.NOT_COORDINATOR}, request
    assert groups.ask(ListGroupsRequest(), 4, to=2).groups == []


def test_a_broker_that_leads_it_no_more_coordinates_it_no_more() -> None:
    groups = Groups(2)
    groups.ask(commit(), 9)
    groups.lead(2)
    for request, version in everything():
        answer = groups.ask(request, version)
        assert errors_of(answer) == {ErrorCode.NOT_COORDINATOR}, request
    assert groups.offset(to=2) == 5


def loading() -> Groups:
    """Broker 2 leads, and its log holds an offset that is not known to be committed."""
    groups = Groups(3)
    groups.ask(commit(), 9)
    groups.state(2, 1, to=[2])
    groups.stage.wait(1, deliver=False)
    assert groups.shard(2).phase is Phase.LOADING
    return groups


def test_requests_wait_for_a_shard_that_is_loaded() -> None:
    groups = loading()
    for request, version in everything():
        groups.say(request, version, to=2)
    assert groups.stage[2].answers() == []
    groups.stage.tell(1)
    groups.stage.tell(3)
    groups.settle()
    assert len(groups.stage[2].answers()) == len(everything())
    assert [trace.groups for trace in groups.stage[2].traced(GroupsLoaded)] == [1]


def test_requests_wait_only_so_long_for_a_shard() -> None:
    groups = loading()
    for request, version in everything():
        groups.say(request, version, to=2)
    groups.stage.wait(LOAD_WAIT_MS + 200, deliver=False)
    for answer in groups.stage[2].answers():
        # Nobody loses its place for what its coordinator does not know yet.
        is_beat = isinstance(answer, HeartbeatResponse)
        expected = set() if is_beat else {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
        assert errors_of(answer) == expected, answer
    answer = groups.ask(ListGroupsRequest(), 4, to=2)
    assert (answer.error_code, answer.groups) == (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, [])


# --- fail over ----------------------------------------------------------------------------


def test_the_next_coordinator_shows_exactly_what_was_committed() -> None:
    groups = Groups(3)
    id = member(groups)
    groups.ask(commit(offset=5, member_id=id, generation_id_or_member_epoch=1), 9)
    # The next one reaches nobody.
    groups.say(commit(offset=6, member_id=id, generation_id_or_member_epoch=1), 9)
    groups.stage.deliver(lambda source, target, message: isinstance(message, bus.Push))
    assert groups.stage[1].answers() == []
    assert groups.shard(1).groups["g"].offsets.latest(("orders", 0)).offset == 6
    groups.lead(2)
    refused = groups.stage[1].answer()
    assert errors_of(refused) == {ErrorCode.NOT_COORDINATOR}
    assert groups.offset(to=2) == 5
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=id)
    assert groups.ask(beat, 4, to=2).error_code == 0
    assert groups.ask(sync(id), 5, to=2).assignment == b"mine"


def test_an_offset_is_never_shown_before_it_is_committed() -> None:
    groups = Groups(3)
    groups.ask(commit(offset=5), 9)
    groups.say(commit(offset=6), 9)
    assert groups.shard().journal.high_watermark < groups.shard().journal.log_end_offset
    groups.say(fetch(9), 9)
    [shown] = groups.stage[1].answers()
    assert shown.groups[0].topics[0].partitions[0].committed_offset == 5
    groups.settle()
    assert errors_of(groups.stage[1].answer()) == set()
    assert groups.offset() == 6


def test_what_the_next_coordinator_has_of_an_unclear_commit_it_commits() -> None:
    groups = Groups(3)
    groups.ask(commit(offset=5), 9)
    groups.say(commit(offset=6), 9)
    groups.stage.deliver(lambda source, target, message: isinstance(message, bus.Ack))
    groups.lead(2)
    assert errors_of(groups.stage[1].answer()) == {ErrorCode.NOT_COORDINATOR}
    assert groups.offset(to=2) == 6


def test_who_waits_when_its_coordinator_loses_the_leadership_is_told() -> None:
    groups = Groups(3)
    id = member(groups)
    groups.say(join(), 3)
    groups.settle()
    assert groups.stage[1].answers() == []
    groups.lead(2)
    assert errors_of(groups.stage[1].answer()) == {ErrorCode.NOT_COORDINATOR}
    # The rebalance is the next coordinator's to begin again, when somebody joins.
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=id)
    assert groups.ask(beat, 4, to=2).error_code == 0


def test_a_leader_of_a_new_epoch_reads_its_own_groups_again() -> None:
    groups = Groups(3)
    groups.ask(commit(), 9)
    before = groups.shard()
    groups.lead(1)
    assert groups.shard() is not before
    assert (before.phase, groups.offset()) == (Phase.CLOSED, 5)


def test_a_change_of_the_isr_leaves_the_groups_as_they_are() -> None:
    groups = Groups(3)
    before = groups.shard()
    groups.state(1, 0, isr=[1, 2])
    groups.settle()
    assert groups.shard() is before


def test_too_few_replicas_refuse_commits_and_serve_fetches() -> None:
    groups = Groups(3, min_insync_replicas="2")
    groups.ask(commit(), 9)
    groups.state(1, 0, isr=[1])
    groups.settle()
    answer = groups.ask(commit(offset=6), 9)
    assert errors_of(answer) == {ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert groups.offset() == 5


def test_groups_survive_a_restart_of_their_only_broker() -> None:
    groups = Groups()
    id = member(groups)
    groups.ask(commit(offset=5, member_id=id, generation_id_or_member_epoch=1), 9)
    groups.stage.restart(1)
    groups.lead(1)
    assert groups.offset() == 5
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=id)
    assert groups.ask(beat, 4).error_code == 0


def test_sessions_end_by_the_clock_of_the_broker() -> None:
    groups = Groups()
    member(groups)
    groups.stage.wait(12_000)
    [described] = groups.ask(DescribeGroupsRequest(groups=["g"]), 5).groups
    assert (described.group_state, described.members) == ("Empty", [])


def test_a_broker_that_closes_its_logs_coordinates_nothing_any_more() -> None:
    groups = Groups(2)
    id = member(groups)
    groups.say(join(), 3)
    one = groups.stage[1]
    one.answers()
    one.holds_syncs = True
    one.hears(COORDINATOR, bus.Stop(controlled=False))
    assert not one.core.has_stopped
    assert [errors_of(answer) for answer in one.answers()] == [{ErrorCode.NOT_COORDINATOR}]
    # Its successor may know better by now.
    groups.say(HeartbeatRequest(group_id="g", generation_id=1, member_id=id), 4)
    groups.say(fetch(9), 9)
    told = [errors_of(answer) for answer in one.answers()]
    assert told == [{ErrorCode.NOT_COORDINATOR}] * 2


# --- topics that go, logs that fail -------------------------------------------------------


def test_offsets_go_with_their_topic_and_are_not_its_namesakes() -> None:
    groups = Groups(3)
    groups.ask(commit(), 9)
    other = bytes(range(32, 48))
    groups.stage.dictate(
        r.TopicDeleted(TOPIC_ID),
        r.TopicCreated("orders", other),
        r.PartitionChanged(other, 0, [1], [1], 1, 0, 0),
    )
    groups.settle()
    assert groups.offset() == -1
    groups.lead(2)
    assert groups.offset(to=2) == -1


def test_a_topic_of_groups_that_is_deleted_takes_its_groups_along() -> None:
    groups = Groups()
    groups.ask(commit(), 9)
    groups.stage.dictate(r.TopicDeleted(OFFSETS_ID))
    groups.settle()
    assert groups.shard() is None
    assert errors_of(groups.ask(commit(), 9)) == {ErrorCode.NOT_COORDINATOR}


def poison(groups: Groups, batch: bytearray) -> None:
    """Into the log of groups, as a client might."""
    core = groups.stage[1].core
    replica = core.replicas[OFFSETS]
    turn = groups.stage[1].turn
    turn.now_ms, turn.wall_ms = groups.stage[1].clock()
    replica.log.append_own(turn, batch, replica.leader.leader_epoch)
    core.mark(replica)
    groups.stage[1].run()
    groups.settle()


def test_a_record_that_nobody_can_read_ends_no_broker_and_no_log() -> None:
    groups = Groups(3)
    groups.ask(commit(), 9)
    key = encode_key(OffsetCommitKey("g", "orders", 0))
    poison(groups, build_batch([Record(b"\x00\x03\x00", key)]))
    groups.lead(2)
    two = groups.stage[2]
    assert groups.shard(2).phase is Phase.FAILED
    assert not two.core.replicas[OFFSETS].offline
    assert any("cannot be loaded" in trace.text for trace in two.traced(Warned))
    for request, version in everything():
        answer = groups.ask(request, version, to=2)
        assert errors_of(answer) == {ErrorCode.COORDINATOR_NOT_AVAILABLE}, request


def test_clients_do_not_produce_into_the_log_of_groups() -> None:
    groups = Groups()
    data = PartitionProduceData(index=0, records=batch(b"x"))
    for version in (9, 13):
        topic = TopicProduceData(partition_data=[data])
        if version >= 13:
            topic.topic_id = TopicId(OFFSETS_ID)
        else:
            topic.name = OFFSETS_TOPIC
        request = ProduceRequest(acks=-1, timeout_ms=1_000, topic_data=[topic])
        answer = groups.ask(request, version)
        [part] = answer.responses[0].partition_responses
        assert part.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert groups.stage[1].core.replicas[OFFSETS].log.log_end_offset == 0


def test_a_batch_that_nobody_can_read_ends_no_broker_and_no_log() -> None:
    groups = Groups(3)
    batch = build_batch([Record(b"value", b"key")])
    # Its header says gzip, and its records are not.
    from kcluster.wire.records import crc_of

    batch[22] |= 1
    batch[17:21] = crc_of(batch, 0, len(batch)).to_bytes(4, "big")
    poison(groups, batch)
    groups.lead(2)
    assert groups.shard(2).phase is Phase.FAILED
    assert not groups.stage[2].core.replicas[OFFSETS].offline


def test_a_control_batch_is_no_groups() -> None:
    groups = Groups(3)
    groups.ask(commit(), 9)
    marker = Record(b"\x00\x00\x00\x00\x00\x00", b"\x00\x00\x00\x01")
    poison(groups, build_batch([marker], attributes=0x30))
    groups.lead(2)
    assert groups.offset(to=2) == 5


def test_a_log_that_is_not_what_was_written_is_offline_and_serves_nothing() -> None:
    groups = Groups(1)
    groups.ask(commit(), 9)
    disk = groups.stage[1].disk
    [path] = [f"{OFFSETS}/{name}" for name in disk.list(str(OFFSETS)) if name.endswith(".log")]
    groups.stage.restart(1, "clean")
    file = groups.stage[1].disk.files[path]
    file.data[70] ^= 0xFF
    groups.state(1, 1)
    groups.settle()
    assert groups.stage[1].core.replicas[OFFSETS].offline
    assert errors_of(groups.ask(fetch(9), 9)) == {ErrorCode.NOT_COORDINATOR}
