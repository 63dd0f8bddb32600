"""What consumers tell each other through their group: subscriptions and assignments.

    JoinGroup  metadata     INT16 version | ConsumerProtocolSubscription     member to leader
    SyncGroup  assignment   INT16 version | ConsumerProtocolAssignment       leader to member

The broker carries these bytes and does not read them. A later version only appends fields, so it
is read as the highest that is known; bytes of length 0 are an assignment of nothing.

Sources: Kafka's definitions of the two; KIP-429 (owned partitions), KIP-792 (generation), KIP-881
(rack).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, TypeVar

from kcluster import model
from kcluster.errors import RemoteProtocolError
from kcluster.wire.message import decode, encode
from kcluster.wire.plan import Message, Struct, valid_versions
from kcluster.wire.types import Bytes, Int32, String, versions

PROTOCOL_TYPE: Final = "consumer"
"""Of groups whose members speak this."""

VERSION: Final = 3
"""Written, as Java's consumer does."""

_PREFIX: Final = struct.Struct(">h")


class ConsumerProtocolSubscription(Message):
    VERSIONS: ClassVar[str] = "0-3"
    FLEXIBLE: ClassVar[str] = "none"

    class TopicPartition(Struct):
        topic: Annotated[String, versions("1+")] = ""
        partitions: Annotated[list[Int32], versions("1+")] = []

    topics: Annotated[list[String], versions("0+")] = []
    user_data: Annotated[Bytes | None, versions("0+", nullable="0+")] = None
    owned_partitions: Annotated[
        list[ConsumerProtocolSubscription.TopicPartition], versions("1+")
    ] = []
    generation_id: Annotated[Int32, versions("2+")] = -1
    """In which the partitions were owned."""
    rack_id: Annotated[String | None, versions("3+", nullable="3+")] = None


class ConsumerProtocolAssignment(Message):
    VERSIONS: ClassVar[str] = "0-3"
    FLEXIBLE: ClassVar[str] = "none"

    class TopicPartition(Struct):
        topic: Annotated[String, versions("0+")] = ""
        partitions: Annotated[list[Int32], versions("0+")] = []

    assigned_partitions: Annotated[
        list[ConsumerProtocolAssignment.TopicPartition], versions("0+")
    ] = []
    user_data: Annotated[Bytes | None, versions("0+", nullable="0+")] = None


class Subscription(Struct):
    """What a member wants, and what it holds."""

    topics: list[str]
    owned: list[model.TopicPartition]
    generation: int = -1


def encode_subscription(subscription: Subscription) -> bytes:
    message = ConsumerProtocolSubscription(
        topics=subscription.topics,
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=partitions)
            for topic, partitions in _by_topic(subscription.owned).items()
        ],
        generation_id=subscription.generation,
    )
    return _PREFIX.pack(VERSION) + encode(message, VERSION)


def decode_subscription(data: bytes) -> Subscription:
    """Raises RemoteProtocolError."""
    message = _decode(ConsumerProtocolSubscription, data)
    owned = [
        model.TopicPartition(each.topic, partition)
        for each in message.owned_partitions
        for partition in each.partitions
    ]
    return Subscription(message.topics, owned, message.generation_id)


def encode_assignment(partitions: Iterable[model.TopicPartition]) -> bytes:
    message = ConsumerProtocolAssignment(
        assigned_partitions=[
            ConsumerProtocolAssignment.TopicPartition(topic=topic, partitions=indexes)
            for topic, indexes in _by_topic(partitions).items()
        ]
    )
    return _PREFIX.pack(VERSION) + encode(message, VERSION)


def decode_assignment(data: bytes) -> list[model.TopicPartition]:
    """Raises RemoteProtocolError."""
    if not data:
        return []
    message = _decode(ConsumerProtocolAssignment, data)
    return [
        model.TopicPartition(each.topic, partition)
        for each in message.assigned_partitions
        for partition in each.partitions
    ]


def user_data_of(assignment: bytes) -> bytes:
    """What an assignor of the clients' own says to itself. Raises RemoteProtocolError."""
    if not assignment:
        return b""
    return _decode(ConsumerProtocolAssignment, assignment).user_data or b""


M = TypeVar("M", bound=Message)


def _decode(cls: type[M], data: bytes) -> M:
    if len(data) < _PREFIX.size:
        raise RemoteProtocolError(f"{cls.__name__} of {len(data)} bytes")
    [version] = _PREFIX.unpack_from(data)
    if version < 0:
        raise RemoteProtocolError(f"{cls.__name__} has no version {version}")
    return decode(cls, data, min(version, valid_versions(cls).high), _PREFIX.size)


def _by_topic(partitions: Iterable[model.TopicPartition]) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for tp in sorted(partitions):
        topics.setdefault(tp.topic, []).append(tp.partition)
    return topics
