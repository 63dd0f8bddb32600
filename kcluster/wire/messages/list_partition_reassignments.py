"""ListPartitionReassignments (46): which partitions are being moved to other replicas.

Version 0, flexible from 0.

Sources: KIP-455.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions


class ListPartitionReassignmentsTopics(Struct):
    name: Annotated[String, versions("0+")] = ""
    partition_indexes: Annotated[list[Int32], versions("0+")] = []


class ListPartitionReassignmentsRequest(Message):
    KEY: ClassVar[int] = 46
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    timeout_ms: Annotated[Int32, versions("0+")] = 60000
    topics: Annotated[
        list[ListPartitionReassignmentsTopics] | None, versions("0+", nullable="0+")
    ] = None


class OngoingPartitionReassignment(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    replicas: Annotated[list[Int32], versions("0+")] = []
    adding_replicas: Annotated[list[Int32], versions("0+")] = []
    removing_replicas: Annotated[list[Int32], versions("0+")] = []


class OngoingTopicReassignment(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[OngoingPartitionReassignment], versions("0+")] = []


class ListPartitionReassignmentsResponse(Message):
    KEY: ClassVar[int] = 46
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    topics: Annotated[list[OngoingTopicReassignment], versions("0+")] = []
