from __future__ import annotations

import pytest

from kcluster.config import Settings
from kcluster.core.broker.handlers import metadata
from kcluster.core.metadata import records as r
from kcluster.core.turn import Turn
from kcluster.errors import ErrorCode
from kcluster.wire.message import decode, encode
from kcluster.wire.messages.create_topics import (
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.core.broker.handlers.reading import ORDERS, FakeBroker, ask, image, led


def named(*names: str, **fields: bool) -> MetadataRequest:
    return MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in names], **fields)


@pytest.mark.parametrize("version", range(14))
def test_every_version_names_brokers_leaders_and_the_topic(version: int) -> None:
    answer = ask(metadata, FakeBroker(), named("orders"), version)
    assert [(b.node_id, b.port) for b in answer.brokers] == [(1, 19092), (2, 19093), (3, 19094)]
    [topic] = answer.topics
    assert topic.name == "orders"
    assert [(p.partition_index, p.leader_id) for p in topic.partitions] == [(0, 1), (1, 2)]
    if version >= 1:
        assert answer.controller_id == 1
    if version >= 7:
        assert topic.partitions[0].leader_epoch == 4
    if version >= 10:
        assert topic.topic_id == ORDERS


def test_all_topics_are_an_empty_list_in_version_0_and_null_afterwards() -> None:
    broker = FakeBroker()
    assert [t.name for t in ask(metadata, broker, MetadataRequest(topics=[]), 0).topics] == [
        "orders"
    ]
    assert ask(metadata, broker, MetadataRequest(topics=[]), 1).topics == []
    assert [t.name for t in ask(metadata, broker, MetadataRequest(topics=None), 1).topics] == [
        "orders"
    ]


def test_topics_are_found_by_id_from_version_12() -> None:
    request = MetadataRequest(
        topics=[
            MetadataRequestTopic(topic_id=ORDERS, name=None),
            MetadataRequestTopic(topic_id=b"x" * 16, name=None),
        ]
    )
    found, missing = ask(metadata, FakeBroker(), request, 12).topics
    assert (found.name, found.error_code) == ("orders", 0)
    assert (missing.name, missing.topic_id) == (None, b"x" * 16)
    assert missing.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_ids_before_version_12_are_an_invalid_request() -> None:
    request = MetadataRequest(topics=[MetadataRequestTopic(topic_id=ORDERS, name="orders")])
    [topic] = ask(metadata, FakeBroker(), request, 11).topics
    assert topic.error_code == ErrorCode.INVALID_REQUEST


def test_a_topic_is_described_once_however_often_it_is_asked_for() -> None:
    assert len(ask(metadata, FakeBroker(), named("orders", "orders"), 9).topics) == 1


def test_unknown_and_impossible_names_are_told_apart() -> None:
    broker = FakeBroker(settings=Settings({"auto.create.topics.enable": "false"}))
    answer = ask(metadata, broker, named("nothing", "no/such", "x" * 250), 9)
    assert [topic.error_code for topic in answer.topics] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
    ]


def test_a_partition_without_leader_says_so_and_a_fenced_replica_is_offline() -> None:
    broker = FakeBroker(image=image(led(0, -1), r.BrokerFenced(3, 13)))
    answer = ask(metadata, broker, named("orders"), 9)
    assert [b.node_id for b in answer.brokers] == [1, 2]
    first = answer.topics[0].partitions[0]
    assert (first.leader_id, first.error_code) == (-1, ErrorCode.LEADER_NOT_AVAILABLE)
    assert first.offline_replicas == [3]


def test_the_advertised_controller_is_a_live_broker() -> None:
    broker = FakeBroker(image=image(r.BrokerFenced(1, 11)))
    assert ask(metadata, broker, named("orders"), 9).controller_id == 2


def test_permitted_operations_are_told_only_when_asked_for() -> None:
    broker = FakeBroker()
    unasked = ask(metadata, broker, named("orders"), 9)
    assert unasked.topics[0].topic_authorized_operations == -(2**31)
    asked = ask(
        metadata,
        broker,
        named(
            "orders",
            include_topic_authorized_operations=True,
            include_cluster_authorized_operations=True,
        ),
        9,
    )
    assert asked.topics[0].topic_authorized_operations == 3576
    assert asked.cluster_authorized_operations == 8096


# --- held answers ---------------------------------------------------------------------------


def test_an_answer_waits_for_the_successor_of_a_dead_leader() -> None:
    broker = FakeBroker(dead={2})
    call = ask(metadata, broker, named("orders"), 9)
    [held] = broker.held
    assert held.timeout_ms == metadata.ELECTION_MS
    assert not held.is_ready()
    broker.image.replay(led(1, 3, leader_epoch=5))
    assert held.is_ready()
    held.go_on(Turn())
    [answer] = call.answers
    assert answer.topics[0].partitions[1].leader_id == 3


def test_a_leader_that_does_not_say_that_it_is_there_is_waited_for_unless_it_is_replaced() -> None:
    broker = FakeBroker()
    call = ask(metadata, broker, named("orders"), 9, answers_questions=False)
    [held] = broker.held
    assert not held.is_ready()
    broker.neighbours.answered(3, 1)
    assert not held.is_ready()
    broker.image.replay(led(1, 1, leader_epoch=5))
    assert held.is_ready()
    held.go_on(Turn())
    assert call.answers[0].topics[0].partitions[1].leader_id == 1
    assert broker.neighbours.silent(1) == set()


def test_an_answer_goes_out_as_soon_as_the_leaders_are_there() -> None:
    broker = FakeBroker()
    ask(metadata, broker, named("orders"), 9, answers_questions=False)
    [held] = broker.held
    broker.neighbours.answered(2, 1)
    assert held.is_ready()


def test_what_this_broker_leads_is_answered_at_once() -> None:
    broker = FakeBroker(image=image(led(1, 1)))
    answer = ask(metadata, broker, named("orders"), 9, answers_questions=False)
    assert [p.leader_id for p in answer.topics[0].partitions] == [1, 1]


def test_a_broker_that_just_left_is_listed_for_a_moment() -> None:
    broker = FakeBroker(image=image(r.BrokerFenced(3, 13)))
    broker.neighbours.changed(broker.image, [3], now_ms=1000)
    for now_ms, listed in ((1000, [1, 2, 3]), (10_999, [1, 2, 3]), (11_000, [1, 2])):
        found = broker.neighbours.listed(broker.image, now_ms)
        assert [member.id for member in found] == listed
    broker.image.replay(r.BrokerUnfenced(3, 13))
    broker.neighbours.changed(broker.image, [3], now_ms=20_000)
    assert [m.id for m in broker.neighbours.listed(broker.image, 99_999)] == [1, 2, 3]


def test_when_no_successor_comes_in_time_the_partition_has_no_leader() -> None:
    broker = FakeBroker(dead={2})
    call = ask(metadata, broker, named("orders"), 9)
    broker.held[0].go_on(Turn())
    second = call.answers[0].topics[0].partitions[1]
    assert (second.leader_id, second.error_code) == (-1, ErrorCode.LEADER_NOT_AVAILABLE)


def test_topics_without_a_dead_leader_are_answered_at_once() -> None:
    broker = FakeBroker(dead={3})
    assert ask(metadata, broker, named("orders"), 9).topics[0].error_code == 0


def created(**errors: int) -> memoryview:
    answer = CreateTopicsResponse(
        topics=[CreatableTopicResult(name=n, error_code=code) for n, code in errors.items()]
    )
    return memoryview(encode(answer, metadata.CREATE_TOPICS_VERSION))


def test_a_missing_topic_is_created_and_the_answer_waits_for_it() -> None:
    broker = FakeBroker()
    call = ask(metadata, broker, named("fresh", "orders", "no/such"), 9)
    [(_, key, version, body, client_id, _, answer)] = broker.forwarded
    assert (key, client_id) == (19, "a-client")
    request = decode(CreateTopicsRequest, body, version)
    assert [(t.name, t.num_partitions, t.replication_factor) for t in request.topics] == [
        ("fresh", -1, -1)
    ]
    broker.image.replay(r.TopicCreated("fresh", b"f" * 16))
    broker.image.replay(led(0, 3, topic_id=b"f" * 16))
    answer(Turn(), 0, created(fresh=0))
    fresh, orders, impossible = call.answers[0].topics
    assert (fresh.error_code, fresh.partitions[0].leader_id) == (0, 3)
    assert orders.error_code == 0
    assert impossible.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_topic_that_somebody_else_just_created_is_waited_for() -> None:
    broker = FakeBroker()
    call = ask(metadata, broker, named("fresh"), 9)
    broker.forwarded[0][-1](Turn(), 0, created(fresh=ErrorCode.TOPIC_ALREADY_EXISTS))
    assert call.answers == []
    broker.image.replay(r.TopicCreated("fresh", b"f" * 16))
    assert broker.held[0].is_ready()
    broker.held[0].go_on(Turn())
    assert call.answers[0].topics[0].error_code == 0


def test_a_creation_that_gave_no_answer_lets_the_client_ask_again() -> None:
    broker = FakeBroker()
    call = ask(metadata, broker, named("fresh"), 9)
    broker.forwarded[0][-1](Turn(), ErrorCode.REQUEST_TIMED_OUT, None)
    broker.held[0].go_on(Turn())
    assert call.answers[0].topics[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE


def test_a_creation_that_was_refused_says_why() -> None:
    broker = FakeBroker()
    call = ask(metadata, broker, named("fresh"), 9)
    broker.forwarded[0][-1](Turn(), 0, created(fresh=ErrorCode.INVALID_REPLICATION_FACTOR))
    assert call.answers[0].topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR


def test_nothing_is_created_for_who_does_not_want_it() -> None:
    for broker, request, version in (
        (FakeBroker(), named("fresh", allow_auto_topic_creation=False), 4),
        (FakeBroker(settings=Settings({"auto.create.topics.enable": "false"})), named("fresh"), 3),
        (FakeBroker(), named("__consumer_offsets"), 9),
    ):
        answer = ask(metadata, broker, request, version)
        assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert broker.forwarded == []
