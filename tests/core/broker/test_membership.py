"""A broker's life: register, serve, stand still, leave."""

from __future__ import annotations

from typing import Any

from kcluster.core.metadata import records as r
from kcluster.core.turn import StoodStill
from kcluster.errors import ErrorCode
from kcluster.model import COORDINATOR, SUPERVISOR
from kcluster.sim.disk import SimDisk
from kcluster.wire import bus, telling
from kcluster.wire.message import encode
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.init_producer_id import InitProducerIdRequest
from tests.core.broker.stage import TOPIC_ID, TP, Member, Stage, produce, produced


def test_registration_is_repeated_until_it_is_answered() -> None:
    stage = Stage(0)
    member = stage.members[1] = Member(stage, 1, 1, SimDisk(), "clean")
    member.run()
    assert len(member.heard(bus.Register)) == 1
    stage.wait(450)
    assert len(member.heard(bus.Register)) == 2


def test_a_broker_is_ready_once_unfenced_and_holding_the_image() -> None:
    stage = Stage(0)
    member = stage.members[1] = Member(stage, 1, 1, SimDisk(), "clean")
    member.run()
    registered = r.BrokerRegistered(1, 0, 1, "127.0.0.1", 9091, "ipc://1")
    member.hears(COORDINATOR, bus.Registered(1, 0, 1), r.encode_all([registered]))
    assert member.heard(bus.Ready) == []
    assert member.heard(bus.Heartbeat)[0].metadata_offset == 1
    member.hears(COORDINATOR, bus.MetadataDelta(1, 2), r.encode_all([r.BrokerUnfenced(1, 0)]))
    assert member.heard(bus.Ready) == [bus.Ready(1, 1)]


def test_requests_before_that_are_answered_afterwards() -> None:
    stage = Stage(0)
    member = stage.members[1] = Member(stage, 1, 1, SimDisk(), "clean")
    member.asks(produce(b"a"), 9)
    assert member.answers() == []
    records = [r.BrokerRegistered(1, 0, 1, "h", 1, "e"), r.BrokerUnfenced(1, 0)]
    member.hears(COORDINATOR, bus.Registered(1, 0, 2), r.encode_all(records))
    assert produced(member.answer()).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_it_tells_where_its_logs_end_when_it_registers() -> None:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a", b"b"), 9)
    stage.restart(1)
    [register] = stage[1].heard(bus.Register)
    assert register.logs == [bus.LogEnd(TOPIC_ID, 0, 0, 2, False, "orders")]
    assert register.restart == "crash"


def test_a_broker_that_stood_still_asks_before_it_serves() -> None:
    stage = Stage(1)
    stage.create([1])
    member = stage[1]
    member.heard(bus.Heartbeat)
    member.run(StoodStill(5000))
    [heartbeat] = member.heard(bus.Heartbeat)
    member.asks(produce(b"a"), 9)
    epoch = member.core.epoch
    # An answer to what was asked before says nothing.
    member.hears(COORDINATOR, bus.HeartbeatReply(epoch, heartbeat.nonce - 1, False))
    assert member.answers() == []
    member.hears(COORDINATOR, bus.HeartbeatReply(epoch, heartbeat.nonce, False))
    assert produced(member.answer()).error_code == 0


def test_an_unknown_epoch_makes_it_register_again() -> None:
    stage = Stage(1)
    member = stage[1]
    member.heard(bus.Register)
    member.hears(COORDINATOR, bus.HeartbeatReply(member.core.epoch, 1, True, unknown_epoch=True))
    assert len(member.heard(bus.Register)) == 1


def test_a_broker_that_stood_still_while_it_registered_again_asks_too() -> None:
    stage = Stage(1)
    stage.create([1])
    member = stage[1]
    epoch = member.core.epoch
    member.hears(COORDINATOR, bus.HeartbeatReply(epoch, 1, True, unknown_epoch=True))
    member.run(StoodStill(5000))
    member.asks(produce(b"a"), 9)
    assert member.answers() == []
    member.heard(bus.Heartbeat)
    stage.records += [r.BrokerRegistered(1, 9, 1, "h", 1, "e"), r.BrokerUnfenced(1, 9)]
    end = len(stage.records)
    member.hears(COORDINATOR, bus.Registered(1, 9, end), r.encode_all(stage.records))
    assert member.answers() == []
    [heartbeat] = member.heard(bus.Heartbeat)
    member.hears(COORDINATOR, bus.HeartbeatReply(9, heartbeat.nonce, False))
    assert len(member.answers()) == 1


def test_a_missed_delta_is_asked_for_by_heartbeat() -> None:
    stage = Stage(1)
    member = stage[1]
    member.heard(bus.Heartbeat)
    stage.records += [r.FeatureChanged("a", 1), r.FeatureChanged("b", 1)]
    member.hears(COORDINATOR, bus.MetadataDelta(3, 4), r.encode_all(stage.records[3:4]))
    assert member.core.image.features == {}
    assert member.heard(bus.Heartbeat)[0].metadata_offset == 2
    member.hears(COORDINATOR, bus.MetadataDelta(1, 4), r.encode_all(stage.records[1:4]))
    assert member.core.image.features == {"a": 1, "b": 1}


def test_a_controlled_stop_moves_leaders_first_and_leaves_a_marker() -> None:
    stage = Stage(2)
    stage.create([1, 2])
    stage.deliver()
    stage[1].asks(produce(b"a"), 9)
    stage.deliver()
    member = stage[1]
    member.heard(bus.Heartbeat)
    member.hears(SUPERVISOR, bus.Stop(True))
    assert member.heard(bus.Heartbeat)[0].wants_shutdown
    assert not member.core.has_stopped
    member.hears(COORDINATOR, bus.HeartbeatReply(member.core.epoch, 9, False, True))
    assert member.core.has_stopped
    assert ".kafka_cleanshutdown" in member.disk.list("")
    again = stage.restart(1, "clean")
    assert ".kafka_cleanshutdown" not in again.disk.list("")
    assert again.log.high_watermark == 1
    assert again.records() == [b"a"]


def test_without_a_coordinator_a_controlled_stop_ends_all_the_same() -> None:
    stage = Stage(1)
    stage[1].hears(SUPERVISOR, bus.Stop(True))
    stage.wait(6000)
    assert stage[1].core.has_stopped


def test_no_marker_is_left_before_the_last_fsync_has_returned() -> None:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a"), 9)
    stage[1].holds_syncs = True
    stage[1].hears(SUPERVISOR, bus.Stop(False))
    assert stage[1].syncs
    assert not stage[1].core.has_stopped
    stage[1].end_syncs()
    assert stage[1].core.has_stopped


def test_forwarded_requests_are_answered_by_the_controller_or_time_out() -> None:
    stage = Stage(1)
    member = stage[1]
    request = CreateTopicsRequest(topics=[CreatableTopic(name="new")], timeout_ms=1000)
    member.asks(request, 7)
    [forward] = member.heard(bus.Forward)
    assert (forward.api_key, forward.api_version) == (19, 7)
    body = encode(CreateTopicsResponse(topics=[CreatableTopicResult(name="new")]), 7)
    member.hears(COORDINATOR, bus.Forwarded(forward.correlation), body)
    assert member.answer().topics[0].error_code == 0
    member.asks(request, 7)
    stage.wait(3000)
    assert member.answer().topics[0].error_code == ErrorCode.REQUEST_TIMED_OUT


def test_an_answer_to_a_broker_s_earlier_incarnation_is_nobody_s() -> None:
    # The controller holds answers until metadata is committed, and by then another has the address.
    stage = Stage(1)
    request = CreateTopicsRequest(topics=[CreatableTopic(name="new")], timeout_ms=1000)
    stage[1].asks(request, 7)
    [old] = stage[1].heard(bus.Forward)
    member = stage.restart(1)
    stage.deliver()
    member.asks(request, 7)
    member.hears(COORDINATOR, bus.Forwarded(old.correlation), b"an answer of another API")
    assert not member.answers()


def test_producer_ids_come_in_blocks_and_none_twice() -> None:
    stage = Stage(1)
    member = stage[1]
    given: list[int] = []

    def ask() -> list[Any]:
        member.asks(InitProducerIdRequest(transactional_id=None), 4)
        return member.heard(bus.AllocateProducerIds)

    [asked] = ask()
    block = bus.ProducerIdBlock(asked.request, 1000, 2)
    member.hears(COORDINATOR, block)
    given.append(member.answer().producer_id)
    assert ask() == []
    given.append(member.answer().producer_id)
    [asked] = ask()
    # A copy of the first block is not used again.
    member.hears(COORDINATOR, block)
    assert member.answers() == []
    member.hears(COORDINATOR, bus.ProducerIdBlock(asked.request, 2000, 2))
    given.append(member.answer().producer_id)
    assert given == [1000, 1001, 2000]


def test_transactional_producers_are_told_that_there_is_no_coordinator() -> None:
    stage = Stage(1)
    stage[1].asks(InitProducerIdRequest(transactional_id="t"), 4)
    assert stage[1].answer().error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_a_held_answer_waits_for_the_image_and_no_longer_than_its_bound() -> None:
    stage = Stage(2)
    stage.create([2, 1])
    stage.kill(2)
    core = stage[1].core
    assert core.has_dead()
    assert core.is_dead(2)
    told: list[str] = []
    is_over = lambda: core.image.partition(TP).leader == 1  # noqa: E731
    core.hold(stage[1].turn, 50, is_over, lambda turn: told.append("first"))
    stage[1].run()
    assert told == []
    stage.change(leader=1, isr=[1])
    assert told == ["first"]
    core.hold(stage[1].turn, 50, lambda: False, lambda turn: told.append("second"))
    stage[1].run()
    stage.wait(100)
    assert told == ["first", "second"]


def test_status_names_role_offsets_and_segments() -> None:
    stage = Stage(2)
    stage.create([1, 2])
    stage.deliver()
    stage[1].asks(produce(b"a", acks=1), 9)
    stage[1].told.clear()
    stage[1].hears(-5, telling.DescribeReplicas(3))
    [told] = stage[1].heard(telling.Replicas)
    [state] = told.replicas
    assert (state.role, state.log_end_offset, state.high_watermark) == ("leader", 1, 0)
    assert state.is_in_sync
    assert state.segments == [(0, state.size_bytes)]
