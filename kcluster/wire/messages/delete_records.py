"""DeleteRecords (21): forget the records of partitions below an offset.

Versions 0-2, flexible from 2.

Offset -1 means the high watermark. Answered when every live replica has moved its log start.

Source: KIP-107.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, Int64, String, versions


class DeleteRecordsPartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    offset: Annotated[Int64, versions("0+")] = 0


class DeleteRecordsTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[DeleteRecordsPartition], versions("0+")] = []


class DeleteRecordsRequest(Message):
    KEY: ClassVar[int] = 21
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    topics: Annotated[list[DeleteRecordsTopic], versions("0+")] = []
    timeout_ms: Annotated[Int32, versions("0+")] = 0


class DeleteRecordsPartitionResult(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    low_watermark: Annotated[Int64, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0


class DeleteRecordsTopicResult(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[DeleteRecordsPartitionResult], versions("0+")] = []


class DeleteRecordsResponse(Message):
    KEY: ClassVar[int] = 21
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    topics: Annotated[list[DeleteRecordsTopicResult], versions("0+")] = []
