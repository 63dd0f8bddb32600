"""Offsets of a group: committed by its members, by administrators of a group that is empty, and
by consumers that assign their partitions themselves and only keep their positions here.

Functions over a shard. Refusals of the whole request are ApiErrors; those of single partitions
are in what is returned. Sources: KIP-211, KIP-496; Kafka's OffsetMetadataManager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import rebalance
from kcluster.core.groups.group import Group
from kcluster.core.groups.offsets import Committed, Place
from kcluster.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from kcluster.core.groups.shard import Done, Shard
    from kcluster.core.turn import Turn


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
) -> None:
    """Raises ApiError, `missing` for a generation of no group; else `done` is told when they are
    committed."""
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
    group = shard.find(group_id)
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
    group = shard.find(group_id)
    assert group is not None
    known = set(group.offsets.places())
    gone = [place for place in dict.fromkeys(places) if place in known]
    if gone:
        shard.delete_offsets(turn, group, gone, done)
    else:
        done(turn, ErrorCode.NONE)
