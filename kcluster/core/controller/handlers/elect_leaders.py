"""ElectLeaders (43), versions 0-2: the preferred leader, or by force any that lives (KIP-460).

Type 0 gives partitions back to the first replica of their assignment, which has to be in sync:
PREFERRED_LEADER_NOT_AVAILABLE. Type 1 is for partitions that nobody leads: it takes a replica
in the ISR or the ELR, else any that lives, and loses what that one lacks; without any:
ELIGIBLE_LEADERS_NOT_AVAILABLE. ELECTION_NOT_NEEDED where it is so already; when all partitions
are meant (null), those are left out of the answer. Version 0 knows type 0 only.

Source: KIP-183, KIP-460; Kafka's ReplicationControlManager.
"""

from __future__ import annotations

from kcluster.core.controller.topics import Deciding
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

_PREFERRED, _UNCLEAN = 0, 1


def decide(deciding: Deciding, request: ElectLeadersRequest, version: int) -> ElectLeadersResponse:
    if request.election_type not in (_PREFERRED, _UNCLEAN):
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    wanted = request.topic_partitions
    is_unclean = request.election_type == _UNCLEAN
    if wanted is not None:
        return ElectLeadersResponse(
            replica_election_results=[
                ReplicaElectionResult(
                    topic=topic.topic,
                    partition_result=[
                        _elect(deciding, topic.topic, partition, is_unclean)
                        for partition in topic.partitions
                    ],
                )
                for topic in wanted
            ]
        )
    results = []
    for name, image in sorted(deciding.image.topics.items()):
        parts = [_elect(deciding, name, index, is_unclean) for index in sorted(image.partitions)]
        parts = [part for part in parts if part.error_code != ErrorCode.ELECTION_NOT_NEEDED]
        if parts:
            results.append(ReplicaElectionResult(topic=name, partition_result=parts))
    return ElectLeadersResponse(replica_election_results=results)


def _elect(deciding: Deciding, topic: str, partition: int, is_unclean: bool) -> PartitionResult:
    part = PartitionResult(partition_id=partition, error_message=None)
    try:
        deciding.partitions.elect_one(deciding.decision, topic, partition, is_unclean=is_unclean)
    except ApiError as error:
        part.error_code, part.error_message = error.code, error.message
    return part
