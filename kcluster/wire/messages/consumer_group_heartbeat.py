"""ConsumerGroupHeartbeat (68): join, stay in and leave a group of the consumer protocol.

Versions 0-1, flexible from 0.

  1   subscribed_topic_regex, and members that make their ids themselves (KIP-1082)

A field that is null (or -1) did not change since the last heartbeat.

Sources: KIP-848, KIP-1082.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Int16, Int32, String, Uuid, versions


class TopicPartitions(Struct):
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    partitions: Annotated[list[Int32], versions("0+")] = []


class Assignment(Struct):
    topic_partitions: Annotated[list[TopicPartitions], versions("0+")] = []


class ConsumerGroupHeartbeatRequest(Message):
    KEY: ClassVar[int] = 68
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    group_id: Annotated[String, versions("0+")] = ""
    member_id: Annotated[String, versions("0+")] = ""
    member_epoch: Annotated[Int32, versions("0+")] = 0
    """0 joins, -1 leaves, -2 leaves the place of a static member free for its next start."""
    instance_id: Annotated[String | None, versions("0+", nullable="0+")] = None
    rack_id: Annotated[String | None, versions("0+", nullable="0+")] = None
    rebalance_timeout_ms: Annotated[Int32, versions("0+")] = -1
    subscribed_topic_names: Annotated[list[String] | None, versions("0+", nullable="0+")] = None
    subscribed_topic_regex: Annotated[String | None, versions("1+", nullable="1+")] = None
    server_assignor: Annotated[String | None, versions("0+", nullable="0+")] = None
    topic_partitions: Annotated[list[TopicPartitions] | None, versions("0+", nullable="0+")] = None
    """What the member owns."""


class ConsumerGroupHeartbeatResponse(Message):
    KEY: ClassVar[int] = 68
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = None
    member_id: Annotated[String | None, versions("0+", nullable="0+")] = None
    member_epoch: Annotated[Int32, versions("0+")] = 0
    heartbeat_interval_ms: Annotated[Int32, versions("0+")] = 0
    assignment: Annotated[Assignment | None, versions("0+", nullable="0+")] = None
    """All that the member has from now on; null when that did not change."""
