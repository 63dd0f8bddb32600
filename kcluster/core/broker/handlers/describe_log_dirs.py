"""DescribeLogDirs (key 35): the one log directory of this broker, and what lies in it (KIP-113).

Versions 1-5: 3 adds an error for all, 4 the bytes of the volume (KIP-827), 5 whether the directory
is cordoned (KIP-1066), which ours never is. Topics null: all of this broker; partitions that are
not here are left out. The size is that of the log segments; the lag is how far the log's end is
behind the high watermark, as far as this broker has heard of it, and 0 for a leader.

Every broker on this machine has the same volume below it, unless its directory was moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.wire.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsRequest,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.replication.replica import Replica
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: DescribeLogDirsRequest, turn: Turn
) -> DescribeLogDirsResponse:
    volume = broker.files.volume()
    return DescribeLogDirsResponse(
        results=[
            DescribeLogDirsResult(
                log_dir=volume.path,
                topics=_topics(_asked(broker, request)),
                total_bytes=volume.total_bytes,
                usable_bytes=volume.usable_bytes,
            )
        ]
    )


def _asked(broker: BrokerCore, request: DescribeLogDirsRequest) -> list[Replica]:
    if request.topics is None:
        return sorted(broker.replica_set, key=lambda replica: replica.tp)
    tps = {(topic.topic, index) for topic in request.topics for index in topic.partitions}
    replicas = (replica for replica in broker.replica_set if replica.tp in tps)
    return sorted(replicas, key=lambda replica: replica.tp)


def _topics(replicas: Iterable[Replica]) -> list[DescribeLogDirsTopic]:
    topics: dict[str, DescribeLogDirsTopic] = {}
    for replica in replicas:
        name, index = replica.tp
        topic = topics.setdefault(name, DescribeLogDirsTopic(name=name, partitions=[]))
        topic.partitions.append(
            DescribeLogDirsPartition(
                partition_index=index,
                partition_size=replica.log.size_bytes,
                offset_lag=_lag(replica),
            )
        )
    return list(topics.values())


def _lag(replica: Replica) -> int:
    heard = replica.follower.leader_high_watermark if replica.follower is not None else -1
    return max(heard, replica.log.high_watermark, replica.log.log_end_offset) - (
        replica.log.log_end_offset
    )
