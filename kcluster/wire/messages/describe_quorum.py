"""DescribeQuorum (55): who replicates the cluster's metadata, and how far each is.

Versions 0-2, flexible from 0.

  1   times of the last fetch (KIP-836)
  2   directory ids, listeners of the nodes, error messages (KIP-853)

Sources: KIP-595, KIP-836, KIP-853.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.messages.describe_quorum_request import DescribeQuorumRequest
from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Int16, Int32, Int64, String, UInt16, Uuid, versions

__all__ = ["DescribeQuorumRequest", "DescribeQuorumResponse"]


class ReplicaState(Struct):
    replica_id: Annotated[Int32, versions("0+")] = 0
    replica_directory_id: Annotated[Uuid, versions("2+")] = ZERO_UUID
    log_end_offset: Annotated[Int64, versions("0+")] = 0
    last_fetch_timestamp: Annotated[Int64, versions("1+")] = -1
    last_caught_up_timestamp: Annotated[Int64, versions("1+")] = -1


class PartitionData(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("2+", nullable="2+")] = ""
    leader_id: Annotated[Int32, versions("0+")] = 0
    leader_epoch: Annotated[Int32, versions("0+")] = 0
    high_watermark: Annotated[Int64, versions("0+")] = 0
    current_voters: Annotated[list[ReplicaState], versions("0+")] = []
    observers: Annotated[list[ReplicaState], versions("0+")] = []


class TopicData(Struct):
    topic_name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[PartitionData], versions("0+")] = []


class Listener(Struct):
    name: Annotated[String, versions("2+")] = ""
    host: Annotated[String, versions("2+")] = ""
    port: Annotated[UInt16, versions("2+")] = 0


class Node(Struct):
    node_id: Annotated[Int32, versions("2+")] = 0
    listeners: Annotated[list[Listener], versions("2+")] = []


class DescribeQuorumResponse(Message):
    KEY: ClassVar[int] = 55
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("2+", nullable="2+")] = ""
    topics: Annotated[list[TopicData], versions("0+")] = []
    nodes: Annotated[list[Node], versions("2+")] = []
