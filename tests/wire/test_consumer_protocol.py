"""Subscriptions and assignments, as Kafka's own clients write and read them."""

from __future__ import annotations

import pytest

from kcluster.errors import RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)

PARTITIONS = [TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("b", 1)]


def test_a_subscription_comes_back_as_it_was() -> None:
    subscription = Subscription(["a", "b"], PARTITIONS, 7)
    assert decode_subscription(encode_subscription(subscription)) == subscription


def test_an_assignment_comes_back_sorted() -> None:
    assert decode_assignment(encode_assignment(reversed(PARTITIONS))) == PARTITIONS


def test_no_bytes_are_an_assignment_of_nothing() -> None:
    assert decode_assignment(b"") == []


def test_the_first_version_owns_nothing() -> None:
    data = b"\0\0" + b"\0\0\0\1" + b"\0\1a" + b"\xff\xff\xff\xff"
    assert decode_subscription(data) == Subscription(["a"], [], -1)


def test_a_later_version_is_read_as_the_highest_that_is_known() -> None:
    data = encode_subscription(Subscription(["a"], PARTITIONS, 3))
    assert decode_subscription(b"\0\x09" + data[2:] + b"more") == decode_subscription(data)


def test_kafka_python_reads_what_we_write() -> None:
    from kafka.protocol.consumer import metadata as theirs

    read = theirs.ConsumerProtocolSubscription.decode(
        encode_subscription(Subscription(["a", "b"], PARTITIONS, 7))
    )
    assert list(read.topics) == ["a", "b"]
    made = theirs.ConsumerProtocolAssignment.decode(encode_assignment(PARTITIONS))
    assert [(tp.topic, list(tp.partitions)) for tp in made.assigned_partitions] == [
        ("a", [0, 2]),
        ("b", [1]),
    ]


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff\xff\0\0", b"\0\1\0\0\0\5"])
def test_bytes_that_are_no_subscription_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_subscription(data)
