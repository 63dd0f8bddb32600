"""Metadata (3): the brokers, and the topics with their partitions, leaders and replicas.

Versions 0-13, flexible from 9.

Topics asked for: in v0 an empty list means all; from v1 null means all and an empty list none.

  1   controller_id, rack, is_internal
  4   allow_auto_topic_creation
  5   offline_replicas
  7   leader_epoch (KIP-320)
  8   authorized operations on request (KIP-430); those of the cluster left with 11
  10  topic ids in the response (KIP-516)
  12  topics may be asked for by id; then the name is null
  13  a top-level error code (KIP-1102: REBOOTSTRAP_REQUIRED)

Sources: KIP-4, KIP-320, KIP-430, KIP-516, KIP-1102.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bool, Int16, Int32, String, Uuid, versions


class MetadataRequestTopic(Struct):
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    name: Annotated[String | None, versions("0+", nullable="10+")] = ""


class MetadataRequest(Message):
    KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[str] = "0-13"
    FLEXIBLE: ClassVar[str] = "9+"

    topics: Annotated[list[MetadataRequestTopic] | None, versions("0+", nullable="1+")] = []
    allow_auto_topic_creation: Annotated[Bool, versions("4+")] = True
    include_cluster_authorized_operations: Annotated[Bool, versions("8-10")] = False
    include_topic_authorized_operations: Annotated[Bool, versions("8+")] = False


class MetadataResponseBroker(Struct):
    node_id: Annotated[Int32, versions("0+")] = 0
    host: Annotated[String, versions("0+")] = ""
    port: Annotated[Int32, versions("0+")] = 0
    rack: Annotated[String | None, versions("1+", nullable="1+")] = None


class MetadataResponsePartition(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    partition_index: Annotated[Int32, versions("0+")] = 0
    leader_id: Annotated[Int32, versions("0+")] = 0
    """-1 when there is none."""
    leader_epoch: Annotated[Int32, versions("7+")] = -1
    replica_nodes: Annotated[list[Int32], versions("0+")] = []
    isr_nodes: Annotated[list[Int32], versions("0+")] = []
    offline_replicas: Annotated[list[Int32], versions("5+")] = []


class MetadataResponseTopic(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    name: Annotated[String | None, versions("0+", nullable="12+")] = ""
    topic_id: Annotated[Uuid, versions("10+")] = ZERO_UUID
    is_internal: Annotated[Bool, versions("1+")] = False
    partitions: Annotated[list[MetadataResponsePartition], versions("0+")] = []
    topic_authorized_operations: Annotated[Int32, versions("8+")] = -2147483648
    """A bit field; the lowest number when not asked for."""


class MetadataResponse(Message):
    KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[str] = "0-13"
    FLEXIBLE: ClassVar[str] = "9+"

    throttle_time_ms: Annotated[Int32, versions("3+")] = 0
    brokers: Annotated[list[MetadataResponseBroker], versions("0+")] = []
    cluster_id: Annotated[String | None, versions("2+", nullable="2+")] = None
    controller_id: Annotated[Int32, versions("1+")] = -1
    """A live broker that takes CreateTopics and its like; -1 when there is none."""
    topics: Annotated[list[MetadataResponseTopic], versions("0+")] = []
    cluster_authorized_operations: Annotated[Int32, versions("8-10")] = -2147483648
    error_code: Annotated[Int16, versions("13+")] = 0
