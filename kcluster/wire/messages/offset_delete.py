"""OffsetDelete (47): forget offsets of partitions that no member of the group subscribes to.

Version 0, never flexible.

Source: KIP-496.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions


class OffsetDeleteRequestPartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0


class OffsetDeleteRequestTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[OffsetDeleteRequestPartition], versions("0+")] = []


class OffsetDeleteRequest(Message):
    KEY: ClassVar[int] = 47
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0+")] = ""
    topics: Annotated[list[OffsetDeleteRequestTopic], versions("0+")] = []


class OffsetDeleteResponsePartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0


class OffsetDeleteResponseTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[OffsetDeleteResponsePartition], versions("0+")] = []


class OffsetDeleteResponse(Message):
    KEY: ClassVar[int] = 47
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    error_code: Annotated[Int16, versions("0+")] = 0
    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    topics: Annotated[list[OffsetDeleteResponseTopic], versions("0+")] = []
