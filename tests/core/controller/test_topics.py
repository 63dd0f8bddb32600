"""CreateTopics, DeleteTopics, CreatePartitions: forwarded by a broker, answered when applied."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire import bus
from kcluster.wire.apis import APIS
from kcluster.wire.message import decode, encode
from kcluster.wire.messages import create_partitions as cp
from kcluster.wire.messages import create_topics as ct
from kcluster.wire.messages import delete_topics as dt

from .playbook import Playbook, only

NUMBERS = count(1)
"""Of requests that brokers forward: no two have the same."""


def forward(p: Playbook, request: Any, version: int, applies: bool = True) -> Any:
    """The decoded answer, once all brokers have said that they applied it."""
    start = len(p.sent)
    message = bus.Forward(next(NUMBERS), request.KEY, version, "test", 1000)
    p.receive(1, message, payload=[encode(request, version)])
    if applies:
        p.heartbeats()
    forwarded = only(p.sent[start:], bus.Forwarded)
    assert forwarded.correlation == message.correlation
    if forwarded.error:
        return forwarded
    (send,) = [s for s in p.sent[start:] if s.message is forwarded]
    assert send.target == 1
    return decode(APIS[request.KEY].response, send.payload[0], version)


def create(p: Playbook, *topics: ct.CreatableTopic, version: int = 7, **fields: Any) -> list[Any]:
    request = ct.CreateTopicsRequest(topics=list(topics), **fields)
    return list(forward(p, request, version).topics)


def topic(name: str, partitions: int = -1, factor: int = -1, **fields: Any) -> ct.CreatableTopic:
    return ct.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=factor, **fields
    )


def assigned(*replicas: list[int]) -> list[ct.CreatableReplicaAssignment]:
    return [
        ct.CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
        for index, ids in enumerate(replicas)
    ]


def config(name: str, value: str | None) -> ct.CreatableTopicConfig:
    return ct.CreatableTopicConfig(name=name, value=value)


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    return p


def test_topic_is_made_with_an_id_leaders_and_full_isrs(p: Playbook) -> None:
    (result,) = create(p, topic("orders", 6, 3))
    assert (result.error_code, result.num_partitions, result.replication_factor) == (0, 6, 3)
    made = p.image.topics["orders"]
    assert made.id == result.topic_id
    assert sorted(made.partitions) == list(range(6))
    leaders = [state.leader for state in made.partitions.values()]
    assert all(sorted(state.isr) == [1, 2, 3] for state in made.partitions.values())
    assert {leaders.count(id) for id in (1, 2, 3)} == {2}


def test_defaults_are_one_partition_and_up_to_three_replicas(p: Playbook) -> None:
    (result,) = create(p, topic("t"))
    assert (result.num_partitions, result.replication_factor) == (1, 3)


def test_validate_only_checks_and_writes_nothing(p: Playbook) -> None:
    end = p.core.log.end_offset
    good, bad = create(p, topic("good", 3, 2), topic("bad", 0, 1), validate_only=True)
    assert (good.error_code, good.num_partitions) == (0, 3)
    assert bad.error_code == ErrorCode.INVALID_PARTITIONS
    assert p.core.log.end_offset == end


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (topic(""), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("."), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic(".."), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("a b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("ä"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("../etc"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("line\n"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("x" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("here_now"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (topic("here.now"), ErrorCode.TOPIC_ALREADY_EXISTS),
        (topic("__cluster_metadata"), ErrorCode.INVALID_REQUEST),
        (topic("t", 0), ErrorCode.INVALID_PARTITIONS),
        (topic("t", -2), ErrorCode.INVALID_PARTITIONS),
        (topic("t", 10_001), ErrorCode.INVALID_PARTITIONS),
        (topic("t", 1, 0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (topic("t", 1, 4), ErrorCode.INVALID_REPLICATION_FACTOR),
        (topic("t", configs=[config("no.such", "1")]), ErrorCode.INVALID_CONFIG),
        (topic("t", configs=[config("retention.ms", "x")]), ErrorCode.INVALID_CONFIG),
        (topic("t", configs=[config("retention.ms", None)]), ErrorCode.INVALID_CONFIG),
        (topic("t", configs=[config("retention.ms", "1")] * 2), ErrorCode.INVALID_CONFIG),
        (topic("t", 1, -1, assignments=assigned([1])), ErrorCode.INVALID_REQUEST),
        (topic("t", assignments=assigned([1, 1])), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (topic("t", assignments=assigned([1, 9])), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (topic("t", assignments=assigned([1, 2], [3])), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (topic("t", assignments=assigned([])), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(
    p: Playbook, made: ct.CreatableTopic, code: ErrorCode
) -> None:
    create(p, topic("here.now"))
    (result,) = create(p, made)
    assert result.error_code == code
    assert result.error_message
    assert set(p.image.topics) == {"here.now"}


def test_longest_name_is_taken(p: Playbook) -> None:
    assert create(p, topic("x" * 249))[0].error_code == 0


def test_topic_named_twice_is_refused_and_the_others_are_made(p: Playbook) -> None:
    results = create(p, topic("a"), topic("b"), topic("a"))
    assert [(r.name, r.error_code) for r in results] == [("a", ErrorCode.INVALID_REQUEST), ("b", 0)]
    assert set(p.image.topics) == {"b"}


def test_too_many_replicas_are_refused_with_the_number_of_brokers(p: Playbook) -> None:
    (result,) = create(p, topic("t", 1, 5))
    assert "only 3 broker(s)" in result.error_message


def test_explicit_assignment_is_kept_and_its_first_live_replica_leads(p: Playbook) -> None:
    p.die(2)
    create(p, topic("t", assignments=assigned([2, 1], [3, 1])))
    first, second = p.partition("t", 0), p.partition("t", 1)
    assert (first.replicas, first.isr, first.leader) == ([2, 1], [1], 1)
    assert (second.replicas, second.isr, second.leader) == ([3, 1], [3, 1], 3)


def test_topic_made_while_a_broker_is_down_gets_its_replicas_too(p: Playbook) -> None:
    p.die(3)
    (result,) = create(p, topic("t", 2, 3))
    assert result.error_code == 0
    assert p.partition("t", 0).replicas[2] == 3
    assert sorted(p.partition("t", 0).isr) == [1, 2]


def test_nothing_is_placed_without_a_live_broker(p: Playbook) -> None:
    for id in (1, 2, 3):
        p.die(id)
    request = ct.CreateTopicsRequest(topics=[topic("t", 1, 1)])
    response = forward(p, request, 7, applies=False)
    assert response.topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR


def test_configs_are_told_from_version_5_with_their_source(p: Playbook) -> None:
    made = topic("t", configs=[config("retention.ms", "5000")])
    (result,) = create(p, made, version=5)
    told = {entry.name: (entry.value, entry.config_source) for entry in result.configs}
    assert told["retention.ms"] == ("5000", 1)
    assert told["segment.ms"] == ("604800000", 5)
    (result,) = create(p, topic("u"), version=4)
    assert result.error_code == 0


def test_leaders_spread_over_many_small_topics(p: Playbook) -> None:
    create(p, *[topic(f"t{index}", 1, 2) for index in range(9)])
    leaders = [p.partition(f"t{index}").leader for index in range(9)]
    assert {leaders.count(id) for id in (1, 2, 3)} == {3}
    held = [id for index in range(9) for id in p.partition(f"t{index}").replicas]
    assert {held.count(id) for id in (1, 2, 3)} == {6}


# --- rule 10 ------------------------------------------------------------------------------


def test_answer_waits_until_every_live_broker_has_applied_it(p: Playbook) -> None:
    request = ct.CreateTopicsRequest(topics=[topic("t")])
    message = bus.Forward(next(NUMBERS), 19, 7, None, 1000)
    assert not any(
        isinstance(send.message, bus.Forwarded)
        for send in p.receive(1, message, payload=[encode(request, 7)])
    )
    p.heartbeat(1)
    p.heartbeat(2)
    start = len(p.sent)
    p.heartbeat(3)
    only(p.sent[start:], bus.Forwarded)


def test_answer_waits_one_second_at_most(p: Playbook) -> None:
    request = ct.CreateTopicsRequest(topics=[topic("t")])
    start = len(p.sent)
    p.receive(1, bus.Forward(next(NUMBERS), 19, 7, None, 1000), payload=[encode(request, 7)])
    p.pass_time(999)
    assert not any(isinstance(send.message, bus.Forwarded) for send in p.sent[start:])
    p.pass_time(1)
    only(p.sent[start:], bus.Forwarded)


def test_broker_that_dies_is_waited_for_no_longer(p: Playbook) -> None:
    request = ct.CreateTopicsRequest(topics=[topic("t")])
    start = len(p.sent)
    p.receive(1, bus.Forward(next(NUMBERS), 19, 7, None, 1000), payload=[encode(request, 7)])
    p.heartbeat(1)
    p.heartbeat(2)
    p.die(3)
    only(p.sent[start:], bus.Forwarded)


def test_body_that_is_no_request_is_refused(p: Playbook) -> None:
    start = len(p.sent)
    p.receive(1, bus.Forward(next(NUMBERS), 19, 7, None, 1000), payload=[b"\xff\xff"])
    p.heartbeats()
    assert only(p.sent[start:], bus.Forwarded).error == ErrorCode.INVALID_REQUEST


def test_api_that_is_not_decided_here_is_refused(p: Playbook) -> None:
    start = len(p.sent)
    p.receive(1, bus.Forward(next(NUMBERS), 0, 9, None, 1000), payload=[b""])
    p.heartbeats()
    assert only(p.sent[start:], bus.Forwarded).error == ErrorCode.UNSUPPORTED_VERSION


# --- DeleteTopics -------------------------------------------------------------------------


def test_a_request_that_comes_twice_is_carried_out_once(p: Playbook) -> None:
    create(p, topic("t"))
    request = dt.DeleteTopicsRequest(topics=[dt.DeleteTopicState(name="t")])
    message = bus.Forward(next(NUMBERS), 20, 6, None, 1000)
    p.receive(1, message, payload=[encode(request, 6)])
    p.heartbeats()
    assert "t" not in p.image.topics
    create(p, topic("t"))
    p.receive(1, message, payload=[encode(request, 6)])
    assert "t" in p.image.topics


def test_topic_is_deleted_by_name_and_comes_back_with_another_id(p: Playbook) -> None:
    (made,) = create(p, topic("t"))
    response = forward(p, dt.DeleteTopicsRequest(topic_names=["t", "nix"]), 5)
    assert [r.error_code for r in response.responses] == [
        0,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert p.image.partition(TopicPartition("t", 0)) is None
    (again,) = create(p, topic("t"))
    assert again.topic_id != made.topic_id


def test_topic_is_deleted_by_id(p: Playbook) -> None:
    (made,) = create(p, topic("t"))
    states = [
        dt.DeleteTopicState(topic_id=made.topic_id),
        dt.DeleteTopicState(topic_id=bytes(range(16))),
        dt.DeleteTopicState(name="t", topic_id=made.topic_id),
    ]
    response = forward(p, dt.DeleteTopicsRequest(topics=states), 6)
    codes = [(r.name, r.error_code) for r in response.responses]
    assert codes == [
        ("t", 0),
        (None, ErrorCode.UNKNOWN_TOPIC_ID),
        ("t", ErrorCode.INVALID_REQUEST),
    ]


def test_topic_named_twice_is_not_deleted(p: Playbook) -> None:
    create(p, topic("t"))
    response = forward(p, dt.DeleteTopicsRequest(topic_names=["t", "t"]), 5)
    assert {r.error_code for r in response.responses} == {ErrorCode.INVALID_REQUEST}
    assert "t" in p.image.topics


def test_deletion_can_be_switched_off() -> None:
    p = Playbook(delete_topic_enable="false")
    p.join(1, 2, 3)
    create(p, topic("t"))
    response = forward(p, dt.DeleteTopicsRequest(topic_names=["t"]), 5)
    assert response.responses[0].error_code == ErrorCode.TOPIC_DELETION_DISABLED


# --- CreatePartitions ---------------------------------------------------------------------


def grow(p: Playbook, count: int, assignments: Any = None, **fields: Any) -> Any:
    wanted = cp.CreatePartitionsTopic(name="t", count=count, assignments=assignments)
    (result,) = forward(p, cp.CreatePartitionsRequest(topics=[wanted], **fields), 3).results
    return result


def test_partitions_are_added_with_as_many_replicas_as_the_first(p: Playbook) -> None:
    create(p, topic("t", 1, 2))
    assert grow(p, 4).error_code == 0
    assert [len(p.partition("t", index).replicas) for index in range(4)] == [2, 2, 2, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 20_000])
def test_fewer_as_many_or_far_too_many_partitions_are_refused(p: Playbook, count: int) -> None:
    create(p, topic("t", 2, 1))
    assert grow(p, count).error_code == ErrorCode.INVALID_PARTITIONS


def test_assignments_must_fit_the_new_partitions(p: Playbook) -> None:
    create(p, topic("t", 1, 2))
    one = [cp.CreatePartitionsAssignment(broker_ids=[1, 3])]
    assert grow(p, 3, one).error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    short = [cp.CreatePartitionsAssignment(broker_ids=[1])]
    assert grow(p, 2, short).error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert grow(p, 2, one, validate_only=True).error_code == 0
    assert len(p.image.topics["t"].partitions) == 1
    assert grow(p, 2, one).error_code == 0
    assert p.partition("t", 1).replicas == [1, 3]


def test_unknown_topic_cannot_grow(p: Playbook) -> None:
    assert grow(p, 2).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
