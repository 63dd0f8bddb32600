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


class GroupMember(msgspec.Struct, frozen=True):
    member: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: list[TopicPartition]
    """Assigned in this generation, or epoch."""
    epoch: int | None = None
    """As all that follows, of a member of a group of the consumer protocol."""
    target: list[TopicPartition] = []
    """What it is to have when all have given up what others are to have."""
    protocol: str = ""
    """That it speaks: consumer, classic."""

    @property
    def is_reconciled(self) -> bool:
        return set(self.partitions) == set(self.target)


class GroupOffset(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    committed: int | None
    """None: never, or expired."""
    log_start: int | None
    """None, as `log_end`, when nobody leads the partition, or the topic is no more."""
    log_end: int | None
    lag: int | None
    member: str | None
    """Who is assigned the partition."""
    host: str | None
    client_id: str | None


class Group(msgspec.Struct, frozen=True):
    group: str
    state: str
    """Kafka's words: Empty, PreparingRebalance, CompletingRebalance, Assigning, Reconciling,
    Stable, Dead."""
    protocol_type: str
    protocol: str
    """Of the assignment: range, cooperative-sticky, uniform..."""
    coordinator: int
    """Broker id."""
    members: list[GroupMember]
    partitions: list[GroupOffset] = []
    type: str = "classic"
    """Whose protocol it is: classic, consumer."""
    epoch: int | None = None
    """As the next, of a group of the consumer protocol."""
    assignment_epoch: int | None = None

    @property
    def is_active(self) -> bool:
        return self.state not in ("Empty", "Dead")
