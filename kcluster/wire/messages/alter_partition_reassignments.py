"""AlterPartitionReassignments (45): have partitions held by other replicas, or stop that.

Versions 0-1, flexible from 0.

  1   allow_replication_factor_change (KIP-860)

Sources: KIP-455, KIP-860.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int16, Int32, String, versions


class ReassignablePartition(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    replicas: Annotated[list[Int32] | None, versions("0+", nullable="0+")] = None
    """None: no reassignment any more."""


class ReassignableTopic(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[ReassignablePartition], versions("0+")] = []


class AlterPartitionReassignmentsRequest(Message):
    KEY: ClassVar[int] = 45
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    timeout_ms: Annotated[Int32, versions("0+")] = 60000
    allow_replication_factor_change: Annotated[Bool, versions("1+")] = True
    topics: Annotated[list[ReassignableTopic], versions("0+")] = []


class ReassignablePartitionResponse(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""


class ReassignableTopicResponse(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[ReassignablePartitionResponse], versions("0+")] = []


class AlterPartitionReassignmentsResponse(Message):
    KEY: ClassVar[int] = 45
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    allow_replication_factor_change: Annotated[Bool, versions("1+")] = True
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    responses: Annotated[list[ReassignableTopicResponse], versions("0+")] = []
