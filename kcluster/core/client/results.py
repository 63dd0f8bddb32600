"""What an admin client is told, as values.

Error codes are gone from them: a refusal is an ApiError, and of several things at once the
refused ones are named in it.
"""

from __future__ import annotations

import msgspec

from kcluster.model import TopicPartition


class Broker(msgspec.Struct, frozen=True):
    id: int
    host: str
    port: int
    rack: str | None = None


class Cluster(msgspec.Struct, frozen=True):
    id: str | None
    controller: int
    """A broker that takes orders; -1 when there is none."""
    brokers: list[Broker]


class Partition(msgspec.Struct, frozen=True):
    index: int
    leader: int
    """-1 when there is none."""
    leader_epoch: int
    replicas: list[int]
    isr: list[int]
    offline: list[int] = []


class Topic(msgspec.Struct, frozen=True):
    name: str
    id: str
    """As Kafka prints it; of 22 letters."""
    is_internal: bool
    partitions: list[Partition]
    """By index."""

    @property
    def replication_factor(self) -> int:
        return max((len(each.replicas) for each in self.partitions), default=0)


class CreatedTopic(msgspec.Struct, frozen=True):
    name: str
    partitions: int
    replication_factor: int


class Config(msgspec.Struct, frozen=True):
    name: str
    value: str | None
    """None: not told, since it is secret, or there is none."""
    source: str
    """topic, broker, brokers (all of them), start (a broker's file or options) or default."""
    is_read_only: bool
    is_sensitive: bool
    documentation: str | None


class Offset(msgspec.Struct, frozen=True):
    """Where a partition has what was asked for."""

    offset: int
    """-1: no record is that young."""
    timestamp: int
    """Of that record, in ms; -1 for an end of the log."""
    leader: int
    """Who said so."""


class Election(msgspec.Struct, frozen=True):
    tp: TopicPartition
    error: str | None
    """None: elected."""
    message: str | None


class GroupListing(msgspec.Struct, frozen=True):
    group: str
    state: str
    protocol_type: str
    type: str
    """classic or consumer; empty when the broker does not tell."""
    coordinator: int


class Member(msgspec.Struct, frozen=True):
    id: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: list[TopicPartition]


class Group(msgspec.Struct, frozen=True):
    group: str
    state: str
    protocol_type: str
    protocol: str
    coordinator: int
    members: list[Member]
