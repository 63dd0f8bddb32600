"""OffsetForLeaderEpoch (23): where a leader epoch ends; how a consumer finds that its log was cut.

Versions 2-4, flexible from 4.

The answer is the largest epoch not above the one asked for that the leader knows, and the
exclusive end of it; -1 and -1 when there is none.

  3   replica_id

Sources: KIP-101, KIP-279, KIP-320.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, Int64, String, versions


class OffsetForLeaderPartition(Struct):
    partition: Annotated[Int32, versions("0+")] = 0
    current_leader_epoch: Annotated[Int32, versions("2+")] = -1
    leader_epoch: Annotated[Int32, versions("0+")] = 0


class OffsetForLeaderTopic(Struct):
    topic: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[OffsetForLeaderPartition], versions("0+")] = []


class OffsetForLeaderEpochRequest(Message):
    KEY: ClassVar[int] = 23
    VERSIONS: ClassVar[str] = "2-4"
    FLEXIBLE: ClassVar[str] = "4+"

    replica_id: Annotated[Int32, versions("3+")] = -2
    """-1 for a consumer, -2 for a debugging consumer; others are brokers."""
    topics: Annotated[list[OffsetForLeaderTopic], versions("0+")] = []


class EpochEndOffset(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    partition: Annotated[Int32, versions("0+")] = 0
    leader_epoch: Annotated[Int32, versions("1+")] = -1
    end_offset: Annotated[Int64, versions("0+")] = -1


class OffsetForLeaderTopicResult(Struct):
    topic: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[EpochEndOffset], versions("0+")] = []


class OffsetForLeaderEpochResponse(Message):
    KEY: ClassVar[int] = 23
    VERSIONS: ClassVar[str] = "2-4"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    topics: Annotated[list[OffsetForLeaderTopicResult], versions("0+")] = []
