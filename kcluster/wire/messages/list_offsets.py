"""ListOffsets (2): the offset of a timestamp, or an end of the log.

Versions 1-11, flexible from 6.

`timestamp` below 0 names a place: -1 latest, -2 earliest, -3 maximum timestamp (v7), -4
earliest local (v8), -5 last tiered (v9), -6 earliest pending upload (v11). With read_committed
(v2) latest is the last stable offset.

  4   leader epochs both ways (KIP-320)
  10  timeout_ms, for tiered storage (KIP-1075)

Sources: KIP-79, KIP-320, KIP-734.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int8, Int16, Int32, Int64, String, versions


class ListOffsetsPartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    current_leader_epoch: Annotated[Int32, versions("4+")] = -1
    timestamp: Annotated[Int64, versions("0+")] = 0


class ListOffsetsTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[ListOffsetsPartition], versions("0+")] = []


class ListOffsetsRequest(Message):
    KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[str] = "1-11"
    FLEXIBLE: ClassVar[str] = "6+"

    replica_id: Annotated[Int32, versions("0+")] = 0
    isolation_level: Annotated[Int8, versions("2+")] = 0
    topics: Annotated[list[ListOffsetsTopic], versions("0+")] = []
    timeout_ms: Annotated[Int32, versions("10+")] = 0


class ListOffsetsPartitionResponse(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    timestamp: Annotated[Int64, versions("1+")] = -1
    offset: Annotated[Int64, versions("1+")] = -1
    """-1 when no record is that young."""
    leader_epoch: Annotated[Int32, versions("4+")] = -1


class ListOffsetsTopicResponse(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[ListOffsetsPartitionResponse], versions("0+")] = []


class ListOffsetsResponse(Message):
    KEY: ClassVar[int] = 2
    VERSIONS: ClassVar[str] = "1-11"
    FLEXIBLE: ClassVar[str] = "6+"

    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    topics: Annotated[list[ListOffsetsTopicResponse], versions("0+")] = []
