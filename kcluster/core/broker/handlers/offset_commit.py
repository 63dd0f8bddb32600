"""OffsetCommit (key 8): keep the positions of a group's consumers.

Versions 2-10: until 4 with a retention of its own (since then the broker's counts, KIP-211), 6
leader epochs, 7 static members, 9 says GROUP_ID_NOT_FOUND of a group that is not there, and is the
first that members of the consumer protocol may use, 10 topics by id. Answered when the offsets are
committed to `__consumer_offsets`; partitions that cannot be are refused one by one, and do not keep
the others back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import commits
from kcluster.core.groups.offsets import Committed, Place
from kcluster.errors import ErrorCode
from kcluster.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

NOT_FOUND_VERSION = 9
TOPIC_ID_VERSION = 10


def handle(broker: BrokerCore, call: Call, request: OffsetCommitRequest, turn: Turn) -> None:
    response = OffsetCommitResponse()
    entries: dict[Place, Committed] = {}
    waiting: list[OffsetCommitResponsePartition] = []
    by_id = call.header.api_version >= TOPIC_ID_VERSION
    retention_ms = request.retention_time_ms
    expire_ms = turn.wall_ms + retention_ms if retention_ms >= 0 else -1
    metadata_max_bytes = broker.settings.int("offset.metadata.max.bytes")
    for topic in request.topics:
        name = broker.image.topic_names.get(topic.topic_id, "") if by_id else topic.name
        known = broker.image.topics.get(name)
        parts: list[OffsetCommitResponsePartition] = []
        for wanted in topic.partitions:
            part = OffsetCommitResponsePartition(partition_index=wanted.partition_index)
            parts.append(part)
            metadata = wanted.committed_metadata or ""
            if known is None:
                part.error_code = (
                    ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                )
            elif wanted.partition_index not in known.partitions:
                part.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif len(metadata.encode()) > metadata_max_bytes:
                part.error_code = ErrorCode.OFFSET_METADATA_TOO_LARGE
            elif wanted.committed_offset < 0:
                part.error_code = ErrorCode.INVALID_COMMIT_OFFSET_SIZE
            else:
                waiting.append(part)
                entries[name, wanted.partition_index] = Committed(
                    wanted.committed_offset,
                    wanted.committed_leader_epoch,
                    metadata,
                    turn.wall_ms,
                    expire_ms,
                )
        response.topics.append(
            OffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=parts)
        )

    missing = ErrorCode.ILLEGAL_GENERATION
    if call.header.api_version >= NOT_FOUND_VERSION:
        missing = ErrorCode.GROUP_ID_NOT_FOUND

    def done(later: Turn, error: ErrorCode) -> None:
        for part in waiting:
            part.error_code = error
        call.answer(later, response)

    def commit(later: Turn, shard: Shard) -> None:
        commits.commit(
            shard,
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id_or_member_epoch,
            entries,
            later,
            done,
            missing=missing,
            version=call.header.api_version,
        )

    broker.groups.serve(turn, request.group_id, commit, done)
