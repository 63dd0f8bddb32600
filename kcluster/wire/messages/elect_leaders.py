"""ElectLeaders (43): have partitions led by their preferred replica, or by any that lives.

Versions 0-2, flexible from 2.

  1   election_type: 0 preferred, 1 unclean (KIP-460)

Sources: KIP-183, KIP-460.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int8, Int16, Int32, String, versions


class TopicPartitions(Struct):
    topic: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[Int32], versions("0+")] = []


class ElectLeadersRequest(Message):
    KEY: ClassVar[int] = 43
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    election_type: Annotated[Int8, versions("1+")] = 0
    topic_partitions: Annotated[list[TopicPartitions] | None, versions("0+", nullable="0+")] = []
    timeout_ms: Annotated[Int32, versions("0+")] = 60000


class PartitionResult(Struct):
    partition_id: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""


class ReplicaElectionResult(Struct):
    topic: Annotated[String, versions("0+")] = ""
    partition_result: Annotated[list[PartitionResult], versions("0+")] = []


class ElectLeadersResponse(Message):
    KEY: ClassVar[int] = 43
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("1+")] = 0
    replica_election_results: Annotated[list[ReplicaElectionResult], versions("0+")] = []
