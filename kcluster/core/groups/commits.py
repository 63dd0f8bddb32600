"""Offsets of a group: committed by its members, by administrators of a group that is empty, and
by consumers that assign their partitions themselves and only keep their positions here.

Functions over a shard. Refusals of the whole request are ApiErrors; those of single partitions
are in what is returned. Sources: KIP-211, KIP-496; Kafka's OffsetMetadataManager.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from kcluster.core.groups import rebalance
from kcluster.core.groups.group import Group
from kcluster.core.groups.offsets import Committed, Place
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicId

if TYPE_CHECKING:
    from kcluster.core.groups.consumer.group import ConsumerGroup
    from kcluster.core.groups.consumer.member import Member as ConsumerMember
    from kcluster.core.groups.shard import Done, Shard
    from kcluster.core.turn import Turn

CONSUMER_VERSION: Final = 9
"""Of OffsetCommit: from here on it carries a member's epoch."""


def commit(
    shard: Shard,
    group_id: str,
    member_id: str,
    instance_id: str | None,
    generation: int,
    entries: dict[Place, Committed],
    turn: Turn,
    done: Done,
    *,
    missing: ErrorCode = ErrorCode.ILLEGAL_GENERATION,
    version: int = CONSUMER_VERSION,
) -> None:
    """Raises ApiError, `missing` for a generation of no group; else `done` is told when they are
    committed. `version` of OffsetCommit."""
    consumer_group = shard.find_consumer(group_id)
    if consumer_group is not None:
        _check_consumer(shard, consumer_group, member_id, generation, entries, version)
        if entries:
            shard.commit_offsets(turn, consumer_group, entries, done)
        else:
            done(turn, ErrorCode.NONE)
        return
    group = shard.find(group_id)
    if group is None:
        if generation >= 0:
            raise ApiError(missing)
        group = shard.group(group_id)
    try:
        _check(shard, group, member_id, instance_id, generation, turn)
        if entries:
            shard.commit_offsets(turn, group, entries, done)
        else:
            done(turn, ErrorCode.NONE)
    finally:
        shard.forget_if_unused(group)


def _check(
    shard: Shard,
    group: Group,
    member_id: str,
    instance_id: str | None,
    generation: int,
    turn: Turn,
) -> None:
    """Whether it may commit (the table in `group.py`). Raises ApiError."""
    if generation < 0 and group.is_empty:
        return
    if generation < 0 and not member_id and instance_id is None:
        # While a group has members, only they commit.
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    member = group.find(member_id, instance_id)
    if generation != group.generation:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    if group.settled != generation:
        # It has heard of the new generation, whose assignment is not committed, or never was:
        # what it commits is of the one before.
        raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
    rebalance.beat(shard, member, turn)


def _check_consumer(
    shard: Shard,
    group: ConsumerGroup,
    member_id: str,
    epoch: int,
    places: Iterable[Place],
    version: int,
) -> None:
    """Whether a member of this epoch may commit `places`: all, when the epoch is its own; in an
    older one, what it has had since then and was not taken from it (KIP-1251). Raises ApiError."""
    if epoch < 0 and group.is_empty:
        return
    member = group.find(member_id)
    if member.classic is None and version < CONSUMER_VERSION:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION)
    if epoch == member.epoch:
        return
    topics = shard.image().topics
    held = {**member.assigned, **member.revoking}
    for topic, index in places:
        part = (TopicId(topics[topic].id), index) if topic in topics else None
        since = held.get(part) if part is not None else None
        if epoch > member.epoch or since is None or epoch < since:
            raise ApiError(_stale(member))


def check_fetch(shard: Shard, group_id: str, member_id: str | None, epoch: int) -> None:
    """Whether a member of this epoch may ask for offsets: one that is behind shall hear of it
    first (KIP-848). Raises ApiError."""
    group = shard.find_consumer(group_id)
    if group is None or (member_id is None and epoch < 0):
        return
    member = group.find(member_id or "")
    if epoch != member.epoch:
        raise ApiError(_stale(member))


def _stale(member: ConsumerMember) -> ErrorCode:
    is_classic = member.classic is not None
    return ErrorCode.ILLEGAL_GENERATION if is_classic else ErrorCode.STALE_MEMBER_EPOCH


def fetch(shard: Shard, group_id: str, places: list[Place]) -> dict[Place, Committed]:
    """The committed ones of `places`."""
    offsets = shard.offsets_of(group_id)
    if offsets is None:
        return {}
    high_watermark = shard.journal.high_watermark
    found = {place: offsets.settle(place, high_watermark) for place in places}
    return {place: entry for place, entry in found.items() if entry is not None}


def fetch_all(shard: Shard, group_id: str) -> dict[Place, Committed]:
    offsets = shard.offsets_of(group_id)
    if offsets is None:
        return {}
    return dict(sorted(offsets.committed(shard.journal.high_watermark)))


def refused_deletions(shard: Shard, group_id: str, places: list[Place]) -> dict[Place, ErrorCode]:
    """Those of `places` that must stay, because the group subscribes to their topic (KIP-496).
    Raises ApiError when it cannot be known, or there is no such group."""
    group = shard.find_any(group_id)
    if group is None:
        raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
    subscribed = group.subscribed_topics()
    if subscribed is None:
        raise ApiError(ErrorCode.NON_EMPTY_GROUP)
    return {
        place: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC for place in places if place[0] in subscribed
    }


def delete(shard: Shard, group_id: str, places: list[Place], turn: Turn, done: Done) -> None:
    """Forget those that there are. Raises ApiError; else `done` is told when it is committed."""
    group = shard.find_any(group_id)
    assert group is not None
    known = set(group.offsets.places())
    gone = [place for place in dict.fromkeys(places) if place in known]
    if gone:
        shard.delete_offsets(turn, group, gone, done)
    else:
        done(turn, ErrorCode.NONE)
