"""OffsetCommit (8): keep the positions of a group's consumers.

Versions 2-10, flexible from 8.

Answered once the offsets are committed to `__consumer_offsets`. A commit without a generation
(-1) and member is that of a consumer that assigns its partitions itself.

  2   retention_time_ms, until 4; since then only the broker's setting counts (KIP-211)
  6   leader epochs (KIP-320)
  7   group_instance_id (KIP-345)
  9   a member epoch of the new protocol in the place of the generation (KIP-848)
  10  topics by id instead of name (KIP-848)

Sources: KIP-211, KIP-320, KIP-345, KIP-848.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Int16, Int32, Int64, String, Uuid, versions


class OffsetCommitRequestPartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    committed_offset: Annotated[Int64, versions("0+")] = 0
    committed_leader_epoch: Annotated[Int32, versions("6+")] = -1
    committed_metadata: Annotated[String | None, versions("0+", nullable="0+")] = ""


class OffsetCommitRequestTopic(Struct):
    name: Annotated[String, versions("0-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: Annotated[list[OffsetCommitRequestPartition], versions("0+")] = []


class OffsetCommitRequest(Message):
    KEY: ClassVar[int] = 8
    VERSIONS: ClassVar[str] = "2-10"
    FLEXIBLE: ClassVar[str] = "8+"

    group_id: Annotated[String, versions("0+")] = ""
    generation_id_or_member_epoch: Annotated[Int32, versions("1+")] = -1
    member_id: Annotated[String, versions("1+")] = ""
    group_instance_id: Annotated[String | None, versions("7+", nullable="7+")] = None
    retention_time_ms: Annotated[Int64, versions("2-4")] = -1
    topics: Annotated[list[OffsetCommitRequestTopic], versions("0+")] = []


class OffsetCommitResponsePartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0


class OffsetCommitResponseTopic(Struct):
    name: Annotated[String, versions("0-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: Annotated[list[OffsetCommitResponsePartition], versions("0+")] = []


class OffsetCommitResponse(Message):
    KEY: ClassVar[int] = 8
    VERSIONS: ClassVar[str] = "2-10"
    FLEXIBLE: ClassVar[str] = "8+"

    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    topics: Annotated[list[OffsetCommitResponseTopic], versions("0+")] = []
