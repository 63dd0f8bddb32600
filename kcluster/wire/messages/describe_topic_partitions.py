"""DescribeTopicPartitions (75): partitions of topics with their eligible leader replicas, by pages.

Version 0, flexible.

Topics come sorted by name. A response that reached its limit of partitions says where to go on
in `next_cursor`.

Source: KIP-966.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bool, Int16, Int32, String, Uuid, versions


class TopicRequest(Struct):
    name: Annotated[String, versions("0+")] = ""


class Cursor(Struct):
    topic_name: Annotated[String, versions("0+")] = ""
    partition_index: Annotated[Int32, versions("0+")] = 0


class DescribeTopicPartitionsRequest(Message):
    KEY: ClassVar[int] = 75
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    topics: Annotated[list[TopicRequest], versions("0+")] = []
    """Empty for all."""
    response_partition_limit: Annotated[Int32, versions("0+")] = 2000
    cursor: Annotated[Cursor | None, versions("0+", nullable="0+")] = None


class DescribeTopicPartitionsResponsePartition(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    partition_index: Annotated[Int32, versions("0+")] = 0
    leader_id: Annotated[Int32, versions("0+")] = 0
    leader_epoch: Annotated[Int32, versions("0+")] = -1
    replica_nodes: Annotated[list[Int32], versions("0+")] = []
    isr_nodes: Annotated[list[Int32], versions("0+")] = []
    eligible_leader_replicas: Annotated[list[Int32] | None, versions("0+", nullable="0+")] = None
    last_known_elr: Annotated[list[Int32] | None, versions("0+", nullable="0+")] = None
    offline_replicas: Annotated[list[Int32], versions("0+")] = []


class DescribeTopicPartitionsResponseTopic(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    name: Annotated[String | None, versions("0+", nullable="0+")] = ""
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    is_internal: Annotated[Bool, versions("0+")] = False
    partitions: Annotated[list[DescribeTopicPartitionsResponsePartition], versions("0+")] = []
    topic_authorized_operations: Annotated[Int32, versions("0+")] = -2147483648


class DescribeTopicPartitionsResponse(Message):
    KEY: ClassVar[int] = 75
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    topics: Annotated[list[DescribeTopicPartitionsResponseTopic], versions("0+")] = []
    next_cursor: Annotated[Cursor | None, versions("0+", nullable="0+")] = None
