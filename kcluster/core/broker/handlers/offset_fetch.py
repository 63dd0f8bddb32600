"""OffsetFetch (key 9): the positions that a group committed.

Versions 1-10: 2 null topics for all, 5 leader epochs, 7 `require_stable`, which without
transactions holds for every offset, 8 many groups in one request (KIP-709), 9 names a member and
its epoch, 10 topics by id. A partition without an offset has -1, which is no error. Only what is
committed is ever shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kcluster.core.broker.handlers.gathering import Gathering
from kcluster.core.groups import commits
from kcluster.core.groups.offsets import Committed, Place
from kcluster.errors import ErrorCode
from kcluster.model import ZERO_TOPIC_ID, TopicId
from kcluster.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

TOP_LEVEL_ERROR_VERSION = 2
BATCHED_VERSION = 8
TOPIC_ID_VERSION = 10

NOTHING = Committed(-1, -1, "", -1)


def handle(broker: BrokerCore, call: Call, request: OffsetFetchRequest, turn: Turn) -> None:
    if call.header.api_version < BATCHED_VERSION:
        _handle_one(broker, call, request, turn)
        return
    by_id = call.header.api_version >= TOPIC_ID_VERSION

    def respond(later: Turn, groups: list[OffsetFetchResponseGroup]) -> None:
        call.answer(later, OffsetFetchResponse(groups=groups))

    gathering = Gathering(turn, len(request.groups), respond)
    for index, wanted in enumerate(request.groups):
        _fetch(
            broker,
            wanted,
            by_id,
            turn,
            gathering.part(index),
        )


def _fetch(
    broker: BrokerCore,
    wanted: OffsetFetchRequestGroup,
    by_id: bool,
    turn: Turn,
    answer: Callable[[Turn, OffsetFetchResponseGroup], None],
) -> None:
    group_id = wanted.group_id
    names = broker.image.topic_names

    def refuse(later: Turn, error: ErrorCode) -> None:
        answer(later, OffsetFetchResponseGroup(group_id=group_id, error_code=error))

    def fetch(later: Turn, shard: Shard) -> None:
        commits.check_fetch(shard, group_id, wanted.member_id, wanted.member_epoch)
        if wanted.topics is None:
            topics = _all(broker, by_id, commits.fetch_all(shard, group_id))
        else:
            named = [
                (names.get(topic.topic_id) if by_id else topic.name, topic)
                for topic in wanted.topics
            ]
            places = [
                (name, index)
                for name, topic in named
                if name is not None
                for index in topic.partition_indexes
            ]
            entries = commits.fetch(shard, group_id, places)
            topics = [_topic(name, topic, entries) for name, topic in named]
        answer(later, OffsetFetchResponseGroup(group_id=group_id, topics=topics))

    broker.groups.serve(turn, group_id, fetch, refuse)


def _topic(
    name: str | None, topic: OffsetFetchRequestTopics, entries: dict[Place, Committed]
) -> OffsetFetchResponseTopics:
    return OffsetFetchResponseTopics(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            _partition(
                index,
                NOTHING if name is None else entries.get((name, index), NOTHING),
                ErrorCode.UNKNOWN_TOPIC_ID if name is None else ErrorCode.NONE,
            )
            for index in topic.partition_indexes
        ],
    )


def _all(
    broker: BrokerCore, by_id: bool, entries: dict[Place, Committed]
) -> list[OffsetFetchResponseTopics]:
    """By id, a topic that has none any more cannot be told."""
    topics: list[OffsetFetchResponseTopics] = []
    for name, places in _by_topic(entries):
        image = broker.image.topics.get(name)
        if by_id and image is None:
            continue
        topics.append(
            OffsetFetchResponseTopics(
                name=name,
                topic_id=TopicId(image.id) if image is not None else ZERO_TOPIC_ID,
                partitions=[_partition(index, entry) for index, entry in places],
            )
        )
    return topics


def _partition(
    index: int, entry: Committed, error: ErrorCode = ErrorCode.NONE
) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=index,
        committed_offset=entry.offset,
        committed_leader_epoch=entry.leader_epoch,
        metadata=entry.metadata,
        error_code=error,
    )


def _by_topic(entries: dict[Place, Committed]) -> Iterable[tuple[str, list[tuple[int, Committed]]]]:
    topics: dict[str, list[tuple[int, Committed]]] = {}
    for (name, index), entry in entries.items():
        topics.setdefault(name, []).append((index, entry))
    return topics.items()


# --- versions 1 to 7 ----------------------------------------------------------------------


def _handle_one(broker: BrokerCore, call: Call, request: OffsetFetchRequest, turn: Turn) -> None:
    version = call.header.api_version

    def refuse(later: Turn, error: ErrorCode) -> None:
        if version >= TOP_LEVEL_ERROR_VERSION:
            call.answer(later, OffsetFetchResponse(error_code=error))
            return
        topics = [
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[_old(index, NOTHING, error) for index in topic.partition_indexes],
            )
            for topic in request.topics or ()
        ]
        call.answer(later, OffsetFetchResponse(topics=topics))

    def fetch(later: Turn, shard: Shard) -> None:
        if request.topics is None:
            found = _by_topic(commits.fetch_all(shard, request.group_id))
            topics = [
                OffsetFetchResponseTopic(
                    name=name, partitions=[_old(index, entry) for index, entry in places]
                )
                for name, places in found
            ]
        else:
            places = [
                (topic.name, index) for topic in request.topics for index in topic.partition_indexes
            ]
            entries = commits.fetch(shard, request.group_id, places)
            topics = [
                OffsetFetchResponseTopic(
                    name=topic.name,
                    partitions=[
                        _old(index, entries.get((topic.name, index), NOTHING))
                        for index in topic.partition_indexes
                    ],
                )
                for topic in request.topics
            ]
        call.answer(later, OffsetFetchResponse(topics=topics))

    broker.groups.serve(turn, request.group_id, fetch, refuse)


def _old(
    index: int, entry: Committed, error: ErrorCode = ErrorCode.NONE
) -> OffsetFetchResponsePartition:
    return OffsetFetchResponsePartition(
        partition_index=index,
        committed_offset=entry.offset,
        committed_leader_epoch=entry.leader_epoch,
        metadata=entry.metadata,
        error_code=error,
    )
