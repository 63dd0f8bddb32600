"""Who leads, said alike by Produce, Fetch, ListOffsets and OffsetForLeaderEpoch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from kcluster.errors import ApiError, ErrorCode
from kcluster.model import NO_EPOCH, NO_LEADER, TopicPartition

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.metadata.image import BrokerImage
    from kcluster.core.replication.leader import LeaderState
    from kcluster.core.replication.replica import Replica

MOVED: Final = frozenset({ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH})
"""Errors whose answer names the leader (KIP-951)."""

CONSUMERS: Final = frozenset({-1, -2})
"""Replica ids of a consumer and of a debugging one. Others are brokers, which have the bus: on
the client listener they are refused (CVE-2018-1288)."""


def why_not_here(broker: BrokerCore, topic: str, partition: int) -> ErrorCode:
    """For a partition that has no replica on this broker."""
    known = broker.image.partition(TopicPartition(topic, partition))
    return (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if known is None else ErrorCode.NOT_LEADER_OR_FOLLOWER
    )


def lead(
    broker: BrokerCore, topic: str, partition: int, current_leader_epoch: int
) -> tuple[Replica, LeaderState]:
    """The replica, when this broker leads it in the epoch that the client knows (-1: any).
    Raises ApiError."""
    replica = held(broker, topic, partition, current_leader_epoch)
    if replica.leader is None:
        raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
    return replica, replica.leader


def held(broker: BrokerCore, topic: str, partition: int, current_leader_epoch: int) -> Replica:
    """The replica, when this broker has a sound one, in the epoch that the client knows (-1: any).

    Raises ApiError. A client with an older epoch is fenced, one with a newer waits (KIP-320,
    invariant 7).
    """
    replica = broker.replicas.get(TopicPartition(topic, partition))
    if replica is None:
        raise ApiError(why_not_here(broker, topic, partition))
    if replica.offline:
        raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR)
    if current_leader_epoch != NO_EPOCH:
        if current_leader_epoch < replica.leader_epoch:
            raise ApiError(ErrorCode.FENCED_LEADER_EPOCH)
        if current_leader_epoch > replica.leader_epoch:
            raise ApiError(ErrorCode.UNKNOWN_LEADER_EPOCH)
    return replica


def current(broker: BrokerCore, topic: str, partition: int) -> tuple[int, int]:
    """(leader, leader epoch) as far as this broker knows; -1 for none, or for a dead one."""
    state = broker.image.partition(TopicPartition(topic, partition))
    if state is None or state.leader == NO_LEADER or broker.is_dead(state.leader):
        return NO_LEADER, NO_EPOCH
    return state.leader, state.leader_epoch


def members(broker: BrokerCore, ids: Iterable[int]) -> list[BrokerImage]:
    brokers = broker.image.brokers
    return [brokers[id] for id in sorted(ids) if id in brokers]
