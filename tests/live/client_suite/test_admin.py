"""Topics, configs and offsets: the same over ZeroMQ, over TCP, and with Apache Kafka."""

from __future__ import annotations

import time

import pytest

from kcluster.client import ApiError, ErrorCode, Producer, TopicPartition
from kcluster.core.client.operations import EARLIEST, MAX_TIMESTAMP
from tests.live.client_suite.conftest import Way, wait_until

NOW_MS = int(time.time() * 1000)
"""Retention lets records of this time alone."""

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def code_of(raised: pytest.ExceptionInfo[ApiError]) -> ErrorCode:
    return raised.value.code


def test_topics_are_created_described_altered_and_deleted(way: Way) -> None:
    admin, name = way.admin, way.topic(partitions=2, **{"retention.ms": "60000"})
    assert name in [topic.name for topic in admin.topics()]
    [topic] = admin.topics([name])
    assert (topic.name, len(topic.partitions), len(topic.id)) == (name, 2, 22)
    brokers = {broker.id for broker in admin.cluster().brokers}
    assert set(topic.partitions[0].replicas) <= brokers
    assert topic.replication_factor == len(topic.partitions[0].replicas)
    with pytest.raises(ApiError) as there:
        admin.create_topic(name)
    assert code_of(there) is ErrorCode.TOPIC_ALREADY_EXISTS
    with pytest.raises(ApiError) as wrong:
        admin.create_topic("not a name")
    assert code_of(wrong) is ErrorCode.INVALID_TOPIC_EXCEPTION
    admin.add_partitions(name, 5)
    wait_until(lambda: len(admin.topics([name])[0].partitions) == 5, "there are five")
    with pytest.raises(ApiError) as fewer:
        admin.add_partitions(name, 3)
    assert code_of(fewer) is ErrorCode.INVALID_PARTITIONS
    admin.delete_topics(name)
    way.topics.remove(name)
    wait_until(lambda: name not in [topic.name for topic in admin.topics()], "it is gone")
    with pytest.raises(ApiError) as gone:
        admin.topics([name])
    assert code_of(gone) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(ApiError) as again:
        admin.delete_topics(name)
    assert code_of(again) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_configs_are_read_set_and_taken_back(way: Way) -> None:
    admin, name = way.admin, way.topic(**{"retention.ms": "60000"})

    def config(key: str) -> tuple[str | None, str]:
        [found] = [each for each in admin.configs(name) if each.name == key]
        return found.value, found.source

    assert config("retention.ms") == ("60000", "topic")
    assert config("segment.bytes")[1] == "default"
    admin.alter_configs(name, {"retention.ms": "70000", "max.message.bytes": "2000"})
    wait_until(lambda: config("retention.ms") == ("70000", "topic"), "it is set")
    admin.alter_configs(name, removed=["retention.ms"])
    wait_until(lambda: config("retention.ms")[1] == "default", "it is back")
    assert config("max.message.bytes") == ("2000", "topic")
    with pytest.raises(ApiError) as wrong:
        admin.alter_configs(name, {"retention.ms": "soon"})
    assert code_of(wrong) is ErrorCode.INVALID_CONFIG
    broker = admin.cluster().brokers[0].id
    assert "log.retention.ms" in [each.name for each in admin.configs(str(broker), "broker")]


def test_offsets_are_told_and_records_trimmed(way: Way) -> None:
    admin, name = way.admin, way.topic(partitions=3)
    tps = [TopicPartition(name, index) for index in range(3)]
    with Producer(**way.where) as producer:
        for number in range(30):
            producer.send(name, b"", partition=number % 2, timestamp_ms=NOW_MS + number)
    assert [each.offset for each in admin.offsets(tps).values()] == [15, 15, 0]
    found = admin.offsets(tps[:2], NOW_MS + 10)
    assert [each.offset for each in found.values()] == [5, 5]
    assert [each.timestamp - NOW_MS for each in found.values()] == [10, 11]
    assert admin.offsets(tps, MAX_TIMESTAMP)[tps[0]].offset == 14
    trimmed = admin.delete_records({tps[0]: 4, tps[1]: 1000})
    assert not isinstance(trimmed[tps[0]], ApiError)
    refused = trimmed[tps[1]]
    assert isinstance(refused, ApiError)
    assert refused.code is ErrorCode.OFFSET_OUT_OF_RANGE
    assert [each.offset for each in admin.offsets(tps, EARLIEST).values()] == [4, 0, 0]
    with pytest.raises(ApiError, match="there is no partition"):
        admin.offsets([TopicPartition(name, 9)])
    with pytest.raises(ApiError, match="there is no topic"):
        admin.offsets([TopicPartition("no-such-topic", 0)])


def test_leaders_are_elected(way: Way) -> None:
    name = way.topic()
    [election] = way.admin.elect_leaders([TopicPartition(name, 0)])
    assert election.tp == TopicPartition(name, 0)
    assert election.error in (None, "ELECTION_NOT_NEEDED")
