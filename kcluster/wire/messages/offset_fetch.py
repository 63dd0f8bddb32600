"""OffsetFetch (9): the positions that a group committed.

Versions 1-10, flexible from 6.

  2   null topics: all of the group; an error of its own
  5   leader epochs (KIP-320)
  7   require_stable: not while a transaction is open on one (KIP-447)
  8   many groups in one request (KIP-709)
  9   member id and epoch of the new protocol (KIP-848)
  10  topics by id instead of name (KIP-848)

Sources: KIP-320, KIP-447, KIP-709, KIP-848.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bool, Int16, Int32, Int64, String, Uuid, versions


class OffsetFetchRequestTopic(Struct):
    name: Annotated[String, versions("0-7")] = ""
    partition_indexes: Annotated[list[Int32], versions("0-7")] = []


class OffsetFetchRequestTopics(Struct):
    name: Annotated[String, versions("8-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partition_indexes: Annotated[list[Int32], versions("8+")] = []


class OffsetFetchRequestGroup(Struct):
    group_id: Annotated[String, versions("8+")] = ""
    member_id: Annotated[String | None, versions("9+", nullable="9+")] = None
    member_epoch: Annotated[Int32, versions("9+")] = -1
    topics: Annotated[list[OffsetFetchRequestTopics] | None, versions("8+", nullable="8+")] = []


class OffsetFetchRequest(Message):
    KEY: ClassVar[int] = 9
    VERSIONS: ClassVar[str] = "1-10"
    FLEXIBLE: ClassVar[str] = "6+"

    group_id: Annotated[String, versions("0-7")] = ""
    topics: Annotated[list[OffsetFetchRequestTopic] | None, versions("0-7", nullable="2-7")] = []
    groups: Annotated[list[OffsetFetchRequestGroup], versions("8+")] = []
    require_stable: Annotated[Bool, versions("7+")] = False


class OffsetFetchResponsePartition(Struct):
    partition_index: Annotated[Int32, versions("0-7")] = 0
    committed_offset: Annotated[Int64, versions("0-7")] = 0
    committed_leader_epoch: Annotated[Int32, versions("5-7")] = -1
    metadata: Annotated[String | None, versions("0-7", nullable="0-7")] = ""
    error_code: Annotated[Int16, versions("0-7")] = 0


class OffsetFetchResponseTopic(Struct):
    name: Annotated[String, versions("0-7")] = ""
    partitions: Annotated[list[OffsetFetchResponsePartition], versions("0-7")] = []


class OffsetFetchResponsePartitions(Struct):
    partition_index: Annotated[Int32, versions("8+")] = 0
    committed_offset: Annotated[Int64, versions("8+")] = 0
    committed_leader_epoch: Annotated[Int32, versions("8+")] = -1
    metadata: Annotated[String | None, versions("8+", nullable="8+")] = ""
    error_code: Annotated[Int16, versions("8+")] = 0


class OffsetFetchResponseTopics(Struct):
    name: Annotated[String, versions("8-9")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    partitions: Annotated[list[OffsetFetchResponsePartitions], versions("8+")] = []


class OffsetFetchResponseGroup(Struct):
    group_id: Annotated[String, versions("8+")] = ""
    topics: Annotated[list[OffsetFetchResponseTopics], versions("8+")] = []
    error_code: Annotated[Int16, versions("8+")] = 0


class OffsetFetchResponse(Message):
    KEY: ClassVar[int] = 9
    VERSIONS: ClassVar[str] = "1-10"
    FLEXIBLE: ClassVar[str] = "6+"

    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    topics: Annotated[list[OffsetFetchResponseTopic], versions("0-7")] = []
    error_code: Annotated[Int16, versions("2-7")] = 0
    groups: Annotated[list[OffsetFetchResponseGroup], versions("8+")] = []
