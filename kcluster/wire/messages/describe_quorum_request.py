"""DescribeQuorum (55), the request: see `describe_quorum`, whose structs have the same names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int32, String, versions


class PartitionData(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0


class TopicData(Struct):
    topic_name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[PartitionData], versions("0+")] = []


class DescribeQuorumRequest(Message):
    KEY: ClassVar[int] = 55
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    topics: Annotated[list[TopicData], versions("0+")] = []
